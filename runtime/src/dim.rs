//! Symbolic dimensions: what the compiler and the runtime both know about sizes.
//!
//! A [`Dim`] is a monomial `coef · n^a · t^b …` over the symbols of a [`SymbolTable`]. Symbol 0 is always the batch
//! `n`. Sizes that are no monomial (the output length of a convolution over a variable time axis) get a symbol of
//! their own whose [`SymDef`] says how to compute it, so equality of shapes stays equality of monomials.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many symbols one program may use.
pub const MAX_SYMS: usize = 8;

/// The symbol of the batch dimension, `n` in IR text.
pub const BATCH: Sym = Sym(0);

/// Index into a [`SymbolTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sym(pub u8);

/// One dimension: a constant times a product of symbols. Zero is represented by coefficient 0 and no symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dim {
    coef: u64,
    pows: [u8; MAX_SYMS],
}

impl Dim {
    /// The size 1, neutral under [`Dim::times`].
    pub const ONE: Dim = Dim { coef: 1, pows: [0; MAX_SYMS] };

    /// A constant size.
    #[must_use]
    pub const fn constant(n: u64) -> Dim {
        Dim { coef: n, pows: [0; MAX_SYMS] }
    }

    /// A bare symbol.
    #[must_use]
    pub const fn symbol(s: Sym) -> Dim {
        let mut pows = [0; MAX_SYMS];
        pows[s.0 as usize] = 1;
        Dim { coef: 1, pows }
    }

    /// The batch dimension `n`.
    #[must_use]
    pub const fn batch() -> Dim {
        Dim::symbol(BATCH)
    }

    /// The coefficient of the monomial.
    #[must_use]
    pub const fn coef(self) -> u64 {
        self.coef
    }

    /// The same monomial with coefficient 1: the class a buffer of this size is planned in.
    #[must_use]
    pub const fn class(self) -> Dim {
        Dim { coef: 1, pows: self.pows }
    }

    /// The constant value, or `None` when a symbol occurs.
    #[must_use]
    pub fn as_const(self) -> Option<u64> {
        self.is_const().then_some(self.coef)
    }

    /// Whether no symbol occurs.
    #[must_use]
    pub fn is_const(self) -> bool {
        self.pows == [0; MAX_SYMS]
    }

    /// Exponent of a symbol.
    #[must_use]
    pub const fn power(self, s: Sym) -> u8 {
        self.pows[s.0 as usize]
    }

    /// The product of two dimensions; saturates at `u64::MAX` rather than wrapping.
    #[must_use]
    pub fn times(self, other: Dim) -> Dim {
        let coef = self.coef.saturating_mul(other.coef);
        if coef == 0 {
            return Dim::constant(0);
        }
        let mut pows = self.pows;
        for (p, q) in pows.iter_mut().zip(other.pows) {
            *p = p.saturating_add(q);
        }
        Dim { coef, pows }
    }

    /// `self / other` where it is exact, else `None`.
    #[must_use]
    pub fn exact_div(self, other: Dim) -> Option<Dim> {
        if other.coef == 0 || !self.coef.is_multiple_of(other.coef) {
            return None;
        }
        let mut pows = self.pows;
        for (p, q) in pows.iter_mut().zip(other.pows) {
            *p = p.checked_sub(q)?;
        }
        Some(Dim { coef: self.coef / other.coef, pows })
    }

    /// The product of a shape.
    #[must_use]
    pub fn product(dims: &[Dim]) -> Dim {
        dims.iter().fold(Dim::ONE, |a, b| a.times(*b))
    }

    /// The value under concrete symbol values (`values[s]` for symbol `s`).
    #[must_use]
    pub fn eval(self, values: &[u64]) -> u64 {
        let mut v = self.coef;
        for (p, x) in self.pows.iter().zip(values) {
            for _ in 0..*p {
                v = v.saturating_mul(*x);
            }
        }
        v
    }

    /// The text form under a symbol table: `n`, `64`, `64*n*t`.
    #[must_use]
    pub fn display<'a>(&'a self, syms: &'a SymbolTable) -> impl fmt::Display + 'a {
        DisplayDim { dim: self, syms }
    }
}

impl From<u64> for Dim {
    fn from(n: u64) -> Dim {
        Dim::constant(n)
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::constant(n as u64)
    }
}

/// A sum of monomials, at most one of each class: what a loop nest over several sizes costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DimSum(Vec<Dim>);

impl DimSum {
    /// Adds a monomial; saturates at `u64::MAX` rather than wrapping.
    pub fn add(&mut self, dim: Dim) {
        if dim.coef == 0 {
            return;
        }
        match self.0.iter_mut().find(|d| d.pows == dim.pows) {
            Some(same) => same.coef = same.coef.saturating_add(dim.coef),
            None => self.0.push(dim),
        }
    }

    /// The monomials, in the order in which their classes came.
    #[must_use]
    pub fn terms(&self) -> &[Dim] {
        &self.0
    }

    /// The value under concrete symbol values, as [`Dim::eval`].
    #[must_use]
    pub fn eval(&self, values: &[u64]) -> u64 {
        self.0.iter().fold(0, |sum, d| sum.saturating_add(d.eval(values)))
    }
}

struct DisplayDim<'a> {
    dim: &'a Dim,
    syms: &'a SymbolTable,
}

impl fmt::Display for DisplayDim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        if self.dim.coef != 1 || self.dim.is_const() {
            write!(f, "{}", self.dim.coef)?;
            first = false;
        }
        for (i, &p) in self.dim.pows.iter().enumerate() {
            for _ in 0..p {
                if !first {
                    f.write_str("*")?;
                }
                first = false;
                f.write_str(self.syms.name(Sym(u8::try_from(i).unwrap_or(u8::MAX))))?;
            }
        }
        Ok(())
    }
}

/// How a derived symbol is computed: `floor((base + add) / div)`, at least 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymDef {
    /// The dimension it is computed from.
    pub base: Dim,
    /// Added before the division; negative for a valid convolution.
    pub add: i64,
    /// The divisor, at least 1: a stride.
    pub div: u64,
}

/// The symbols of one program, in definition order. A derived symbol refers to earlier ones only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolTable {
    syms: Vec<(String, Option<SymDef>)>,
}

impl Default for SymbolTable {
    fn default() -> Self {
        SymbolTable { syms: vec![("n".to_owned(), None)] }
    }
}

impl SymbolTable {
    /// Number of symbols, the batch included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.syms.len()
    }

    /// Never true: the batch symbol is always there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.syms.is_empty()
    }

    /// The name of a symbol in IR text.
    #[must_use]
    pub fn name(&self, s: Sym) -> &str {
        self.syms.get(s.0 as usize).map_or("?", |(n, _)| n)
    }

    /// The definition of a derived symbol; `None` for free ones.
    #[must_use]
    pub fn def(&self, s: Sym) -> Option<SymDef> {
        self.syms.get(s.0 as usize).and_then(|(_, d)| *d)
    }

    /// Whether the first symbols of this table are those of another.
    #[must_use]
    pub fn starts_with(&self, other: &SymbolTable) -> bool {
        self.syms.starts_with(&other.syms)
    }

    /// Looks a symbol up by name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Sym> {
        let i = self.syms.iter().position(|(n, _)| n == name)?;
        u8::try_from(i).ok().map(Sym)
    }

    /// Adds a symbol, or `None` when [`MAX_SYMS`] are in use.
    pub fn add(&mut self, name: &str, def: Option<SymDef>) -> Option<Sym> {
        if self.syms.len() >= MAX_SYMS {
            return None;
        }
        self.syms.push((name.to_owned(), def));
        u8::try_from(self.syms.len() - 1).ok().map(Sym)
    }

    /// A symbol with this definition, reusing an equal one.
    pub fn derived(&mut self, def: SymDef) -> Option<Sym> {
        if let Some(i) = self.syms.iter().position(|(_, d)| *d == Some(def)) {
            return u8::try_from(i).ok().map(Sym);
        }
        let name = format!("d{}", self.syms.len());
        self.add(&name, Some(def))
    }

    /// All values, given those of the free symbols in table order (derived entries of `free` are overwritten).
    #[must_use]
    pub fn values(&self, free: &[(Sym, u64)]) -> Vec<u64> {
        let mut out = vec![0; self.syms.len()];
        for (i, (_, def)) in self.syms.iter().enumerate() {
            out[i] = match def {
                None => free.iter().find(|(s, _)| s.0 as usize == i).map_or(0, |(_, v)| *v),
                Some(d) => {
                    let v = i128::from(d.base.eval(&out)) + i128::from(d.add);
                    u64::try_from(v.max(0) / i128::from(d.div.max(1))).unwrap_or(u64::MAX)
                }
            };
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dims_multiply_divide_and_print() {
        let mut syms = SymbolTable::default();
        let t = syms.add("t", None).map(Dim::symbol).unwrap_or(Dim::ONE);
        let d = Dim::batch().times(Dim::constant(64)).times(t);
        assert_eq!(d.display(&syms).to_string(), "64*n*t");
        assert_eq!(d.exact_div(Dim::batch()), Some(Dim::constant(64).times(t)));
        assert_eq!(d.exact_div(Dim::constant(5)), None);
        assert_eq!(d.eval(&[2, 3]), 384);
    }

    #[test]
    fn sums_keep_a_term_for_each_class() {
        let mut sum = DimSum::default();
        for d in [Dim::constant(3), Dim::batch(), Dim::constant(0), Dim::constant(4), Dim::batch().times(5_u64.into())]
        {
            sum.add(d);
        }
        assert_eq!(sum.terms(), [Dim::constant(7), Dim::batch().times(6_u64.into())]);
        assert_eq!(sum.eval(&[10]), 67);
        sum.add(Dim::constant(u64::MAX));
        assert_eq!(sum.eval(&[1]), u64::MAX);
    }

    #[test]
    fn derived_symbols_follow_their_base() {
        let mut syms = SymbolTable::default();
        let t = syms.add("t", None).expect("room");
        let out = syms.derived(SymDef { base: Dim::symbol(t), add: -9, div: 2 }).expect("room");
        assert_eq!(syms.values(&[(BATCH, 4), (t, 100)])[out.0 as usize], 45);
        assert_eq!(syms.values(&[(BATCH, 4), (t, 5)])[out.0 as usize], 0);
    }
}
