//! Outputs that no loss trains, and data that measures nothing.

use kur_runtime::spec::{SectionSpec, SupplierSpec};

use crate::model::cx::Cx;
use crate::model::report::lint::{same_data, untrained_output};
use crate::model::types::{Kurfile, Layer, LayerId, LayerKind};

/// Warns of outputs and sections.
pub(super) fn check(cx: &mut Cx<'_>, kurfile: &Kurfile) {
    untrained(cx, kurfile);
    let Some(train) = &kurfile.train else { return };
    for (name, section) in [("validate", &kurfile.validate), ("test", &kurfile.test)] {
        if let Some(section) = section
            && same(&section.value, &train.section)
        {
            cx.push(same_data(name, section.span, train.span));
        }
    }
}

/// Whether two sections read the same data. What cannot be read yet is not known well enough to tell.
fn same(a: &SectionSpec, b: &SectionSpec) -> bool {
    let known = |s: &SupplierSpec| !matches!(s, SupplierSpec::Unbuilt { .. });
    !a.data.is_empty() && a.data == b.data && a.data.iter().all(known)
}

/// An output without a loss is fine as long as all weights behind it are trained for another one.
fn untrained(cx: &mut Cx<'_>, kurfile: &Kurfile) {
    if kurfile.losses.is_empty() {
        return;
    }
    let mut trained = vec![false; kurfile.layers.len()];
    for loss in &kurfile.losses {
        if let Some(output) = kurfile.outputs.get(loss.output) {
            set(&mut trained, output.layer);
        }
    }
    // Every layer follows those it reads, so one way back is enough.
    for (i, layer) in kurfile.layers.iter().enumerate().rev() {
        if trained[i] {
            layer.inputs.iter().for_each(|input| set(&mut trained, *input));
        }
    }
    // The first layer at or before each one whose weights are never trained.
    let mut idle: Vec<Option<usize>> = Vec::with_capacity(kurfile.layers.len());
    for (i, layer) in kurfile.layers.iter().enumerate() {
        let before = || layer.inputs.iter().find_map(|input| idle.get(input.0 as usize).copied().flatten());
        idle.push(match trained[i] {
            true => None,
            false => before().or_else(|| has_weights(layer).then_some(i)),
        });
    }
    for output in &kurfile.outputs {
        let first = idle.get(output.layer.0 as usize).copied().flatten();
        if let Some(layer) = first.and_then(|i| kurfile.layers.get(i)) {
            cx.push(untrained_output(&output.name, output.span, layer.span));
        }
    }
}

fn set(marks: &mut [bool], layer: LayerId) {
    if let Some(mark) = marks.get_mut(layer.0 as usize) {
        *mark = true;
    }
}

/// Whether a layer has weights of its own that training would change.
fn has_weights(layer: &Layer) -> bool {
    !layer.freeze
        && match &layer.kind {
            LayerKind::Dense { .. }
            | LayerKind::Convolution { .. }
            | LayerKind::BatchNormalization { .. }
            | LayerKind::Recurrent(_)
            | LayerKind::Embedding { .. } => true,
            LayerKind::Parallel { apply } => apply.iter().any(has_weights),
            _ => false,
        }
}
