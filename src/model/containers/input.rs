//! `input` and `output` (kur-reference 3.1, 3.17).

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::wrong_type;
use crate::model::table::{Key, Ty};
use crate::model::types::{LayerKind, Need, Spanned};

use super::Parsed;

/// Types of values. Everything is computed in the first one.
const DTYPES: &[&str] = &[
    "float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
];

const SHAPE: Ty = Ty::AnyOf(&[Ty::Whole(1), Ty::List(&Ty::AnyOf(&[Ty::Whole(1), Ty::Null]))]);

const KEYS: &[Key] = &[
    Key::new("shape", SHAPE, "sizes of one sample; null is a variable size"),
    Key::new("type", Ty::Word(DTYPES), "type of the values, float32 by default"),
    Key::new("name", Ty::Text, "name of the data"),
];

const OUTPUT_KEYS: &[Key] = &[Key::new("name", Ty::Text, "name of the output")];

/// `input: NAME` or a mapping.
pub(super) const FORM: Ty = Ty::AnyOf(&[Ty::Null, Ty::Text, Ty::Map(KEYS)]);

/// `output: NAME` or a mapping.
pub(super) const OUTPUT_FORM: Ty = Ty::AnyOf(&[Ty::Null, Ty::Text, Ty::Map(OUTPUT_KEYS)]);

/// `input: NAME` or `input: {shape: S}`.
pub(super) fn input(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    if !matches!(arg.kind, Kind::Map(_)) {
        let name = short_name(cx, arg, "`input`")?;
        return Ok(Parsed { kind: LayerKind::Input { shape: None, dtype: None }, name });
    }
    let fields = Fields::open(cx, arg, "`input`", KEYS)?;
    let dtype = fields.read(cx, "type", |cx, v, what| convert::word(cx, v, what, DTYPES));
    let shape = fields.read(cx, "shape", |cx, v, what| Ok(Spanned { value: shape(cx, v, what)?, span: v.span }));
    let dtype = dtype?;
    if let (Some(v), Some(index)) = (fields.get("type"), dtype)
        && index != 0
    {
        cx.unbuilt(Need::Build, v, &format!("an input of type `{}`", DTYPES[index]));
    }
    let dtype = dtype.map(|i| DTYPES[i].to_owned());
    Ok(Parsed { kind: LayerKind::Input { shape: shape?, dtype }, name: fields.get("name").cloned() })
}

/// The shape without the batch. An empty one is that of a scalar column, which becomes a vector of one.
fn shape(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Vec<Option<u64>>, Reported> {
    let items = match &value.kind {
        Kind::List(items) | Kind::Tuple(items) => items,
        Kind::Str(text, _) => {
            let d = wrong_type(value, what, "a list of sizes, or one size");
            return Err(cx.fail(d.help(format!("for example `shape: {}`", guess(text)))));
        }
        _ => return Ok(vec![Some(convert::whole(cx, value, what, 1)?)]),
    };
    if items.is_empty() {
        return Ok(vec![Some(1)]);
    }
    let one =
        |cx: &mut Cx<'_>, v: &Value| if v.is_null() { Ok(None) } else { convert::whole(cx, v, what, 1).map(Some) };
    let all: Vec<_> = items.iter().map(|v| one(cx, v)).collect();
    all.into_iter().collect()
}

/// The numbers in a text, as a list: `28x28` is `[28, 28]`.
fn guess(text: &str) -> String {
    let numbers: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty()).collect();
    let words = text.chars().any(|c| c.is_alphabetic() && !matches!(c, 'x' | 'X'));
    if words || numbers.is_empty() || numbers.len() > 4 {
        "[28, 28, 1]".to_owned()
    } else {
        format!("[{}]", numbers.join(", "))
    }
}

/// `output: NAME`, `output: {name: NAME}` or `output:` with a `name` beside it.
pub(super) fn output(cx: &mut Cx<'_>, arg: &Value) -> Result<Parsed, Reported> {
    let name = match arg.kind {
        Kind::Map(_) => Fields::open(cx, arg, "`output`", OUTPUT_KEYS)?.get("name").cloned(),
        _ => short_name(cx, arg, "`output`")?,
    };
    Ok(Parsed { kind: LayerKind::Output, name })
}

fn short_name(cx: &mut Cx<'_>, arg: &Value, what: &str) -> Result<Option<Value>, Reported> {
    if arg.is_null() {
        return Ok(None);
    }
    match arg.kind {
        Kind::List(_) | Kind::Tuple(_) => Err(cx.fail(wrong_type(arg, what, "a name"))),
        _ => convert::text(cx, arg, what).map(|text| Some(Value::text(&text, arg.span))),
    }
}
