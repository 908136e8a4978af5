//! What sizes a sample has alone, without the padding that its batch adds; and whether all samples of a data set fit the
//! model, before a step runs. A data set and the symbols of a program come in; errors name the row.

use super::{Dataset, errors};
use crate::dim::{BATCH, Dim, Sym, SymbolTable};
use crate::error::{Place, Result};
use crate::plan::{Call, LibCall, Plan, Program};

/// Sizes above this are never asked for as the least ones.
const LARGEST: u64 = 1 << 32;

/// A source whose samples have a size that a symbol stands for.
#[derive(Clone, Copy, Debug)]
struct Measure {
    symbol: Sym,
    source: usize,
    axis: usize,
}

/// The symbols of a program and the sources that give free ones their value.
#[derive(Clone, Debug)]
pub(super) struct OwnSizes {
    symbols: SymbolTable,
    measures: Vec<Measure>,
}

impl OwnSizes {
    /// `slots` are sources and their axes in the plan; the first to have a free symbol as an axis gives its value.
    pub(super) fn new<'s>(symbols: &SymbolTable, slots: impl Iterator<Item = (usize, &'s [Dim])>) -> OwnSizes {
        let mut measures: Vec<Measure> = Vec::new();
        for (source, dims) in slots {
            for (axis, dim) in dims.iter().enumerate() {
                let symbol = free(symbols).find(|s| *dim == Dim::symbol(*s));
                if let Some(symbol) = symbol.filter(|s| measures.iter().all(|m| m.symbol != *s)) {
                    measures.push(Measure { symbol, source, axis });
                }
            }
        }
        OwnSizes { symbols: symbols.clone(), measures }
    }

    /// The size that a measure finds.
    fn size(data: &Dataset, m: Measure, row: usize) -> u64 {
        let source = &data.sources[m.source];
        if m.axis == 0 { source.length(row) } else { source.shape.get(m.axis).copied().unwrap_or(1) }
    }

    /// The values of all symbols for one sample alone; `at_least` is the least size of an axis.
    fn values(&self, data: &Dataset, row: usize, at_least: u64) -> Vec<u64> {
        let sizes = self.measures.iter().map(|m| (m.symbol, Self::size(data, *m, row).max(at_least)));
        let sizes: Vec<(Sym, u64)> = std::iter::once((BATCH, 1)).chain(sizes).collect();
        self.symbols.values(&sizes)
    }

    /// The value of a size of the plan for one sample alone.
    pub(super) fn eval(&self, dim: Dim, data: &Dataset, row: usize) -> u64 {
        dim.eval(&self.values(data, row, 0))
    }

    /// Every sample must be long enough for every layer, and every target as long as the output for the sample's own
    /// inputs. `targets` are sources of targets with the first axis of their output.
    ///
    /// # Errors
    /// `too-short`, `target-length`.
    pub(super) fn check(&self, program: &Program, plan: &Plan, data: &Dataset, targets: &[(usize, Dim)]) -> Result<()> {
        let mut before: Vec<u64> = Vec::new();
        let mut now: Vec<u64> = Vec::new();
        for row in 0..data.rows {
            now.clear();
            now.extend(self.measures.iter().map(|m| Self::size(data, *m, row)));
            now.extend(targets.iter().map(|(source, _)| data.sources[*source].length(row)));
            // Neighbours of the same sizes fare alike.
            if row > 0 && now == before {
                continue;
            }
            self.long_enough(program, plan, data, row)?;
            let values = self.values(data, row, 0);
            for (source, steps) in targets {
                let (found, wanted) = (data.sources[*source].length(row), steps.eval(&values));
                if found != wanted {
                    let from =
                        self.origin(*steps).map(|m| (data.sources[m.source].name.as_str(), Self::size(data, m, row)));
                    let place = row_of(data, row);
                    return Err(errors::target_length(&data.sources[*source].name, found, wanted, from).at(place));
                }
            }
            std::mem::swap(&mut before, &mut now);
        }
        Ok(())
    }

    /// A window that is larger than a sample leaves no step of it. Padding must not hide that, or the sample would do in
    /// one batch and not in another.
    fn long_enough(&self, program: &Program, plan: &Plan, data: &Dataset, row: usize) -> Result<()> {
        let values = self.values(data, row, 1);
        for (symbol, base) in all(&self.symbols).filter_map(|s| Some((s, self.symbols.def(s)?.base))) {
            if values[usize::from(symbol.0)] != 0 || base.eval(&values) == 0 {
                continue;
            }
            let Some(m) = self.origin(Dim::symbol(symbol)) else { continue };
            let found = Self::size(data, m, row);
            let layer = window_over(plan, symbol).and_then(|i| program.layers.get(usize::try_from(i).ok()?));
            let name = &data.sources[m.source].name;
            let least = self.least(symbol, m.symbol, &values);
            return Err(errors::too_short(name, m.axis, found, layer, least).at(row_of(data, row)));
        }
        Ok(())
    }

    /// The source that a size follows from.
    fn origin(&self, dim: Dim) -> Option<Measure> {
        let mut dim = dim;
        // A derived symbol refers to earlier ones only, so this ends.
        loop {
            let symbol = all(&self.symbols).skip(1).find(|s| dim.power(*s) > 0)?;
            match self.symbols.def(symbol) {
                Some(def) => dim = def.base,
                None => return self.measures.iter().copied().find(|m| m.symbol == symbol),
            }
        }
    }

    /// The least value of `free` for which `symbol` is not 0, the others being as they are.
    fn least(&self, symbol: Sym, free: Sym, values: &[u64]) -> Option<u64> {
        let enough = |size: u64| {
            let sizes: Vec<(Sym, u64)> =
                all(&self.symbols).map(|s| (s, if s == free { size } else { values[usize::from(s.0)] })).collect();
            self.symbols.values(&sizes)[usize::from(symbol.0)] > 0
        };
        let (mut low, mut high) = (0, LARGEST);
        if !enough(high) {
            return None;
        }
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if enough(middle) { high = middle } else { low = middle }
        }
        Some(high)
    }
}

fn all(symbols: &SymbolTable) -> impl Iterator<Item = Sym> + use<> {
    (0..symbols.len()).map(|i| Sym(u8::try_from(i).unwrap_or(u8::MAX)))
}

/// The free symbols but the batch.
pub(super) fn free(symbols: &SymbolTable) -> impl Iterator<Item = Sym> + '_ {
    all(symbols).skip(1).filter(|s| symbols.def(*s).is_none())
}

/// The layer of the convolution or pooling whose output has this size.
fn window_over(plan: &Plan, symbol: Sym) -> Option<u32> {
    let size = Dim::symbol(symbol);
    let gives = |call: &LibCall| match call {
        LibCall::ConvForward(g) => g.output.contains(&size),
        LibCall::MaxPool(g) | LibCall::AvgPool(g) => g.output.contains(&size),
        _ => false,
    };
    let found = plan.launches.iter().find(|l| match &l.call {
        Call::Lib(LibCall::Biased { call, .. }) => gives(call),
        Call::Lib(call) => gives(call),
        Call::Kernel { .. } => false,
    });
    found?.layer
}

/// The place of a sample.
pub(super) fn row_of(data: &Dataset, row: usize) -> Place {
    Place { row: Some(data.original_row(row) as u64 + 1), ..Place::default() }
}
