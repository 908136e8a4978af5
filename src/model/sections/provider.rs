//! `provider` (kur-reference 6.6).

use kur_runtime::spec::ProviderSpec;

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::values::two_orders;
use crate::model::table::{Key, Range, Ty};
use crate::model::types::Need;

/// Keys of `provider`.
pub(super) const KEYS: &[Key] = &[
    Key::new("name", Ty::Word(&["batch_provider"]), "the only provider there is"),
    Key::new("batch_size", Ty::AnyOf(&[Ty::Whole(0), Ty::Null]), "samples per batch, 32 by default"),
    Key::new("num_batches", Ty::AnyOf(&[Ty::Whole(1), Ty::Null]), "end an epoch after so many batches"),
    Key::new("randomize", Ty::AnyOf(&[Ty::Bool, Ty::Whole(0)]), "shuffle each epoch, or so many samples of it"),
    Key::new("force_batch_size", Ty::Bool, "leave out a short last batch"),
    Key::new("sortagrad", Ty::Text, "first epoch sorted by this source").unbuilt(Need::Build),
    Key::new("sort_by", Ty::Text, "sort by this source while not shuffling").unbuilt(Need::Build),
    Key::new("shuffle_after", Ty::Whole(0), "epochs before shuffling starts").unbuilt(Need::Build),
    Key::new("reverse", Ty::Bool, "sort the other way").unbuilt(Need::Build),
    Key::new("neighborhood_sort", Ty::Text, "batches of near values of this source").unbuilt(Need::Build),
    Key::new("neighborhood_size", Ty::Number(Range::POSITIVE), "reach of a neighbourhood").unbuilt(Need::Build),
    Key::new("neighborhood_growth", Ty::Number(Range::POSITIVE), "growth of a neighbourhood").unbuilt(Need::Build),
];

/// Reads the `provider` key of a section.
pub(super) fn read(cx: &mut Cx<'_>, section: &Fields<'_>) -> Result<ProviderSpec, Reported> {
    let default = ProviderSpec::default();
    let Some(value) = section.get("provider") else { return Ok(default) };
    let fields = Fields::open(cx, value, section.what("provider"), KEYS)?;
    for key in ["sort_by", "shuffle_after"] {
        if let (Some(_), Some(v)) = (fields.get("sortagrad"), fields.get(key)) {
            cx.push(two_orders(v, key));
        }
    }
    let name = fields.read(cx, "name", |cx, v, what| convert::word(cx, v, what, &["batch_provider"]));
    let batch_size = fields.read(cx, "batch_size", |cx, v, what| convert::whole(cx, v, what, 0));
    let num_batches = fields.read(cx, "num_batches", |cx, v, what| convert::whole(cx, v, what, 1));
    let randomize = fields.read(cx, "randomize", randomize);
    let force = fields.read(cx, "force_batch_size", convert::boolean);
    name?;
    Ok(ProviderSpec {
        // 0 means the default in Kur.
        batch_size: batch_size?.filter(|n| *n > 0).unwrap_or(default.batch_size),
        num_batches: num_batches?,
        randomize: randomize?.unwrap_or(default.randomize),
        force_batch_size: force?.unwrap_or(default.force_batch_size),
    })
}

fn randomize(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<bool, Reported> {
    match value.kind {
        Kind::Int(0) => Ok(false),
        Kind::Int(_) => {
            convert::whole(cx, value, what, 0)?;
            cx.unbuilt(Need::Build, value, "shuffling a part of the data (a number in `randomize`)");
            Ok(true)
        }
        _ => convert::boolean(cx, value, what),
    }
}
