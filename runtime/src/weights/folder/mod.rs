//! Kur's weight folders: one IDX file per tensor, named `LAYER+TENSOR.kur` (kur-reference 8.2).
//!
//! Every back end of Kur names and lays out tensors in its own way. `files` reads the folder, `names` finds out
//! which back end wrote it and which tensor is which, `layout` turns values into the program's layout: that of
//! Keras 2 on TensorFlow, kernels `(k…, in, out)`. Folders are read, never written.

mod files;
mod layout;
mod names;

use std::path::Path;

use self::files::Tensor;
use self::names::Dialect;
use super::{DIFFERENCES, Loaded, Meta, in_weights};
use crate::error::{Error, Exit, Place, Result, did_you_mean, name_list};
use crate::plan::{Program, StateSpec};

/// Reads a folder and checks that it has exactly the weights of the program.
///
/// # Errors
/// `load-weights`, `weight-folder` (no tensor inside), `weights-damaged`, `other-model` (naming the first differences).
pub fn load(path: &Path, program: &Program) -> Result<Loaded<Meta>> {
    let shown = path.display().to_string();
    let tensors = files::read(path)?;
    let Some(dialect) = Dialect::of(&tensors) else {
        return Err(Error::new(Exit::Run, "weight-folder", format!("the folder `{shown}` holds no weights of Kur"))
            .at(Place::file(&shown))
            .help("Kur saves weights as a folder of files `LAYER+TENSOR.kur`; kurc saves them as one file")
            .help("name the folder that has these files directly inside, or a file"));
    };
    let mut used = vec![false; tensors.len()];
    let mut found = Vec::new();
    let mut differences = Vec::new();
    let lists = names::dense_lists(program, &tensors, dialect);
    for (index, state) in program.state.iter().enumerate().filter(|(_, s)| in_weights(s)) {
        let parts = names::parts(state, &tensors, dialect, &lists);
        if parts.is_empty() {
            differences.push(missing(state, &tensors));
            continue;
        }
        for part in &parts {
            used[*part] = true;
        }
        let parts: Vec<&Tensor> = parts.iter().map(|i| &tensors[*i]).collect();
        match layout::convert(state, &parts, dialect) {
            Ok(values) => {
                if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
                    let message = format!("`{}` holds the value {bad}", parts[0].path);
                    return Err(Error::new(Exit::Run, "weights-damaged", message)
                        .at(Place::file(&parts[0].path))
                        .help("the training that wrote it had diverged"));
                }
                found.push((index, values));
            }
            Err(text) => differences.push(text),
        }
    }
    let mut extra: Vec<String> = tensors
        .iter()
        .zip(&used)
        .filter(|(t, used)| !**used && !names::is_bookkeeping(t, program, dialect))
        .map(|(t, _)| format!("`{}` is not in the model", t.file()))
        .collect();
    extra.sort();
    differences.extend(extra);
    if differences.is_empty() {
        return Ok(Loaded { meta: None, tensors: found });
    }
    let more = differences.len().saturating_sub(DIFFERENCES);
    differences.truncate(DIFFERENCES);
    if more > 0 {
        differences.push(format!("and {more} more"));
    }
    let error = Error::new(Exit::Run, "other-model", format!("`{shown}` holds the weights of another model"))
        .at(Place::file(&shown))
        .help(differences.join("\n"))
        .help(format!("it was written by Kur on {}, with the layers {}", dialect.name(), layers(&tensors)));
    let other_cell = dialect == Dialect::PyTorch
        && tensors.iter().zip(&used).any(|(t, used)| !used && t.name.starts_with("bias_hh_l0"));
    Err(if other_cell {
        error.help("PyTorch's recurrent cells are computed in another way: give the layer `cell: torch`")
    } else {
        error
    })
}

fn missing(state: &StateSpec, tensors: &[Tensor]) -> String {
    let (layer, _) = names::split(state);
    let near = did_you_mean(layer, tensors.iter().map(|t| t.layer.as_str()));
    let near = near.filter(|n| *n != layer).map_or_else(String::new, |n| format!("; is it the layer `{n}` there?"));
    format!("`{}` is missing in the folder{near}", state.name)
}

fn layers(tensors: &[Tensor]) -> String {
    let mut all: Vec<&str> = Vec::new();
    for t in tensors {
        if !all.contains(&t.layer.as_str()) {
            all.push(&t.layer);
        }
    }
    name_list(all, 6)
}

#[cfg(test)]
mod tests;
