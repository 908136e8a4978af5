//! Types of graph values.

use std::fmt;

use kur_runtime::dim::{Dim, SymbolTable};

/// Element type of a graph value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 32-bit unsigned integer: seed and step counter only.
    U32,
}

/// Type of a graph value: element type and shape, the batch included.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Row-major shape; empty for a scalar.
    pub shape: Vec<Dim>,
}

impl Type {
    /// A float tensor.
    #[must_use]
    pub fn f32(shape: Vec<Dim>) -> Type {
        Type { dtype: DType::F32, shape }
    }

    /// A float scalar.
    #[must_use]
    pub fn scalar() -> Type {
        Type::f32(Vec::new())
    }

    /// A scalar counter.
    #[must_use]
    pub fn counter() -> Type {
        Type { dtype: DType::U32, shape: Vec::new() }
    }

    /// Number of dimensions.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> Dim {
        Dim::product(&self.shape)
    }

    /// Whether a constant dimension is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len().coef() == 0
    }

    /// The text form under a symbol table: `f32[n, 64]`.
    #[must_use]
    pub fn display<'a>(&'a self, syms: &'a SymbolTable) -> impl fmt::Display + 'a {
        DisplayType { ty: self, syms }
    }
}

struct DisplayType<'a> {
    ty: &'a Type,
    syms: &'a SymbolTable,
}

impl fmt::Display for DisplayType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.ty.dtype {
            DType::F32 => "f32[",
            DType::U32 => "u32[",
        })?;
        for (i, d) in self.ty.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", d.display(self.syms))?;
        }
        f.write_str("]")
    }
}

/// The common shape of operands under right-aligned broadcasting: sizes are equal or the constant 1.
///
/// # Errors
/// The first axis (counted from the end) and the two sizes that do not fit.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, (usize, Dim, Dim)> {
    let rank = a.len().max(b.len());
    let at = |s: &[Dim], i: usize| if i < s.len() { s[s.len() - 1 - i] } else { Dim::ONE };
    let mut out = vec![Dim::ONE; rank];
    for i in 0..rank {
        let (x, y) = (at(a, i), at(b, i));
        out[rank - 1 - i] = if x == y || y == Dim::ONE {
            x
        } else if x == Dim::ONE {
            y
        } else {
            return Err((i, x, y));
        };
    }
    Ok(out)
}
