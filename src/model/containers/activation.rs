//! `activation` (kur-reference 3.4).

use crate::diag::Reported;
use crate::frontend::Value;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::types::{Activation, LayerKind};

use super::Parsed;

/// The words and what they mean.
const ACTIVATIONS: &[(&str, Activation)] = &[
    ("relu", Activation::Relu),
    ("softmax", Activation::Softmax),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
    ("linear", Activation::Linear),
    ("none", Activation::Linear),
    ("hard_sigmoid", Activation::HardSigmoid),
    ("elu", Activation::Elu),
    ("selu", Activation::Selu),
    ("softplus", Activation::Softplus),
    ("softsign", Activation::Softsign),
];

/// `activation: NAME`; null is the identity.
pub(super) fn activation(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if arg.is_null() {
        return Ok(LayerKind::Activation(Activation::Linear).into());
    }
    let words: Vec<&str> = ACTIVATIONS.iter().map(|(w, _)| *w).collect();
    let index = convert::word(cx, arg, "`activation`", &words)?;
    Ok(LayerKind::Activation(ACTIVATIONS[index].1).into())
}
