//! The `mnist` supplier (kur-reference 6.2): two IDX files.

use kur_runtime::spec::{FileSpec, SupplierSpec};

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::table::{Key, Ty};

use super::data::file;

/// Keys of a file that may have to be fetched (kur-reference 6.5).
pub(super) const PACKAGE: &[Key] = &[
    Key::new("path", Ty::Path, "the file"),
    Key::new("url", Ty::Text, "where it can be fetched from"),
    Key::new("checksum", Ty::Text, "SHA-256 of the file"),
];

const FILE: Ty = Ty::AnyOf(&[Ty::Path, Ty::Map(PACKAGE)]);

const KEYS: &[Key] = &[
    Key::new("images", FILE, "IDX file of the images").required(),
    Key::new("labels", FILE, "IDX file of the labels").required(),
];

/// A mapping, or labels and images in a list.
pub(super) const FORM: Ty = Ty::AnyOf(&[Ty::List(&FILE), Ty::Map(KEYS)]);

/// Reads `mnist: {images: …, labels: …}`; in a list the labels come first.
pub(super) fn read(cx: &mut Cx<'_>, arg: &Value) -> Result<SupplierSpec, Reported> {
    if let Some([labels, images]) = arg.as_list() {
        let labels = part(cx, labels, "`labels` of `mnist`");
        let images = part(cx, images, "`images` of `mnist`");
        return Ok(SupplierSpec::Mnist { images: images?, labels: labels? });
    }
    let fields = Fields::open(cx, arg, "`mnist`", KEYS)?;
    let images = fields.need(cx, "images", "images: FILE").and_then(|v| part(cx, v, "`images` of `mnist`"));
    let labels = fields.need(cx, "labels", "labels: FILE").and_then(|v| part(cx, v, "`labels` of `mnist`"));
    Ok(SupplierSpec::Mnist { images: images?, labels: labels? })
}

fn part(cx: &mut Cx<'_>, value: &Value, what: &str) -> Result<FileSpec, Reported> {
    if !matches!(value.kind, Kind::Map(_)) {
        return Ok(FileSpec { path: convert::path(cx, value, what)?, checksum: None });
    }
    let fields = Fields::open(cx, value, what, PACKAGE)?;
    file(cx, &fields)
}
