//! Numpy's element types, raw arrays, and the header of `.npy` files (numpy's format description, versions 1 to 3).

use super::Trouble;
use super::value::Value;

/// Most axes that numpy arrays have.
pub(super) const MAX_RANK: usize = 64;

/// What the elements of an array are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dtype {
    /// Kind letter of numpy: `f`, `i`, `u`, `b`, or `O` for Python objects.
    pub(super) kind: char,
    /// Bytes of one element.
    pub(super) size: usize,
    /// Whether elements are most significant byte first.
    pub(super) big: bool,
    /// Why elements of this type cannot be numbers: the type as numpy writes it.
    pub(super) unusable: Option<String>,
}

impl Dtype {
    /// Reads a type as numpy writes it: `<f4`, `f4`, `|b1`, `O`. Every type parses; those that hold no numbers are
    /// refused when their array is used.
    pub(super) fn parse(text: &str) -> Dtype {
        let (order, rest) = match text.as_bytes().first() {
            Some(b'<' | b'=' | b'|') => ('<', text.get(1..).unwrap_or_default()),
            Some(b'>' | b'!') => ('>', text.get(1..).unwrap_or_default()),
            _ => ('<', text),
        };
        let mut chars = rest.chars();
        let kind = chars.next().unwrap_or('V');
        let digits = chars.as_str();
        let size = match (kind, rest) {
            (_, "?") => Some(1),
            ('O', _) => Some(8),
            _ => digits.parse().ok(),
        };
        let kind = if rest == "?" { 'b' } else { kind };
        let known = matches!((kind, size), ('f', Some(2 | 4 | 8)) | ('i' | 'u', Some(1 | 2 | 4 | 8)) | ('b', Some(1)));
        Dtype {
            kind,
            size: size.unwrap_or(0),
            big: order == '>',
            unusable: (!known && kind != 'O').then(|| text.to_owned()),
        }
    }

    /// Whether elements are Python objects.
    pub(super) fn is_object(&self) -> bool {
        self.kind == 'O'
    }

    /// How messages name it.
    pub(super) fn name(&self) -> String {
        match &self.unusable {
            Some(text) => text.clone(),
            None if self.is_object() => "object".to_owned(),
            None => format!("{}{}", self.kind, self.size),
        }
    }

    /// Appends elements as f32. Whole numbers beyond 2²⁴ and doubles are rounded to the nearest f32.
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "tensors are f32")]
    pub(super) fn decode(&self, bytes: &[u8], out: &mut Vec<f32>) {
        macro_rules! each {
            ($t:ty, $to:expr) => {{
                const N: usize = size_of::<$t>();
                let (whole, _) = bytes.as_chunks::<N>();
                if self.big {
                    out.extend(whole.iter().map(|b| $to(<$t>::from_be_bytes(*b))));
                } else {
                    out.extend(whole.iter().map(|b| $to(<$t>::from_le_bytes(*b))));
                }
            }};
        }
        match (self.kind, self.size) {
            ('f', 2) => each!(u16, half),
            ('f', 4) => each!(f32, |x| x),
            ('f', 8) => each!(f64, |x| x as f32),
            ('i', 1) => each!(i8, f32::from),
            ('i', 2) => each!(i16, f32::from),
            ('i', 4) => each!(i32, |x| x as f32),
            ('i', 8) => each!(i64, |x| x as f32),
            ('u', 1) => each!(u8, f32::from),
            ('u', 2) => each!(u16, f32::from),
            ('u', 4) => each!(u32, |x| x as f32),
            ('u', 8) => each!(u64, |x| x as f32),
            ('b', 1) => out.extend(bytes.iter().map(|b| f32::from(u8::from(*b != 0)))),
            _ => {}
        }
    }
}

/// An IEEE 754 half-precision number.
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10 & 0x1f);
    let fraction = u32::from(bits & 0x3ff);
    match exponent {
        // 2⁻²⁴ is the unit of subnormal halves; the product is exact.
        0 => f32::from_bits(sign | 1.0f32.to_bits()) * (fraction as f32) * f32::from_bits((127 - 24) << 23),
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13),
    }
}

/// An array as its file has it.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    /// Type of the elements.
    pub(super) dtype: Dtype,
    /// Its axes.
    pub(super) shape: Vec<u64>,
    /// Whether the first axis runs fastest.
    pub(super) fortran: bool,
    /// Bytes, or the list of objects.
    pub(super) data: Value,
}

/// Number of elements of a shape, if it can be counted.
pub(super) fn elements(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |a, b| a.checked_mul(*b))
}

/// Decodes raw elements into row-major f32.
pub(super) fn decode(dtype: &Dtype, shape: &[u64], fortran: bool, bytes: &[u8]) -> Result<Vec<f32>, Trouble> {
    if let Some(text) = &dtype.unusable {
        return Err(Trouble::values(format!("holds elements of the type `{text}`, which are no numbers"))
            .help("store floats, integers or booleans, for example with `array.astype('float32')`"));
    }
    let expected = elements(shape).and_then(|n| n.checked_mul(dtype.size as u64));
    if expected != Some(bytes.len() as u64) {
        return Err(Trouble::format(format!(
            "has {} bytes where its shape {} of {} takes {}",
            bytes.len(),
            shape_text(shape),
            dtype.name(),
            expected.map_or_else(|| "more than there are".to_owned(), |n| n.to_string())
        )));
    }
    let mut values = Vec::with_capacity(bytes.len() / dtype.size.max(1));
    dtype.decode(bytes, &mut values);
    if fortran && shape.len() > 1 {
        values = row_major(&values, shape);
    }
    Ok(values)
}

/// `20x6`.
pub(super) fn shape_text(shape: &[u64]) -> String {
    if shape.is_empty() {
        return "()".to_owned();
    }
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join("x")
}

/// Reorders elements whose first axis runs fastest.
fn row_major(values: &[f32], shape: &[u64]) -> Vec<f32> {
    let dims: Vec<usize> = shape.iter().map(|d| usize::try_from(*d).unwrap_or(usize::MAX)).collect();
    let mut strides = vec![1usize; dims.len()];
    for i in 1..dims.len() {
        strides[i] = strides[i - 1].saturating_mul(dims[i - 1]);
    }
    let mut out = Vec::with_capacity(values.len());
    let mut index = vec![0usize; dims.len()];
    for _ in 0..values.len() {
        let at: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        out.push(values[at]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            if index[axis] < dims[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
}

/// The header of a `.npy` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    pub(super) fortran: bool,
    /// Where the elements begin.
    pub(super) start: usize,
}

/// The first bytes of a `.npy` file.
pub(super) const NPY_MAGIC: &[u8] = b"\x93NUMPY";

/// Reads the header: magic, version, length, and a Python dictionary with `descr`, `fortran_order` and `shape`.
pub(super) fn header(bytes: &[u8]) -> Result<Header, Trouble> {
    let cut = || Trouble::format("is cut off inside the header of an array").at(bytes.len());
    if !bytes.starts_with(NPY_MAGIC) {
        return Err(Trouble::format("holds something that is no `.npy` array").at(0));
    }
    let (major, rest) = (*bytes.get(6).ok_or_else(cut)?, bytes.get(8..).ok_or_else(cut)?);
    let (len, start): (usize, usize) = match major {
        1 => (usize::from(u16::from_le_bytes([*rest.first().ok_or_else(cut)?, *rest.get(1).ok_or_else(cut)?])), 10),
        2 | 3 => {
            let four: [u8; 4] = rest.get(..4).and_then(|b| b.try_into().ok()).ok_or_else(cut)?;
            (usize::try_from(u32::from_le_bytes(four)).unwrap_or(usize::MAX), 12)
        }
        other => return Err(Trouble::format(format!("has an array of the unknown `.npy` version {other}")).at(6)),
    };
    let text = bytes.get(start..start.saturating_add(len)).ok_or_else(cut)?;
    let text =
        std::str::from_utf8(text).map_err(|_| Trouble::format("has an array header that is no text").at(start))?;
    let bad =
        || Trouble::format(format!("has an array header that cannot be read: {}", shorten(text.trim()))).at(start);
    let descr = after(text, "descr").ok_or_else(bad)?;
    let dtype = match descr.chars().next() {
        Some(quote @ ('\'' | '"')) => Dtype::parse(descr[1..].split(quote).next().ok_or_else(bad)?),
        // A list of fields: records, which are no numbers.
        Some('[') => Dtype { kind: 'V', size: 0, big: false, unusable: Some("record".to_owned()) },
        _ => return Err(bad()),
    };
    let fortran = match after(text, "fortran_order").ok_or_else(bad)? {
        t if t.starts_with("True") => true,
        t if t.starts_with("False") => false,
        _ => return Err(bad()),
    };
    let shape = after(text, "shape").and_then(|t| t.strip_prefix('(')).ok_or_else(bad)?;
    let shape = shape.split(')').next().ok_or_else(bad)?;
    // Python 2 wrote long sizes as `3L`.
    let sizes = shape.split(',').map(|s| s.trim().trim_end_matches('L')).filter(|s| !s.is_empty());
    let shape: Vec<u64> = sizes.map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?;
    if shape.len() > MAX_RANK {
        return Err(bad());
    }
    Ok(Header { dtype, shape, fortran, start: start + len })
}

/// What follows a key of a header, without blanks.
fn after<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let at = [format!("'{key}'"), format!("\"{key}\"")].iter().find_map(|k| text.find(k.as_str()).map(|i| i + k.len()));
    Some(text[at?..].trim_start().strip_prefix(':')?.trim_start())
}

fn shorten(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(60).collect();
    if chars.next().is_some() { format!("`{head}…`") } else { format!("`{head}`") }
}

/// The bytes of a `.npy` file: row-major little-endian f32.
pub(crate) fn npy(shape: &[u64], values: &[f32]) -> Vec<u8> {
    file("<f4", shape, values.iter().map(|v| v.to_le_bytes()))
}

/// The bytes of a `.npy` file of one axis of whole numbers.
pub(crate) fn npy_counts(values: &[u32]) -> Vec<u8> {
    file("<u4", &[values.len() as u64], values.iter().map(|v| v.to_le_bytes()))
}

fn file(descr: &str, shape: &[u64], values: impl ExactSizeIterator<Item = [u8; 4]>) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(u64::to_string).collect();
    let shape = if sizes.len() == 1 { format!("({},)", sizes[0]) } else { format!("({})", sizes.join(", ")) };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Elements start at a multiple of 64 bytes; the header ends with a line feed.
    let unpadded = NPY_MAGIC.len() + 4 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let mut out = Vec::with_capacity(NPY_MAGIC.len() + 4 + header.len() + values.len() * 4);
    out.extend(NPY_MAGIC);
    out.extend([1, 0]);
    out.extend(u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(header.as_bytes());
    for v in values {
        out.extend(v);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_exact() {
        for (bits, value) in
            [(0x3c00, 1.0), (0xc000, -2.0), (0x0001, 5.960_464_5e-8), (0x7bff, 65504.0), (0x0400, 6.103_515_6e-5)]
        {
            assert_eq!(half(bits), value, "{bits:x}");
        }
        assert_eq!(half(0x7c00), f32::INFINITY);
        assert!(half(0x7e00).is_nan());
        assert_eq!(half(0x8000).to_bits(), (-0.0f32).to_bits());
    }

    #[test]
    fn types_decode_in_both_orders() {
        for (text, bytes, value) in [
            ("<f4", vec![0, 0, 0xc0, 0x3f], 1.5),
            (">f4", vec![0x3f, 0xc0, 0, 0], 1.5),
            (">f8", vec![0xbf, 0xf0, 0, 0, 0, 0, 0, 0], -1.0),
            ("<i8", vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], -2.0),
            (">i2", vec![0xff, 0xfd], -3.0),
            ("<u2", vec![0xff, 0xff], 65535.0),
            ("|u1", vec![200], 200.0),
            ("|i1", vec![200], -56.0),
            ("|b1", vec![7], 1.0),
            ("?", vec![0], 0.0),
        ] {
            let mut out = Vec::new();
            let dtype = Dtype::parse(text);
            assert_eq!(dtype.unusable, None, "{text}");
            dtype.decode(&bytes, &mut out);
            assert_eq!(out, [value], "{text}");
        }
        for text in ["<U3", "S", "c8", "f16", "M8[ns]", "V4", "", "i3"] {
            assert!(Dtype::parse(text).unusable.is_some(), "{text}");
        }
    }

    #[test]
    fn fortran_order_is_turned() {
        let bytes: Vec<u8> = [0.0f32, 3.0, 1.0, 4.0, 2.0, 5.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let values = decode(&Dtype::parse("<f4"), &[2, 3], true, &bytes).expect("six numbers");
        assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn what_is_written_reads_back() {
        for shape in [vec![], vec![3], vec![1, 3], vec![3, 1, 1]] {
            let values: Vec<f32> = (0..elements(&shape).expect("few")).map(|i| i as f32).collect();
            let bytes = npy(&shape, &values);
            let header = header(&bytes).expect("a header");
            assert_eq!((header.shape.as_slice(), header.start % 64), (shape.as_slice(), 0));
            assert_eq!(decode(&header.dtype, &shape, header.fortran, &bytes[header.start..]).expect("numbers"), values);
        }
    }
}
