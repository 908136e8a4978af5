//! Cuts a data set into batches (kur-reference 6.6): rows in the order given go in, one buffer per input slot comes out.
//!
//! Large batches are assembled by a background thread into one of three reused buffers while the step before
//! runs; for small ones handing over would cost more than copying, so they are filled in place. Neither allocates once
//! the buffers exist.

use std::sync::mpsc::sync_channel;
use std::thread;

use super::{Dataset, Learned, Role, Source, Store, errors};
use crate::error::{Error, Exit, Place, Result};
use crate::plan::{InputRole, Plan};
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
#[derive(Clone, Copy, Debug)]
struct Slot {
    source: usize,
    width: usize,
}

/// One batch.
#[derive(Debug)]
pub struct Batch<'b> {
    /// Rows of the data set that it is made of, in order.
    pub rows: &'b [u32],
    /// Position in the epoch, from 0.
    pub number: u64,
    buffers: &'b [Vec<f32>],
    slots: &'b [Slot],
}

impl Batch<'_> {
    /// Hands the inputs, in the order of the plan's slots, to `run`.
    pub fn with_inputs<R>(&self, run: impl FnOnce(&[&[f32]]) -> R) -> R {
        let slice = |(buffer, slot)| -> &[f32] {
            let (buffer, slot): (&Vec<f32>, &Slot) = (buffer, slot);
            &buffer[..self.rows.len() * slot.width]
        };
        if self.slots.len() > FEW {
            let all: Vec<&[f32]> = self.buffers.iter().zip(self.slots).map(slice).collect();
            return run(&all);
        }
        let mut few: [&[f32]; FEW] = [&[]; FEW];
        for (place, pair) in few.iter_mut().zip(self.buffers.iter().zip(self.slots)) {
            *place = slice(pair);
        }
        run(&few[..self.slots.len()])
    }
}

/// Makes the batches of one data set for one plan.
#[derive(Debug)]
pub struct Feeder<'d> {
    data: &'d Dataset,
    slots: Vec<Slot>,
    batch_size: usize,
    num_batches: Option<u64>,
    whole_only: bool,
    spare: Vec<Vec<Vec<f32>>>,
}

impl<'d> Feeder<'d> {
    /// Matches the input slots of a plan with the sources of a data set.
    ///
    /// # Errors
    /// `no-data-for`, `class-count`, `shape-mismatch`; `batch-size` when `force_batch_size` leaves no batch.
    pub fn new(plan: &Plan, data: &'d Dataset, learned: &Learned, provider: &ProviderSpec) -> Result<Feeder<'d>> {
        let mut slots = Vec::new();
        for slot in plan.inputs.iter().filter(|s| s.role != InputRole::Control) {
            let role = if slot.role == InputRole::Data { Role::Input } else { Role::Target };
            let expected = constant_shape(&slot.name, slot.shape.iter().map(|d| d.as_const()))?;
            let offered: Vec<String> = data.sources.iter().map(|s| s.name.clone()).collect();
            let source = data
                .sources
                .iter()
                .position(|s| s.role == role && s.name == slot.name)
                .ok_or_else(|| errors::no_source(role_word(role), &slot.name, &offered))?;
            fits(&data.sources[source], &expected, learned)?;
            slots.push(Slot { source, width: data.sources[source].width() });
        }
        let batch_size = usize::try_from(provider.batch_size.max(1)).unwrap_or(usize::MAX).min(data.rows.max(1));
        let short = provider.batch_size > data.rows as u64;
        if provider.force_batch_size && short {
            return Err(Error::data(
                "batch-size",
                format!("the data has {} rows, fewer than the batch size {}", data.rows, provider.batch_size),
            )
            .help("`force_batch_size: yes` leaves out short batches; give a smaller `batch_size`"));
        }
        Ok(Feeder {
            data,
            slots,
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
            fill(self.data, &self.slots, rows, &mut buffers);
            let flow = each(&Batch { rows, number, buffers: &buffers, slots: &self.slots });
            if flow.map_err(|e| self.located(e, rows))? == Flow::Stop {
                break;
            }
        }
        self.spare.push(buffers);
        Ok(())
    }

    fn ahead(&mut self, order: &[u32], first: u64, each: &mut dyn FnMut(&Batch<'_>) -> Result<Flow>) -> Result<()> {
        let (give_empty, empty) = sync_channel::<Vec<Vec<f32>>>(BUFFERS);
        let (give_full, full) = sync_channel::<Vec<Vec<f32>>>(BUFFERS);
        for _ in 0..BUFFERS {
            let buffers = self.buffers();
            give_empty.send(buffers).map_err(|_| Error::internal("the loader's buffers are gone"))?;
        }
        let this = &*self;
        let result = thread::scope(|scope| {
            let loader = scope.spawn(move || {
                for number in first..this.batches() {
                    let Ok(mut buffers) = empty.recv() else { break };
                    fill(this.data, &this.slots, this.rows(order, number), &mut buffers);
                    if give_full.send(buffers).is_err() {
                        break;
                    }
                }
                empty
            });
            let mut result = Ok(());
            for number in first..this.batches() {
                let Ok(buffers) = full.recv() else { break };
                let rows = this.rows(order, number);
                let flow = each(&Batch { rows, number, buffers: &buffers, slots: &this.slots });
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
            Some(row) => {
                let row = Some(self.data.original_row(*row as usize) as u64 + 1);
                error.at(Place { row, ..Place::default() })
            }
            None => error,
        }
    }

    /// The rows of a batch.
    fn rows<'o>(&self, order: &'o [u32], number: u64) -> &'o [u32] {
        let start = usize::try_from(number).unwrap_or(usize::MAX).saturating_mul(self.batch_size).min(order.len());
        &order[start..(start + self.batch_size).min(order.len())]
    }

    fn buffers(&mut self) -> Vec<Vec<f32>> {
        self.spare.pop().unwrap_or_else(|| self.slots.iter().map(|s| vec![0.0; s.width * self.batch_size]).collect())
    }
}

fn fill(data: &Dataset, slots: &[Slot], rows: &[u32], buffers: &mut [Vec<f32>]) {
    for (slot, buffer) in slots.iter().zip(buffers) {
        let source = &data.sources[slot.source];
        for (row, out) in rows.iter().zip(buffer.chunks_exact_mut(slot.width.max(1))) {
            source.write_row(*row as usize, out);
        }
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Input => "input",
        Role::Target => "output",
    }
}

fn constant_shape(name: &str, dims: impl Iterator<Item = Option<u64>>) -> Result<Vec<u64>> {
    dims.collect::<Option<Vec<u64>>>().ok_or_else(|| {
        Error::new(
            Exit::Kurfile,
            "variable-shape",
            format!("`{name}` has a variable dimension, which CSV and IDX data cannot fill"),
        )
    })
}

/// Columns may be seen in any shape of as many elements; other data may lack or add trailing axes of size 1
/// (kur-reference 2.5).
fn fits(source: &Source, expected: &[u64], learned: &Learned) -> Result<()> {
    let trim = |s: &[u64]| s.iter().rposition(|d| *d != 1).map_or(0, |i| i + 1);
    let same = if source.reshapes && !matches!(source.store, Store::Classes(..)) {
        source.shape.iter().product::<u64>() == expected.iter().product::<u64>()
    } else {
        source.shape[..trim(&source.shape)] == expected[..trim(expected)]
    };
    if same {
        return Ok(());
    }
    let text = |s: &[u64]| s.iter().map(u64::to_string).collect::<Vec<_>>().join("x");
    let classes = if source.role == Role::Target { learned.classes(&source.name) } else { None };
    Err(errors::target_shape(&source.name, &text(&source.shape), &text(expected), classes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Dim;
    use crate::plan::InputSlot;

    fn data(rows: usize, width: u64) -> Dataset {
        let values = (0..rows * usize::try_from(width).expect("width")).map(|i| i as f32).collect();
        let source = Source {
            name: "x".into(),
            role: Role::Input,
            shape: vec![width],
            reshapes: true,
            store: Store::Numbers(values),
            units: Vec::new(),
        };
        Dataset { rows, sources: vec![source], dropped: Vec::new(), notes: Vec::new() }
    }

    fn plan(shape: &[u64]) -> Plan {
        let slot = InputSlot {
            name: "x".into(),
            role: InputRole::Data,
            shape: shape.iter().map(|d| Dim::constant(*d)).collect(),
        };
        Plan { inputs: vec![slot], results: Vec::new(), arena: Vec::new(), launches: Vec::new() }
    }

    fn provider(batch_size: u64, num_batches: Option<u64>, force_batch_size: bool) -> ProviderSpec {
        ProviderSpec { batch_size, num_batches, randomize: false, force_batch_size }
    }

    fn run(feeder: &mut Feeder<'_>, order: &[u32], first: u64, width: usize) -> Vec<Vec<u32>> {
        let mut seen = Vec::new();
        feeder
            .epoch(order, first, &mut |batch| {
                batch.with_inputs(|inputs| {
                    assert_eq!(inputs[0].len(), batch.rows.len() * width);
                    for (row, values) in batch.rows.iter().zip(inputs[0].chunks(width)) {
                        assert_eq!(values[0], (*row as usize * width) as f32);
                    }
                });
                seen.push(batch.rows.to_vec());
                Ok(Flow::Continue)
            })
            .expect("epoch");
        seen
    }

    #[test]
    fn provider_rules_hold_in_both_modes() {
        // 4 numbers a row stay in place, 20 000 a row are loaded ahead.
        for width in [4, 20_000] {
            let data = data(10, width);
            let plan = plan(&[width]);
            let order: Vec<u32> = (0..10).rev().collect();
            for (provider, first, sizes) in [
                (provider(4, None, false), 0, vec![4, 4, 2]),
                (provider(4, None, true), 0, vec![4, 4]),
                (provider(4, Some(1), false), 0, vec![4]),
                (provider(4, Some(9), false), 1, vec![4, 2]),
                (provider(100, None, false), 0, vec![10]),
            ] {
                let mut feeder = Feeder::new(&plan, &data, &Learned::default(), &provider).expect("feeder");
                for _ in 0..2 {
                    let seen = run(&mut feeder, &order, first, usize::try_from(width).expect("width"));
                    assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{provider:?}");
                    let skipped = usize::try_from(first).expect("first") * 4;
                    assert_eq!(seen.concat(), order[skipped..skipped + sizes.iter().sum::<usize>()]);
                }
            }
        }
    }

    #[test]
    fn an_epoch_can_end_early() {
        let data = data(10, 20_000);
        let plan = plan(&[20_000]);
        let mut feeder = Feeder::new(&plan, &data, &Learned::default(), &provider(2, None, false)).expect("feeder");
        let order: Vec<u32> = (0..10).collect();
        let mut count = 0;
        let stopped = feeder.epoch(&order, 0, &mut |_| {
            count += 1;
            Ok(if count == 2 { Flow::Stop } else { Flow::Continue })
        });
        assert_eq!((stopped, count), (Ok(()), 2));
        let failed = feeder.epoch(&order, 0, &mut |_| Err(Error::internal("x")));
        assert_eq!(failed.err().map(|e| e.id()), Some("internal"));
    }

    #[test]
    fn an_error_of_a_sample_gets_its_row_in_the_data() {
        for width in [4, 20_000] {
            let mut data = data(6, width);
            data.dropped = vec![0, 4];
            let plan = plan(&[width]);
            let mut feeder = Feeder::new(&plan, &data, &Learned::default(), &provider(4, None, false)).expect("feeder");
            // Sample 1 of the second batch is row 3 of those kept, from 0; with the two left out it is the sixth.
            let error = feeder.epoch(&[5, 4, 0, 1, 2, 3], 0, &mut |batch| match batch.number {
                0 => Ok(Flow::Continue),
                _ => Err(Error::data("bad-value", "the index 9 is too large").of_sample(1)),
            });
            let error = error.expect_err("fails");
            assert_eq!(error.to_string(), "error[bad-value]: the index 9 is too large\n  --> row 6 of the data");
            assert!(error.render(true).contains("\"row\":6") && !error.render(true).contains("\"file\""));
        }
    }

    #[test]
    fn shapes_must_fit() {
        let data = data(3, 6);
        assert!(Feeder::new(&plan(&[2, 3]), &data, &Learned::default(), &provider(2, None, false)).is_ok());
        let error = Feeder::new(&plan(&[7]), &data, &Learned::default(), &provider(2, None, false)).err();
        assert_eq!(
            error.map(|e| e.message().to_owned()).as_deref(),
            Some("`x` has shape 6 in the data, 7 in the model")
        );
        let error = Feeder::new(&plan(&[6]), &data, &Learned::default(), &provider(4, None, true)).err();
        assert_eq!(error.map(|e| e.id()), Some("batch-size"));
    }
}
