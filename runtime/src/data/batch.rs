//! Cuts a data set into batches (kur-reference 6.6): rows in the order given go in, one buffer per input slot comes out.
//!
//! Large batches are assembled by a background thread into one of three reused buffers while the step before
//! runs; for small ones handing over would cost more than copying, so they are filled in place. Neither allocates once
//! the buffers exist.
//!
//! Where samples differ in length, or a plan has sizes that no batch is known to have before it is made, every batch is
//! filled up with zeros to its longest sample, and says how long that is ([`Batch::sizes`]). What of it is real says an
//! input of its own ([`InputRole::Lengths`]), so that losses do not see the rest.

use std::sync::mpsc::sync_channel;
use std::thread;

use super::sizes::{OwnSizes, free, row_of};
use super::{Dataset, Learned, Role, Source, Store, errors};
use crate::dim::{BATCH, Dim, Sym, SymbolTable};
use crate::error::{Error, Result, count};
use crate::plan::{InputRole, InputSlot, Plan, Program};
use crate::spec::ProviderSpec;

/// Buffers in flight: one in use, one ready, one being filled.
const BUFFERS: usize = 3;
/// Bytes per batch from which a background thread pays (a hand-over costs 5-10 µs, about what copying this takes).
const BACKGROUND_BYTES: usize = 64 << 10;
/// Input slots that are passed on without allocating.
const FEW: usize = 16;

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// With the next batch.
    Continue,
    /// No further.
    Stop,
}

/// One input slot of a plan and the source that fills it.
#[derive(Clone, Debug)]
struct Slot {
    source: usize,
    /// Elements of a sample, of the longest where they differ.
    width: usize,
    /// Name in the plan.
    name: String,
    /// Its axes without the batch, when some of them are symbols; else empty.
    dims: Vec<Dim>,
    fill: Fill,
}

/// What a slot gets of each sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    /// Its numbers.
    Numbers,
    /// How many steps it has; the same for all where they do not differ.
    Lengths(Option<u64>),
}

/// The memory of one batch.
#[derive(Debug, Default)]
struct Buffers {
    /// One per slot.
    values: Vec<Vec<f32>>,
    /// Elements of a sample of each slot in this batch.
    widths: Vec<usize>,
    /// Values of the plan's free symbols but the batch.
    sizes: Vec<(Sym, u64)>,
    /// Why the batch cannot be made.
    trouble: Option<Error>,
}

/// One batch.
#[derive(Debug)]
pub struct Batch<'b> {
    /// Rows of the data set that it is made of, in order.
    pub rows: &'b [u32],
    /// Position in the epoch, from 0.
    pub number: u64,
    buffers: &'b Buffers,
}

impl Batch<'_> {
    /// The sizes of this batch that differ from batch to batch, beside the number of its samples.
    #[must_use]
    pub fn sizes(&self) -> &[(Sym, u64)] {
        &self.buffers.sizes
    }

    /// Hands the inputs, in the order of the plan's slots, to `run`.
    pub fn with_inputs<R>(&self, run: impl FnOnce(&[&[f32]]) -> R) -> R {
        let Buffers { values, widths, .. } = self.buffers;
        let slice = |(buffer, width)| -> &[f32] {
            let (buffer, width): (&Vec<f32>, &usize) = (buffer, width);
            &buffer[..self.rows.len() * width]
        };
        if widths.len() > FEW {
            let all: Vec<&[f32]> = values.iter().zip(widths).map(slice).collect();
            return run(&all);
        }
        let mut few: [&[f32]; FEW] = [&[]; FEW];
        for (place, pair) in few.iter_mut().zip(values.iter().zip(widths)) {
            *place = slice(pair);
        }
        run(&few[..widths.len()])
    }
}

/// Makes the batches of one data set for one plan.
#[derive(Debug)]
pub struct Feeder<'d> {
    data: &'d Dataset,
    slots: Vec<Slot>,
    symbols: SymbolTable,
    own: OwnSizes,
    batch_size: usize,
    num_batches: Option<u64>,
    whole_only: bool,
    spare: Vec<Buffers>,
}

impl<'d> Feeder<'d> {
    /// Matches the input slots of a plan of the program with the sources of a data set, and looks at the size of every
    /// sample.
    ///
    /// # Errors
    /// `no-data-for`, `class-count`, `shape-mismatch`, `target-length`, `too-short`; `batch-size` when
    /// `force_batch_size` leaves no batch.
    pub fn new(
        program: &Program,
        plan: &Plan,
        data: &'d Dataset,
        learned: &Learned,
        provider: &ProviderSpec,
    ) -> Result<Feeder<'d>> {
        let mut slots = Vec::new();
        let mut targets = Vec::new();
        for slot in plan.inputs.iter().filter(|s| s.role != InputRole::Control) {
            let source = find(slot, data)?;
            let found = &data.sources[source];
            if slot.role == InputRole::Lengths {
                slots.push(lengths_of(slot, plan, source, found));
                continue;
            }
            let known: Vec<Option<u64>> = slot.shape.iter().map(|d| d.as_const()).collect();
            fits(found, &known, learned)?;
            if slot.role == InputRole::Target {
                match known.first() {
                    Some(Some(size)) => counts_padding(slot, *size, found, program, plan)?,
                    Some(None) => targets.push((source, slot.shape[0])),
                    None => {}
                }
            }
            let (name, variable) = (slot.name.clone(), known.iter().any(Option::is_none));
            let (width, dims) = match known.into_iter().collect::<Option<Vec<u64>>>() {
                Some(fixed) if matches!(found.store, Store::Ragged { .. }) => (elements(&fixed), Vec::new()),
                _ => (found.width(), if variable { slot.shape.clone() } else { Vec::new() }),
            };
            slots.push(Slot { source, width, name, dims, fill: Fill::Numbers });
        }
        // Inputs first: how long a target should be follows from them.
        let inputs = |s: &&Slot| data.sources[s.source].role == Role::Input;
        let measured = slots.iter().filter(inputs).chain(slots.iter().filter(|s| !inputs(s)));
        let own = OwnSizes::new(&program.symbols, measured.map(|s| (s.source, s.dims.as_slice())));
        own.check(program, plan, data, &targets)?;
        let batch_size = usize::try_from(provider.batch_size.max(1)).unwrap_or(usize::MAX).min(data.rows.max(1));
        let short = provider.batch_size > data.rows as u64;
        if provider.force_batch_size && short {
            return Err(Error::data(
                "batch-size",
                format!(
                    "the data has {}, fewer than the batch size {}",
                    count(data.rows as u64, "row"),
                    provider.batch_size
                ),
            )
            .help("`force_batch_size: yes` leaves out short batches; give a smaller `batch_size`"));
        }
        Ok(Feeder {
            data,
            slots,
            symbols: program.symbols.clone(),
            own,
            batch_size,
            num_batches: provider.num_batches,
            whole_only: provider.force_batch_size,
            spare: Vec::new(),
        })
    }

    /// Rows of a full batch.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The value of a size of the plan for one sample alone, without the padding that a batch adds.
    #[must_use]
    pub fn own_size(&self, dim: Dim, row: u32) -> u64 {
        self.own.eval(dim, self.data, row as usize)
    }

    /// Batches of one epoch.
    #[must_use]
    pub fn batches(&self) -> u64 {
        let rows = self.data.rows;
        let all = if self.whole_only { rows / self.batch_size } else { rows.div_ceil(self.batch_size) } as u64;
        self.num_batches.map_or(all, |n| n.min(all))
    }

    /// Samples of one epoch.
    #[must_use]
    pub fn samples(&self) -> u64 {
        (self.batches().saturating_mul(self.batch_size as u64)).min(self.data.rows as u64)
    }

    /// Runs through one epoch from batch `first` on.
    ///
    /// # Errors
    /// Those of `each`, which end the epoch.
    pub fn epoch(&mut self, order: &[u32], first: u64, each: &mut dyn FnMut(&Batch<'_>) -> Result<Flow>) -> Result<()> {
        let bytes: usize = self.slots.iter().map(|s| s.width.saturating_mul(self.batch_size) * size_of::<f32>()).sum();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let background = bytes >= BACKGROUND_BYTES && cores > 1 && self.batches().saturating_sub(first) > 1;
        if background { self.ahead(order, first, each) } else { self.in_place(order, first, each) }
    }

    fn in_place(&mut self, order: &[u32], first: u64, each: &mut dyn FnMut(&Batch<'_>) -> Result<Flow>) -> Result<()> {
        let mut buffers = self.buffers();
        for number in first..self.batches() {
            let rows = self.rows(order, number);
            self.fill(rows, &mut buffers);
            if let Some(trouble) = buffers.trouble.take() {
                return Err(trouble);
            }
            let flow = each(&Batch { rows, number, buffers: &buffers });
            if flow.map_err(|e| self.located(e, rows))? == Flow::Stop {
                break;
            }
        }
        self.spare.push(buffers);
        Ok(())
    }

    fn ahead(&mut self, order: &[u32], first: u64, each: &mut dyn FnMut(&Batch<'_>) -> Result<Flow>) -> Result<()> {
        let (give_empty, empty) = sync_channel::<Buffers>(BUFFERS);
        let (give_full, full) = sync_channel::<Buffers>(BUFFERS);
        for _ in 0..BUFFERS {
            let buffers = self.buffers();
            give_empty.send(buffers).map_err(|_| Error::internal("the loader's buffers are gone"))?;
        }
        let this = &*self;
        let result = thread::scope(|scope| {
            let loader = scope.spawn(move || {
                for number in first..this.batches() {
                    let Ok(mut buffers) = empty.recv() else { break };
                    this.fill(this.rows(order, number), &mut buffers);
                    if give_full.send(buffers).is_err() {
                        break;
                    }
                }
                empty
            });
            let mut result = Ok(());
            for number in first..this.batches() {
                let Ok(mut buffers) = full.recv() else { break };
                let rows = this.rows(order, number);
                let flow = match buffers.trouble.take() {
                    Some(trouble) => Err(trouble),
                    None => each(&Batch { rows, number, buffers: &buffers }),
                };
                // The loader keeps its end until it is joined, so an empty buffer always finds its way back.
                let _ = give_empty.send(buffers);
                match flow {
                    Ok(Flow::Continue) => {}
                    Ok(Flow::Stop) => break,
                    Err(e) => {
                        result = Err(this.located(e, rows));
                        break;
                    }
                }
            }
            drop(full);
            drop(give_empty);
            let empty = loader.join().map_err(|_| Error::internal("the thread that loads batches died"))?;
            result.map(|()| empty.try_iter().collect::<Vec<_>>())
        })?;
        self.spare.extend(result);
        Ok(())
    }

    /// An error about a sample of a batch, with its row of the data.
    fn located(&self, error: Error, rows: &[u32]) -> Error {
        let row = error.sample().and_then(|s| usize::try_from(s).ok()).and_then(|s| rows.get(s));
        match row {
            Some(row) => error.at(row_of(self.data, *row as usize)),
            None => error,
        }
    }

    /// The rows of a batch.
    fn rows<'o>(&self, order: &'o [u32], number: u64) -> &'o [u32] {
        let start = usize::try_from(number).unwrap_or(usize::MAX).saturating_mul(self.batch_size).min(order.len());
        &order[start..(start + self.batch_size).min(order.len())]
    }

    fn buffers(&mut self) -> Buffers {
        self.spare.pop().unwrap_or_else(|| Buffers {
            values: self.slots.iter().map(|s| vec![0.0; s.width * self.batch_size]).collect(),
            widths: self.slots.iter().map(|s| s.width).collect(),
            sizes: Vec::new(),
            trouble: None,
        })
    }

    fn fill(&self, rows: &[u32], buffers: &mut Buffers) {
        if self.slots.iter().any(|s| !s.dims.is_empty()) {
            buffers.trouble = self.measure(rows, buffers).err();
            if buffers.trouble.is_some() {
                return;
            }
        }
        let widths = buffers.widths.iter().copied();
        for ((slot, buffer), width) in self.slots.iter().zip(&mut buffers.values).zip(widths) {
            let source = &self.data.sources[slot.source];
            if let Fill::Lengths(same) = slot.fill {
                for (row, out) in rows.iter().zip(buffer) {
                    #[expect(clippy::cast_precision_loss, reason = "a sample has far fewer than 2^24 steps")]
                    let length = same.unwrap_or_else(|| source.length(*row as usize)) as f32;
                    *out = length;
                }
                continue;
            }
            let padded = !slot.dims.is_empty() && !matches!(source.store, Store::Ragged { .. });
            let own = if padded { source.width() } else { width };
            for (row, out) in rows.iter().zip(buffer.chunks_exact_mut(width.max(1))) {
                let (sample, rest) = out.split_at_mut(own);
                source.write_row(*row as usize, sample);
                rest.fill(0.0);
            }
        }
    }

    /// Finds the sizes of a batch: each free symbol is the longest of all samples whose axis it is, at least 1.
    fn measure(&self, rows: &[u32], buffers: &mut Buffers) -> Result<()> {
        let longest = |slot: &Slot| {
            let source = &self.data.sources[slot.source];
            rows.iter().map(|row| source.length(*row as usize)).max().unwrap_or(1)
        };
        buffers.sizes.clear();
        buffers.sizes.push((BATCH, rows.len() as u64));
        for symbol in free(&self.symbols) {
            let mut size = 1;
            for slot in &self.slots {
                for axis in (0..slot.dims.len()).filter(|a| slot.dims[*a] == Dim::symbol(symbol)) {
                    let own = self.data.sources[slot.source].shape.get(axis).copied().unwrap_or(1);
                    size = size.max(if axis == 0 { longest(slot) } else { own });
                }
            }
            buffers.sizes.push((symbol, size));
        }
        let values = self.symbols.values(&buffers.sizes);
        for ((slot, width), buffer) in self.slots.iter().zip(&mut buffers.widths).zip(&mut buffers.values) {
            if slot.dims.is_empty() {
                continue;
            }
            let source = &self.data.sources[slot.source];
            let sizes: Vec<u64> = slot.dims.iter().map(|d| d.eval(&values)).collect();
            let first = sizes.first().copied().unwrap_or(1);
            let rest =
                source.is_blank() || (1..sizes.len()).all(|a| sizes[a] == source.shape.get(a).copied().unwrap_or(1));
            if let Some(row) = rows.iter().find(|r| !rest || source.length(**r as usize) > first) {
                let row = *row as usize;
                let found: Vec<u64> =
                    std::iter::once(source.length(row)).chain(source.shape.iter().skip(1).copied()).collect();
                let error = errors::target_shape(&slot.name, &shape_text(&found), &shape_text(&sizes), None);
                return Err(error.at(row_of(self.data, row)));
            }
            *width = elements(&sizes);
            let needed = width.saturating_mul(rows.len());
            if buffer.len() < needed {
                buffer.resize(needed, 0.0);
            }
        }
        // The batch is no news to whoever runs it.
        buffers.sizes.remove(0);
        Ok(())
    }
}

/// The source that fills a slot, or whose samples it measures.
fn find(slot: &InputSlot, data: &Dataset) -> Result<usize> {
    let role = if slot.role == InputRole::Data { Role::Input } else { Role::Target };
    let found = data.sources.iter().position(|s| s.role == role && s.name == slot.name);
    found.ok_or_else(|| {
        let offered: Vec<String> = data.sources.iter().map(|s| s.name.clone()).collect();
        errors::no_source(role_word(role), &slot.name, &offered)
    })
}

/// The slot for the lengths of a target. Without samples that differ, they are those of the plan's slot: columns have
/// no shape of their own.
fn lengths_of(slot: &InputSlot, plan: &Plan, source: usize, found: &Source) -> Slot {
    let steps = plan.inputs.iter().find(|s| s.role == InputRole::Target && s.name == slot.name);
    let fixed = steps.and_then(|s| s.shape.first()?.as_const());
    let same = match found.store {
        Store::Ragged { .. } => None,
        _ => Some(fixed.unwrap_or_else(|| found.length(0))),
    };
    Slot { source, width: 1, name: slot.name.clone(), dims: Vec::new(), fill: Fill::Lengths(same) }
}

/// A target whose samples differ in length needs a loss that knows their lengths, or its padding would count. The labels
/// of `ctc` come with lengths of their own.
fn counts_padding(slot: &InputSlot, size: u64, found: &Source, program: &Program, plan: &Plan) -> Result<()> {
    let knows = plan.inputs.iter().any(|s| s.role == InputRole::Lengths && s.name == slot.name);
    let label = program.run.outputs.iter().any(|o| o.loss_reads.contains(&slot.name));
    if knows || label || !matches!(found.store, Store::Ragged { .. }) {
        return Ok(());
    }
    Err(errors::ragged_target(&slot.name, size))
}

/// Elements of a sample.
fn elements(shape: &[u64]) -> usize {
    usize::try_from(shape.iter().copied().fold(1, u64::saturating_mul)).unwrap_or(usize::MAX)
}

fn shape_text(shape: &[u64]) -> String {
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join("x")
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Input => "input",
        Role::Target => "output",
    }
}

/// Columns may be seen in any shape of as many elements; other data may lack or add trailing axes of size 1
/// (kur-reference 2.5). A size that is not known before the batch is made fits any; a fixed first size holds samples of
/// any length up to it.
fn fits(source: &Source, expected: &[Option<u64>], learned: &Learned) -> Result<()> {
    let fixed: Option<Vec<u64>> = expected.iter().copied().collect();
    let same = match fixed {
        _ if source.is_blank() => true,
        Some(fixed) if source.reshapes && !matches!(source.store, Store::Classes(..)) => {
            source.shape.iter().product::<u64>() == fixed.iter().product::<u64>()
        }
        _ => {
            let rank = source.shape.len().max(expected.len());
            let ragged = matches!(source.store, Store::Ragged { .. });
            (0..rank).all(|axis| {
                let found = source.shape.get(axis).copied().unwrap_or(1);
                match expected.get(axis).copied().unwrap_or(Some(1)) {
                    None => axis < source.shape.len(),
                    Some(size) => found == size || (axis == 0 && ragged && found < size),
                }
            })
        }
    };
    if same {
        return Ok(());
    }
    let text = |size: &Option<u64>| size.map_or_else(|| "null".to_owned(), |s| s.to_string());
    let expected = expected.iter().map(text).collect::<Vec<_>>().join("x");
    let classes = if source.role == Role::Target { learned.classes(&source.name) } else { None };
    Err(errors::target_shape(&source.name, &shape_text(&source.shape), &expected, classes))
}

#[cfg(test)]
mod tests;
