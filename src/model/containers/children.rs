//! Containers with a list of entries inside: `for`, `for_each`, `parallel` (kur-reference 3.16 and 4). Their bodies
//! are evaluated later, with their own names in scope.

use crate::diag::Reported;
use crate::frontend::Value;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::out_of_range;
use crate::model::table::{Key, Ty};

const FOR_KEYS: &[Key] = &[
    Key::new("range", Ty::Whole(0), "how often").required(),
    Key::new("with_index", Ty::Text, "name of the index, `index` by default"),
    Key::new("iterate", Ty::Layers, "the body").required(),
];

const FOR_EACH_KEYS: &[Key] = &[
    Key::new("items", Ty::AnyOf(&[Ty::List(&Ty::Any), Ty::Dict(&Ty::Any)]), "the items; keys of a mapping").required(),
    Key::new("loop_var", Ty::Text, "name of the item, `item` by default"),
    Key::new("iterate", Ty::Layers, "the body").required(),
];

const PARALLEL_KEYS: &[Key] = &[Key::new("apply", Ty::Layers, "the layers").required()];

/// A mapping.
pub(super) const FOR: Ty = Ty::Map(FOR_KEYS);

/// A mapping.
pub(super) const FOR_EACH: Ty = Ty::Map(FOR_EACH_KEYS);

/// A mapping.
pub(super) const PARALLEL: Ty = Ty::Map(PARALLEL_KEYS);

/// A loop whose body is still as written.
pub(super) struct Loop<'v> {
    /// Name of the variable.
    pub(super) variable: String,
    /// Its values, one for each round.
    pub(super) items: Items,
    /// The body.
    pub(super) body: &'v [Value],
}

/// The values of a loop variable.
pub(super) enum Items {
    /// 0 up to this, not included.
    Range(u64),
    /// These.
    List(Vec<Value>),
}

/// Reads `for: {range: N, with_index: VAR, iterate: […]}`.
pub(super) fn for_loop<'v>(cx: &mut Cx<'_>, arg: &'v Value) -> Result<Loop<'v>, Reported> {
    let fields = Fields::open(cx, arg, "`for`", FOR_KEYS)?;
    let range = fields.need(cx, "range", "range: 3").and_then(|v| {
        let v = cx.deep(v)?;
        convert::whole(cx, &v, &fields.what("range"), 0)
    });
    let variable = variable(cx, &fields, "with_index", "index");
    let body = body(cx, &fields, "iterate");
    Ok(Loop { variable: variable?, items: Items::Range(range?), body: body? })
}

/// Reads `for_each: {items: […], loop_var: VAR, iterate: […]}`.
pub(super) fn for_each<'v>(cx: &mut Cx<'_>, arg: &'v Value) -> Result<Loop<'v>, Reported> {
    let fields = Fields::open(cx, arg, "`for_each`", FOR_EACH_KEYS)?;
    let items = fields.need(cx, "items", "items: [64, 32]").and_then(|v| {
        let v = cx.deep(v)?;
        match v.as_map() {
            Some(entries) => Ok(entries.iter().map(|e| e.key.clone()).collect()),
            None => convert::list(cx, &v, &fields.what("items"), "a list").map(<[Value]>::to_vec),
        }
    });
    let variable = variable(cx, &fields, "loop_var", "item");
    let body = body(cx, &fields, "iterate");
    Ok(Loop { variable: variable?, items: Items::List(items?), body: body? })
}

/// Reads `parallel: {apply: […]}`.
pub(super) fn parallel<'v>(cx: &mut Cx<'_>, arg: &'v Value) -> Result<&'v [Value], Reported> {
    let fields = Fields::open(cx, arg, "`parallel`", PARALLEL_KEYS)?;
    body(cx, &fields, "apply")
}

fn variable(cx: &mut Cx<'_>, fields: &Fields<'_>, key: &str, default: &str) -> Result<String, Reported> {
    let Some(v) = fields.get(key) else { return Ok(default.to_owned()) };
    let v = cx.eval(v)?;
    let name = convert::text(cx, &v, &fields.what(key))?;
    let word = name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_numeric());
    if word {
        return Ok(name);
    }
    let d = out_of_range(&v, &fields.what(key), "a name that templates can use");
    Err(cx.fail(d.help(format!("use letters, digits and `_`, a letter first: `{key}: {default}`"))))
}

fn body<'v>(cx: &mut Cx<'_>, fields: &Fields<'v>, key: &str) -> Result<&'v [Value], Reported> {
    let body = fields.need(cx, key, &format!("{key}: [dense: 10]"))?;
    convert::list(cx, body, &fields.what(key), "a list of layers")
}
