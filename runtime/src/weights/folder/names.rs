//! Which tensor of a folder is which state of the program (kur-reference 8.2).
//!
//! States are named `LAYER/TENSOR` with the tensor names of Keras 2. A folder says by its names who wrote it: PyTorch's
//! layers all begin with `layer_`; Keras repeats the layer in the tensor's name, with `:0` behind it on TensorFlow and
//! without on Theano, whose convolutions flip their kernels.

use super::files::Tensor;
use crate::plan::{Program, StateSpec};
use crate::weights::in_weights;

/// Who wrote a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Keras 1 or 2 on TensorFlow.
    TensorFlow,
    /// Keras 1 or 2 on Theano.
    Theano,
    /// PyTorch.
    PyTorch,
}

/// Tensor names of Keras, and what Keras 2 calls them. A name of several words comes before its last word.
const KERAS: &[(&str, &str)] = &[
    ("recurrent_kernel", "recurrent_kernel"),
    ("moving_mean", "moving_mean"),
    ("moving_variance", "moving_variance"),
    ("running_mean", "moving_mean"),
    // It is a variance in spite of its name.
    ("running_std", "moving_variance"),
    ("embeddings", "embeddings"),
    ("kernel", "kernel"),
    ("bias", "bias"),
    ("gamma", "gamma"),
    ("beta", "beta"),
    ("W", "kernel"),
    ("b", "bias"),
];

/// Gates of Keras 1 in the order in which Keras 2 packs them.
const GATES: &[&[&str]] = &[&["z", "r", "h"], &["i", "f", "c", "o"]];

impl Dialect {
    /// The back end that wrote these tensors; `None` when there are none.
    pub(super) fn of(tensors: &[Tensor]) -> Option<Dialect> {
        if tensors.is_empty() {
            return None;
        }
        if tensors.iter().all(|t| t.layer.starts_with("layer_") && !t.name.starts_with(&t.layer)) {
            return Some(Dialect::PyTorch);
        }
        let suffixed = tensors.iter().any(|t| t.name.ends_with(":0"));
        Some(if suffixed { Dialect::TensorFlow } else { Dialect::Theano })
    }

    /// Its name in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Dialect::TensorFlow => "Keras with TensorFlow",
            Dialect::Theano => "Keras with Theano",
            Dialect::PyTorch => "PyTorch",
        }
    }
}

/// The layer and the tensor that a state is.
pub(super) fn split(state: &StateSpec) -> (&str, &str) {
    state.name.rsplit_once('/').unwrap_or((state.name.as_str(), ""))
}

/// Tensors that belong to no state of ours: PyTorch counts batches, and what `reuse` uses inside `parallel` is written
/// again there, under the names of its own layer.
pub(super) fn is_bookkeeping(tensor: &Tensor, program: &Program, dialect: Dialect) -> bool {
    let again = |s: &StateSpec| tensor.name.strip_prefix(split(s).0).is_some_and(|rest| rest.starts_with('_'));
    match dialect {
        Dialect::PyTorch => tensor.name == "num_batches_tracked",
        _ => inside_parallel(&tensor.layer).is_some() && program.state.iter().any(again),
    }
}

/// The tensors that make a state, in order; several where Keras 1 keeps the gates of a recurrent layer apart.
pub(super) fn parts(state: &StateSpec, tensors: &[Tensor], dialect: Dialect, lists: &[(String, String)]) -> Vec<usize> {
    let (layer, tensor) = split(state);
    if dialect == Dialect::PyTorch {
        let found = torch(layer, tensor).into_iter().find_map(|(layer, name)| {
            let layer = format!("layer_{}", plain_torch(&layer));
            tensors.iter().position(|t| t.layer == layer && t.name == name)
        });
        return found.into_iter().collect();
    }
    let renamed = lists.iter().find(|(ours, _)| ours == layer).map(|(_, theirs)| theirs.as_str());
    let own: Vec<usize> = (0..tensors.len())
        .filter(|i| match renamed {
            Some(name) => tensors[*i].layer == name,
            None => is_layer(&tensors[*i].layer, layer),
        })
        .collect();
    let one = |matches: &dyn Fn(&str) -> bool| own.iter().copied().find(|i| matches(&tensors[*i].name));
    if let Some(i) = one(&|name| keras(name, tensor)) {
        return vec![i];
    }
    let letter = match tensor {
        "kernel" => "W",
        "recurrent_kernel" => "U",
        "bias" => "b",
        _ => return Vec::new(),
    };
    for gates in GATES {
        let found: Vec<usize> =
            gates.iter().filter_map(|gate| one(&|name| plain(name).ends_with(&format!("_{letter}_{gate}")))).collect();
        if found.len() == gates.len() {
            return found;
        }
    }
    Vec::new()
}

/// Whether a layer of the folder is a layer of the program. Inside `parallel` the folder's name is
/// `PARALLEL_CHILD_i_j`.
fn is_layer(theirs: &str, ours: &str) -> bool {
    theirs == ours || inside_parallel(theirs).is_some_and(|n| n.strip_suffix(ours).is_some_and(|p| p.ends_with('_')))
}

/// `PARALLEL_CHILD` of `PARALLEL_CHILD_i_j`.
fn inside_parallel(layer: &str) -> Option<&str> {
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let (rest, j) = layer.rsplit_once('_')?;
    let (rest, i) = rest.rsplit_once('_')?;
    (number(i) && number(j)).then_some(rest)
}

/// A tensor's name without the `:0` of TensorFlow.
fn plain(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(n, _)| n)
}

/// Whether a tensor name of Keras means `ours`. The layer's name stands before it.
fn keras(name: &str, ours: &str) -> bool {
    let name = plain(name);
    let is = |word: &str| name == word || name.strip_suffix(word).is_some_and(|p| p.ends_with('_'));
    let Some((word, canonical)) = KERAS.iter().find(|(word, _)| is(word)) else { return false };
    *canonical == ours || (*word == "W" && ours == "embeddings")
}

/// A layer's name as PyTorch's module has it.
fn plain_torch(layer: &str) -> String {
    layer.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Where PyTorch may keep a tensor: layer and name. Highway layers have a part `_H` and a gate `_T`; both directions of
/// a recurrent layer lie in one.
fn torch(layer: &str, ours: &str) -> Vec<(String, String)> {
    let at = |layer: &str, names: &[&str]| -> Vec<(String, String)> {
        names.iter().map(|n| (layer.to_owned(), (*n).to_owned())).collect()
    };
    let recurrent = match ours {
        "kernel" => "weight_ih_l0",
        "recurrent_kernel" => "weight_hh_l0",
        "bias" => "bias_ih_l0",
        "recurrent_bias" => "bias_hh_l0",
        _ => "",
    };
    let mut all = match ours {
        "kernel" => [at(layer, &["weight", recurrent]), at(&format!("{layer}_H"), &["weight"])].concat(),
        "bias" => [at(layer, &["bias", recurrent]), at(&format!("{layer}_H"), &["bias"])].concat(),
        "gate_kernel" => at(&format!("{layer}_T"), &["weight"]),
        "gate_bias" => at(&format!("{layer}_T"), &["bias"]),
        "embeddings" | "gamma" => at(layer, &["weight"]),
        "beta" => at(layer, &["bias"]),
        "moving_mean" => at(layer, &["running_mean"]),
        "moving_variance" => at(layer, &["running_var"]),
        _ => at(layer, &[recurrent]),
    };
    if let Some(whole) = layer.strip_suffix("_fwd") {
        all.extend(at(whole, &[recurrent]));
    } else if let Some(whole) = layer.strip_suffix("_rev") {
        all.extend(at(whole, &[&format!("{recurrent}_reverse")]));
    }
    all
}

/// The layers of `dense: [a, b, …]`: all but the last have names of their own here (`NAME.0`), and names that Keras
/// counts through the process there (`dense_1`, `dense_2`). Both are in the order of the model.
pub(super) fn dense_lists(program: &Program, tensors: &[Tensor], dialect: Dialect) -> Vec<(String, String)> {
    if dialect == Dialect::PyTorch {
        return Vec::new();
    }
    let mut ours: Vec<&str> = Vec::new();
    for state in program.state.iter().filter(|s| in_weights(s)) {
        let (layer, _) = split(state);
        if !ours.contains(&layer) {
            ours.push(layer);
        }
    }
    let known = |theirs: &str| ours.iter().any(|o| is_layer(theirs, o));
    let mut counted: Vec<(u64, &str)> = Vec::new();
    for t in tensors.iter().filter(|t| !known(&t.layer)) {
        let number = t.layer.strip_prefix("dense_").and_then(|n| n.parse().ok());
        if let Some(n) = number
            && !counted.iter().any(|(m, _)| *m == n)
        {
            counted.push((n, &t.layer));
        }
    }
    counted.sort_unstable();
    let part = |layer: &&&str| {
        layer.rsplit_once('.').is_some_and(|(whole, n)| n.bytes().all(|b| b.is_ascii_digit()) && ours.contains(&whole))
    };
    let lists = ours.iter().filter(part);
    lists.zip(counted).map(|(ours, (_, theirs))| ((*ours).to_owned(), theirs.to_owned())).collect()
}
