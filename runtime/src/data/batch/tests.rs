//! Provider rules, lengths, order of rows, early ends, errors with places.

use super::*;
use crate::train::double::{linear, run_spec};
use crate::train::engine::Engine as _;

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
    let slot =
        InputSlot { name: "x".into(), role: InputRole::Data, shape: shape.iter().map(|d| Dim::constant(*d)).collect() };
    Plan { inputs: vec![slot], results: Vec::new(), arena: Vec::new(), launches: Vec::new() }
}

fn program(symbols: SymbolTable) -> Program {
    Program { symbols, ..linear(run_spec("x")).program().clone() }
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
            let mut feeder =
                Feeder::new(&program(SymbolTable::default()), &plan, &data, &Learned::default(), &provider)
                    .expect("feeder");
            for _ in 0..2 {
                let seen = run(&mut feeder, &order, first, usize::try_from(width).expect("width"));
                assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{provider:?}");
                let skipped = usize::try_from(first).expect("first") * 4;
                assert_eq!(seen.concat(), order[skipped..skipped + sizes.iter().sum::<usize>()]);
            }
        }
    }
}

/// Sequences of two numbers a step, as a ragged source.
fn sequences(lengths: &[u32]) -> Dataset {
    let values = (0..lengths.iter().sum::<u32>() * 2).map(|i| i as f32 + 1.0).collect();
    let source = Source {
        name: "x".into(),
        role: Role::Input,
        shape: vec![u64::from(*lengths.iter().max().expect("some")), 2],
        reshapes: false,
        store: Store::ragged(values, lengths.iter().copied(), 2),
        units: Vec::new(),
    };
    Dataset { rows: lengths.len(), sources: vec![source], dropped: Vec::new(), notes: Vec::new() }
}

fn variable_plan(symbols: &mut SymbolTable) -> Plan {
    let t = symbols.add("t", None).expect("room");
    let shape = vec![Dim::symbol(t), Dim::constant(2)];
    let slot = InputSlot { name: "x".into(), role: InputRole::Data, shape };
    Plan { inputs: vec![slot], results: Vec::new(), arena: Vec::new(), launches: Vec::new() }
}

#[test]
fn batches_are_as_long_as_their_longest_sample() {
    let data = sequences(&[1, 3, 0, 2, 0]);
    let mut symbols = SymbolTable::default();
    let plan = variable_plan(&mut symbols);
    let mut feeder =
        Feeder::new(&program(symbols.clone()), &plan, &data, &Learned::default(), &provider(2, None, false))
            .expect("feeder");
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.clear();
        feeder
            .epoch(&[0, 1, 2, 3, 4], 0, &mut |batch| {
                seen.push((batch.sizes().to_vec(), batch.with_inputs(|i| i[0].to_vec())));
                Ok(Flow::Continue)
            })
            .expect("epoch");
    }
    let t = Sym(1);
    assert_eq!(
        seen,
        [
            (vec![(t, 3)], vec![1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
            (vec![(t, 2)], vec![0.0, 0.0, 0.0, 0.0, 9.0, 10.0, 11.0, 12.0]),
            (vec![(t, 1)], vec![0.0, 0.0]),
        ]
    );
}

#[test]
fn fixed_sizes_hold_shorter_samples() {
    let data = sequences(&[1, 3]);
    let mut feeder = Feeder::new(
        &program(SymbolTable::default()),
        &plan(&[4, 2]),
        &data,
        &Learned::default(),
        &provider(2, None, false),
    )
    .expect("feeder");
    let mut seen = Vec::new();
    feeder
        .epoch(&[1, 0], 0, &mut |batch| {
            seen = batch.with_inputs(|i| i[0].to_vec());
            Ok(Flow::Continue)
        })
        .expect("epoch");
    assert_eq!(seen, [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let short = Feeder::new(
        &program(SymbolTable::default()),
        &plan(&[2, 2]),
        &data,
        &Learned::default(),
        &provider(2, None, false),
    );
    assert_eq!(
        short.err().map(|e| e.message().to_owned()).as_deref(),
        Some("`x` has shape 3x2 in the data, 2x2 in the model")
    );
}

/// A target whose axis is computed from the input's: half as long.
#[test]
fn targets_follow_derived_sizes() {
    let mut data = sequences(&[4, 2]);
    data.sources.push(Source {
        name: "y".into(),
        role: Role::Target,
        shape: vec![2],
        reshapes: false,
        store: Store::ragged(vec![1.0, 2.0, 3.0], [2, 1].into_iter(), 1),
        units: Vec::new(),
    });
    let mut symbols = SymbolTable::default();
    let mut plan = variable_plan(&mut symbols);
    let def = crate::dim::SymDef { base: Dim::symbol(Sym(1)), add: 0, div: 2 };
    let half = Dim::symbol(symbols.derived(def).expect("room"));
    plan.inputs.push(InputSlot { name: "y".into(), role: InputRole::Target, shape: vec![half] });
    let run = |data: &Dataset, order: &[u32]| {
        let mut feeder =
            Feeder::new(&program(symbols.clone()), &plan, data, &Learned::default(), &provider(2, None, false))?;
        let mut seen = Vec::new();
        let end = feeder.epoch(order, 0, &mut |batch| {
            seen = batch.with_inputs(|i| i[1].to_vec());
            Ok(Flow::Continue)
        });
        end.map(|()| seen)
    };
    assert_eq!(run(&data, &[1, 0]), Ok(vec![3.0, 0.0, 1.0, 2.0]));
    // Before any step, and also where the batch would have room.
    data.sources[1].store = Store::ragged(vec![1.0, 2.0, 3.0, 4.0], [2, 2].into_iter(), 1);
    let error = run(&data, &[0, 1]).expect_err("too long");
    assert_eq!(error.message(), "the target `y` has 2 steps, its output has 1 for 2 steps of `x`");
    assert_eq!((error.id(), error.place().and_then(|p| p.row)), ("target-length", Some(2)));
    data.sources[1].store = Store::ragged(vec![1.0, 2.0], [1, 1].into_iter(), 1);
    let error = run(&data, &[0, 1]).expect_err("too short");
    assert_eq!(error.message(), "the target `y` has 1 step, its output has 2 for 4 steps of `x`");
    assert_eq!(error.place().and_then(|p| p.row), Some(1));
}

/// A target as long as its input, with the lengths that a loss reads.
#[test]
fn lengths_follow_the_order_of_the_rows() {
    let mut data = sequences(&[4, 2, 3]);
    let target = Source { name: "y".into(), role: Role::Target, ..data.sources[0].clone() };
    data.sources.push(target);
    let mut symbols = SymbolTable::default();
    let mut plan = variable_plan(&mut symbols);
    let shape = plan.inputs[0].shape.clone();
    plan.inputs.push(InputSlot { name: "y".into(), role: InputRole::Lengths, shape: Vec::new() });
    plan.inputs.push(InputSlot { name: "y".into(), role: InputRole::Target, shape });
    let lengths = |plan: &Plan, data: &Dataset| {
        let mut feeder =
            Feeder::new(&program(symbols.clone()), plan, data, &Learned::default(), &provider(2, None, false))?;
        let mut seen = Vec::new();
        feeder.epoch(&[2, 0, 1], 0, &mut |batch| {
            batch.with_inputs(|i| {
                assert_eq!(i[2].len(), i[0].len());
                seen.extend_from_slice(i[1]);
            });
            Ok(Flow::Continue)
        })?;
        Ok::<Vec<f32>, Error>(seen)
    };
    assert_eq!(lengths(&plan, &data), Ok(vec![3.0, 4.0, 2.0]));
    // A fixed size has no more than the samples.
    plan.inputs.iter_mut().filter(|s| !s.shape.is_empty()).for_each(|s| s.shape[0] = Dim::constant(9));
    assert_eq!(lengths(&plan, &data), Ok(vec![3.0, 4.0, 2.0]));
    // Without lengths, the padding would count.
    plan.inputs.remove(1);
    let error = lengths(&plan, &data).expect_err("no lengths");
    assert_eq!(error.message(), "the samples of the target `y` differ in length, the program was built for 9 in each");
    // Columns stand for all steps, whatever their own shape.
    plan.inputs.insert(1, InputSlot { name: "y".into(), role: InputRole::Lengths, shape: Vec::new() });
    for source in &mut data.sources {
        (source.shape, source.reshapes, source.store) = (vec![18], true, Store::Numbers(vec![0.0; 54]));
    }
    assert_eq!(lengths(&plan, &data), Ok(vec![9.0; 3]));
}

#[test]
fn samples_must_have_a_step_behind_every_window() {
    let data = sequences(&[9, 4, 3]);
    let mut symbols = SymbolTable::default();
    let plan = variable_plan(&mut symbols);
    // Two windows of 3, the second with a stride of 2.
    let first = crate::dim::SymDef { base: Dim::symbol(Sym(1)), add: -2, div: 1 };
    let first = Dim::symbol(symbols.derived(first).expect("room"));
    symbols.derived(crate::dim::SymDef { base: first, add: -1, div: 2 }).expect("room");
    let new =
        |data| Feeder::new(&program(symbols.clone()), &plan, data, &Learned::default(), &provider(3, None, false));
    let error = new(&data).expect_err("too short");
    assert_eq!(error.message(), "a sample of `x` has 4 steps, too few for a layer");
    assert_eq!((error.id(), error.place().and_then(|p| p.row)), ("too-short", Some(2)));
    assert!(error.to_string().contains("it needs at least 5"), "{error}");
    assert!(new(&sequences(&[9, 5])).is_ok());
}

#[test]
fn an_epoch_can_end_early() {
    let data = data(10, 20_000);
    let plan = plan(&[20_000]);
    let mut feeder =
        Feeder::new(&program(SymbolTable::default()), &plan, &data, &Learned::default(), &provider(2, None, false))
            .expect("feeder");
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
        let mut feeder =
            Feeder::new(&program(SymbolTable::default()), &plan, &data, &Learned::default(), &provider(4, None, false))
                .expect("feeder");
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
    assert!(
        Feeder::new(
            &program(SymbolTable::default()),
            &plan(&[2, 3]),
            &data,
            &Learned::default(),
            &provider(2, None, false)
        )
        .is_ok()
    );
    let error = Feeder::new(
        &program(SymbolTable::default()),
        &plan(&[7]),
        &data,
        &Learned::default(),
        &provider(2, None, false),
    )
    .err();
    assert_eq!(error.map(|e| e.message().to_owned()).as_deref(), Some("`x` has shape 6 in the data, 7 in the model"));
    let error = Feeder::new(
        &program(SymbolTable::default()),
        &plan(&[6]),
        &data,
        &Learned::default(),
        &provider(4, None, true),
    )
    .err();
    assert_eq!(error.map(|e| e.id()), Some("batch-size"));
}
