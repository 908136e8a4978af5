//! `provider` (kur-reference 6.6).

use kur_runtime::spec::ProviderSpec;

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::keys::not_yet_supported;

const KEYS: &[&str] = &["name", "batch_size", "num_batches", "randomize", "force_batch_size"];
const LATER: &[&str] = &[
    "sortagrad",
    "sort_by",
    "shuffle_after",
    "reverse",
    "neighborhood_sort",
    "neighborhood_size",
    "neighborhood_growth",
];

/// Reads the `provider` key of a section.
pub(super) fn read(cx: &mut Cx<'_>, section: &Fields<'_>) -> Result<ProviderSpec, Reported> {
    let default = ProviderSpec::default();
    let Some(value) = section.get("provider") else { return Ok(default) };
    let fields = Fields::open(cx, value, section.what("provider"), KEYS, LATER)?;
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
            Err(cx.fail(not_yet_supported(value, "shuffling a part of the data (a number in `randomize`)")))
        }
        _ => convert::boolean(cx, value, what),
    }
}
