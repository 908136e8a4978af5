//! The fields every container may have (kur-reference 2.2).

use crate::diag::{Reported, Span};
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::graph::empty_inputs;
use crate::model::report::values::{out_of_range, wrong_type};
use crate::model::table::{Key, Range, Ty};
use crate::model::types::{Regularizer, Spanned};

const NAMES: Ty = Ty::AnyOf(&[Ty::Text, Ty::List(&Ty::Text)]);

/// Their keys.
pub(crate) const FIELDS: &[Key] = &[
    Key::new("name", Ty::Text, "name of the container"),
    Key::new("inputs", NAMES, "names of the layers it reads, the layer above by default"),
    Key::new(
        "sink",
        Ty::AnyOf(&[Ty::Bool, Ty::Word(&["yes", "true", "on", "no", "false", "off"])]),
        "make it an output",
    ),
    Key::new("freeze", Ty::AnyOf(&[Ty::Bool, Ty::Null]), "keep its weights as they are"),
    Key::new("regularizer", Ty::Map(REGULARIZER), "penalty on its kernels that is added to the loss"),
    Key::new("when", Ty::Any, "leave it out unless this is true"),
    Key::new("tag", NAMES, "name under which `tags` knows the last such container"),
    Key::new("oldest", NAMES, "name under which `oldest` knows the first such container"),
];

const REGULARIZER: &[Key] = &[
    Key::new("l1", Ty::Number(Range::NOT_NEGATIVE), "factor of the sum of sizes, 0 by default"),
    Key::new("l2", Ty::Number(Range::NOT_NEGATIVE), "factor of the sum of squares, 0 by default"),
];

/// Their values.
#[derive(Debug)]
pub(crate) struct Common {
    /// `name`.
    pub(crate) name: Option<Value>,
    /// `inputs`, and where the field stands.
    pub(crate) inputs: Option<Spanned<Vec<Spanned<String>>>>,
    /// `sink`.
    pub(crate) sink: bool,
    /// `freeze`; `None` inherits.
    pub(crate) freeze: Option<bool>,
    /// `regularizer`; `None` inherits.
    pub(crate) regularizer: Option<Regularizer>,
    /// `when`.
    pub(crate) when: bool,
    /// `tag`.
    pub(crate) tags: Vec<String>,
    /// `oldest`.
    pub(crate) oldest: Vec<String>,
}

/// Evaluates the common fields of an entry. A field that is wrong is reported and then treated as absent, so that the
/// layer itself is still checked.
pub(super) fn read(cx: &mut Cx<'_>, entry: &Value) -> Common {
    let get = |key: &str| entry.get(key).filter(|v| !v.is_null());
    let name = get("name").and_then(|v| name(cx, v).ok());
    let inputs = get("inputs").and_then(|v| inputs(cx, v).ok());
    let sink = get("sink").and_then(|v| sink(cx, v).ok());
    let freeze = get("freeze").and_then(|v| {
        let v = cx.deep(v).ok()?;
        if v.is_null() { None } else { convert::boolean(cx, &v, "`freeze`").ok() }
    });
    let regularizer = get("regularizer").and_then(|v| regularizer(cx, v).ok().flatten());
    let when = entry.get("when").and_then(|v| cx.deep(v).ok());
    let tags = get("tag").and_then(|v| texts(cx, v, "`tag`").ok());
    let oldest = get("oldest").and_then(|v| texts(cx, v, "`oldest`").ok());
    Common {
        name,
        inputs,
        sink: sink.unwrap_or(false),
        freeze,
        regularizer,
        when: when.is_none_or(|v| v.is_true()),
        tags: tags.unwrap_or_default(),
        oldest: oldest.unwrap_or_default(),
    }
}

/// `{l1: X, l2: Y}`.
fn regularizer(cx: &mut Cx<'_>, value: &Value) -> Result<Option<Regularizer>, Reported> {
    let value = cx.deep(value)?;
    if value.is_null() {
        return Ok(None);
    }
    let fields = Fields::open(cx, &value, "`regularizer`", REGULARIZER)?;
    let mut factor = |key: &str| {
        let read = |cx: &mut Cx<'_>, v: &Value, what: &str| convert::number_in(cx, v, what, Range::NOT_NEGATIVE);
        fields.read(cx, key, read).map(|x| x.unwrap_or(0.0))
    };
    let (l1, l2) = (factor("l1"), factor("l2"));
    Ok(Some(Regularizer { l1: l1?, l2: l2? }))
}

fn name(cx: &mut Cx<'_>, value: &Value) -> Result<Value, Reported> {
    let value = cx.eval(value)?;
    let text = convert::text(cx, &value, "`name`")?;
    Ok(Value { span: value.span, ..Value::text(&text, value.span) })
}

fn texts(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<Vec<String>, Reported> {
    let value = cx.deep(value)?;
    match value.as_list() {
        Some(items) => items.iter().map(|v| convert::text(cx, v, what)).collect(),
        None => Ok(vec![convert::text(cx, &value, what)?]),
    }
}

fn inputs(cx: &mut Cx<'_>, value: &Value) -> Result<Spanned<Vec<Spanned<String>>>, Reported> {
    let value = cx.deep(value)?;
    let mut one = |v: &Value| -> Result<Spanned<String>, Reported> {
        if matches!(v.kind, Kind::Map(_)) {
            return Err(cx.fail(wrong_type(v, "`inputs`", "the name of a layer, or a list of names")));
        }
        Ok(Spanned { value: convert::text(cx, v, "`inputs`")?, span: v.span })
    };
    let names = match value.as_list() {
        Some([]) => return Err(cx.fail(empty_inputs(&value))),
        Some(items) => items.iter().map(&mut one).collect::<Result<Vec<_>, _>>()?,
        None => vec![one(&value)?],
    };
    let span = names.iter().map(|n| n.span).reduce(join).unwrap_or(value.span);
    Ok(Spanned { value: names, span })
}

fn join(a: Span, b: Span) -> Span {
    if a.file == b.file { Span { file: a.file, start: a.start.min(b.start), end: a.end.max(b.end) } } else { a }
}

fn sink(cx: &mut Cx<'_>, value: &Value) -> Result<bool, Reported> {
    let value = cx.eval(value)?;
    match value.as_str().map(str::to_lowercase).as_deref() {
        Some("yes" | "true" | "on") => Ok(true),
        Some("no" | "false" | "off") => Ok(false),
        Some(_) => Err(cx.fail(out_of_range(&value, "`sink`", "yes or no"))),
        None => convert::boolean(cx, &value, "`sink`"),
    }
}
