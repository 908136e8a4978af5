//! `activation` (kur-reference 3.4).

use crate::diag::Reported;
use crate::frontend::Value;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::table::Ty;
use crate::model::types::{Activation, LayerKind};

use super::Parsed;

/// The words, in the order of [`MEANING`].
pub(crate) const WORDS: &[&str] = &[
    "relu",
    "softmax",
    "sigmoid",
    "tanh",
    "linear",
    "none",
    "hard_sigmoid",
    "elu",
    "selu",
    "softplus",
    "softsign",
    "leaky_relu",
    "gelu",
    "silu",
    "mish",
    "prelu",
];

const MEANING: [Activation; 16] = [
    Activation::Relu,
    Activation::Softmax,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Linear,
    Activation::Linear,
    Activation::HardSigmoid,
    Activation::Elu,
    Activation::Selu,
    Activation::Softplus,
    Activation::Softsign,
    Activation::LeakyRelu,
    Activation::Gelu,
    Activation::Silu,
    Activation::Mish,
    Activation::Prelu,
];

/// `activation: NAME`; null is the identity.
pub(super) const FORM: Ty = Ty::AnyOf(&[Ty::Null, Ty::Word(WORDS)]);

/// Reads `activation`.
pub(super) fn activation(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    Ok(LayerKind::Activation(function(cx, arg, "`activation`")?).into())
}

/// An activation by its name.
pub(super) fn function(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Activation, Reported> {
    if value.is_null() {
        return Ok(Activation::Linear);
    }
    convert::word(cx, value, what, WORDS).map(|index| MEANING[index])
}

/// The meaning of a word, without regard to case.
pub(super) fn meaning(word: &str) -> Option<Activation> {
    WORDS.iter().position(|w| w.eq_ignore_ascii_case(word)).map(|index| MEANING[index])
}
