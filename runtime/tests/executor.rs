//! The executor on a hand-made program: numbers, batch sizes, threads, errors, diagnosis, profile.

mod exec_common;

use exec_common::{INS, OUTS, code, program, values};
use kur_runtime::cpu::Level;
use kur_runtime::dim::Dim;
use kur_runtime::error::Exit;
use kur_runtime::exec::{ExecError, Executor, StepKind};
use kur_runtime::plan::{Call, LibCall, Place};
use kur_runtime::train::engine::Engine;

fn executor(threads: usize) -> Executor {
    let mut e = Executor::new(program(), code(), threads).expect("the program is valid");
    e.init_state(42);
    e
}

/// y = relu(x·w + b) in f64.
fn reference(e: &Executor, x: &[f32]) -> Vec<f64> {
    let (w, b) = (e.state(0), e.state(1));
    let n = x.len() / INS;
    let mut y = vec![0.0; n * OUTS];
    for i in 0..n {
        for j in 0..OUTS {
            let dot: f64 = (0..INS).map(|k| f64::from(x[i * INS + k]) * f64::from(w[k * OUTS + j])).sum();
            y[i * OUTS + j] = (dot + f64::from(b[j])).max(0.0);
        }
    }
    y
}

#[test]
fn a_forward_step_computes_the_layer_for_several_batch_sizes() {
    for level in Level::available() {
        let mut e = Executor::with_level(program(), code(), 2, level).expect("valid");
        e.init_state(42);
        for batch in [1_usize, 7, 300, 7, 64, 1000] {
            let x = values(batch * INS, 3);
            e.run(StepKind::Infer, batch as u64, &[&x], 0, 0).expect("runs");
            let want = reference(&e, &x);
            let got = e.result(StepKind::Infer, 0);
            assert_eq!(got.len(), want.len());
            for (g, w) in got.iter().zip(&want) {
                assert!((f64::from(*g) - w).abs() < 1e-4, "{g} {w}");
            }
        }
    }
}

#[test]
fn steps_see_every_change_of_the_weights() {
    let mut e = executor(2);
    let check = |e: &mut Executor, what: &str| {
        // Sizes at which the weights are read in panels, in blocks, and as they lie.
        for batch in [1_usize, 3, 32, 300, 32, 1] {
            let x = values(batch * INS, 3);
            e.run(StepKind::Infer, batch as u64, &[&x], 0, 0).expect("runs");
            let want = reference(e, &x);
            for (g, w) in e.result(StepKind::Infer, 0).iter().zip(&want) {
                assert!((f64::from(*g) - w).abs() < 1e-4 * w.abs().max(1.0), "{what}, {batch} samples: {g} {w}");
            }
        }
    };
    check(&mut e, "at first");
    e.state_mut(0).iter_mut().for_each(|w| *w *= -3.0);
    check(&mut e, "after a change from outside");
    let (x, t) = (values(64 * INS, 1), values(64 * OUTS, 2));
    e.run(StepKind::Train, 64, &[&x, &t], 9, 0).expect("runs");
    check(&mut e, "after training");
    e.init_state(7);
    check(&mut e, "after a new start");
}

#[test]
fn training_lowers_the_loss_with_the_same_bits_for_any_number_of_threads() {
    let (n, short) = (512, 100);
    let (x, t) = (values(n * INS, 1), values(n * OUTS, 2));
    let run = |threads: usize| {
        let mut e = executor(threads);
        let mut losses = Vec::new();
        for step in 0..20_u32 {
            let n = if step % 4 == 3 { short } else { n };
            e.run(StepKind::Train, n as u64, &[&x[..n * INS], &t[..n * OUTS]], 9, 0).expect("runs");
            losses.push(e.result(StepKind::Train, 0)[0]);
            assert_eq!(e.result(StepKind::Train, 1).len(), n * OUTS);
            assert!(e.result(StepKind::Infer, 0).is_empty());
        }
        (losses, e.state(0).to_vec())
    };
    let one = run(1);
    assert!(one.0[18] < one.0[0], "{:?}", one.0);
    for threads in [2, 4] {
        let many = run(threads);
        assert!(one.0.iter().zip(&many.0).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert!(one.1.iter().zip(&many.1).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn the_control_buffer_carries_seed_and_updates() {
    let (x, t) = (values(32 * INS, 1), values(32 * OUTS, 2));
    let moved = |seed, updates| {
        let mut e = executor(1);
        let before = e.state(0).to_vec();
        e.run(StepKind::Train, 32, &[&x, &t], seed, updates).expect("runs");
        e.state(0).iter().zip(&before).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>()
    };
    let plain = moved(1, 0);
    assert!((moved(9, 0) / plain - 2.0).abs() < 1e-3);
    assert!((moved(1, 1) / plain - 0.5).abs() < 1e-3);
}

#[test]
fn initial_values_depend_on_the_seed_only() {
    let (a, b) = (executor(1), executor(4));
    assert_eq!(a.state(0), b.state(0));
    let limit = (6.0_f32 / (INS + OUTS) as f32).sqrt();
    assert!(a.state(0).iter().all(|w| w.abs() <= limit) && a.state(0).iter().any(|w| w.abs() > 0.9 * limit));
    assert!(a.state(1).iter().all(|b| *b == 0.01));
    let mut c = executor(1);
    c.init_state(43);
    assert_ne!(a.state(0), c.state(0));
    c.state_mut(1)[3] = 5.0;
    assert_eq!(c.state(1)[3], 5.0);
}

#[test]
fn wrong_inputs_and_absent_steps_are_errors() {
    let mut e = executor(1);
    let x = values(4 * INS, 1);
    let message = |r: Result<(), ExecError>| r.expect_err("must fail").to_string();
    assert_eq!(
        message(e.run(StepKind::Infer, 5, &[&x], 0, 0)),
        "the inputs do not fit the plan: input 0 has 384 elements, expected 480"
    );
    assert_eq!(message(e.run(StepKind::Infer, 4, &[], 0, 0)), "the inputs do not fit the plan: 0 given, 1 expected");
    assert_eq!(message(e.run(StepKind::Test, 4, &[&x], 0, 0)), "the program has no test step");
    assert!(matches!(e.run(StepKind::Infer, 1 << 60, &[&x], 0, 0), Err(ExecError::TooLarge(StepKind::Infer))));
    e.run(StepKind::Infer, 4, &[&x], 0, 0).expect("a failed run leaves the executor usable");
    assert_eq!(e.arena_bytes(StepKind::Infer, 3), 64 + (INS * OUTS * 4) as u64 + 3 * 2 * OUTS as u64 * 4);
    assert_eq!(e.arena_bytes(StepKind::Test, 3), 0);
    assert_eq!(e.threads(), 1);
    assert!(e.cpu_name().ends_with(')'));
}

#[test]
fn a_batch_of_nothing_runs() {
    let mut e = executor(2);
    e.run(StepKind::Infer, 0, &[&[]], 0, 0).expect("runs");
    assert!(e.result(StepKind::Infer, 0).is_empty());
}

#[test]
fn damaged_plans_are_errors() {
    type Damage = fn(&mut kur_runtime::plan::Program);
    let at_once: &[(&str, Damage)] = &[
        ("kernels are named", |p| p.kernels.truncate(3)),
        ("does not exist", |p| p.infer.launches[0].bufs[0] = Place::Input { index: 7 }),
        ("does not exist", |p| p.infer.launches[0].bufs[2] = Place::Arena { class: 9, unit_offset: 0 }),
        ("does not exist", |p| p.infer.launches[0].bufs[2] = Place::Arena { class: 1, unit_offset: 4 }),
        ("does not exist", |p| p.infer.launches[0].bufs[1] = Place::State { offset: 1 << 40 }),
        ("unknown layer", |p| p.infer.launches[1].layer = Some(8)),
        ("overlaps", |p| p.state[1].offset = 64),
        ("does not lie in the state block", |p| p.state[1].offset = u64::MAX - 63),
        ("does not lie in the state block", |p| p.state[0].shape = vec![u64::MAX, 3]),
        ("more than any memory", |p| p.state_bytes = u64::MAX),
        ("malformed", |p| p.infer.arena[1].unit_bytes = 3),
        ("malformed", |p| p.infer.arena[1].class = Dim::constant(5)),
        ("lies in an input", |p| p.infer.results[0].place = Place::Input { index: 0 }),
        ("unknown kernel", |p| {
            if let Call::Kernel { kernel, .. } = &mut p.infer.launches[1].call {
                *kernel = 77;
            }
        }),
        ("grain is 0", |p| {
            if let Call::Kernel { grain, .. } = &mut p.infer.launches[1].call {
                *grain = 0;
            }
        }),
        ("unknown symbol", |p| p.infer.results[0].shape[0] = Dim::symbol(kur_runtime::dim::Sym(3))),
    ];
    for (want, damage) in at_once {
        let mut p = program();
        damage(&mut p);
        match Executor::new(p, code(), 1) {
            Ok(_) => panic!("`{want}` was not found"),
            Err(e) => assert!(e.to_string().contains(want), "{e} instead of {want}"),
        }
    }
    let at_bind: &[(&str, Damage)] = &[
        ("2 buffers given, 3 expected", |p| p.infer.launches[0].bufs.truncate(2)),
        ("buffer 1 reaches beyond", |p| p.infer.launches[0].bufs[1] = Place::State { offset: 320 }),
        ("buffer 2 reaches beyond", |p| p.infer.arena[1].unit_bytes = 64),
        ("the output lies in an input", |p| p.infer.launches[0].bufs[2] = Place::Input { index: 0 }),
        ("the output overlaps buffer 1", |p| {
            p.infer.launches[0].bufs[1] = Place::Arena { class: 0, unit_offset: 0 };
            p.infer.launches[0].bufs[2] = Place::Arena { class: 0, unit_offset: 64 };
        }),
        ("result `y` reaches beyond", |p| p.infer.results[0].shape.push(Dim::constant(90))),
    ];
    for (want, damage) in at_bind {
        let mut p = program();
        damage(&mut p);
        let mut e = Executor::new(p, code(), 1).expect("only sizes are wrong");
        let x = values(4 * INS, 1);
        let error = e.run(StepKind::Infer, 4, &[&x], 0, 0).expect_err("damaged").to_string();
        assert!(error.contains(want), "{error} instead of {want}");
    }
}

#[test]
fn a_refused_value_ends_the_step_and_names_layer_and_sample() {
    let mut p = program();
    p.infer.launches[0].call = Call::Lib(LibCall::Gather { count: Dim::batch(), rows: INS as u64, width: OUTS as u64 });
    p.infer.launches[0].bufs.swap(0, 1);
    let mut e = Executor::new(p, code(), 2).expect("valid");
    e.init_state(1);
    let mut x = vec![3.0; 4 * INS];
    e.run(StepKind::Infer, 4, &[&x], 0, 0).expect("3 is a row of the table");
    let (row, bias) = (e.state(0)[3 * OUTS..][..OUTS].to_vec(), e.state(1)[0]);
    let want: Vec<f32> = row.iter().map(|w| (w + bias).max(0.0)).collect();
    assert_eq!(&e.result(StepKind::Infer, 0)[3 * OUTS..], want);
    let before = e.state(0).to_vec();
    x[2] = 96.0;
    let error = e.run(StepKind::Infer, 4, &[&x], 0, 0).expect_err("96 is none");
    let ExecError::Fault { layer, fault } = &error else { panic!("{error}") };
    assert_eq!((*layer, fault.sample), (Some(0), 2));
    assert_eq!(
        error.to_string(),
        "the index 96 is outside a table of 96 rows, which are 0 to 95 (sample 2 of the batch)"
    );
    let error = Engine::run(&mut e, StepKind::Infer, 4, &[&x], 0, 0).expect_err("the same");
    assert_eq!((error.exit(), error.sample()), (Exit::Data, Some(2)));
    assert_eq!(error.helps(), ["layer `dense` (dense, line 1 of the Kurfile) reads it"]);
    assert!(e.profile(StepKind::Infer, 4, &[&x], 0, 0).is_err());
    assert!(e.diagnose(StepKind::Infer, 4, &[&x], 0, 0).expect("looked").launch.is_none());
    assert_eq!(e.state(0), before);
    x[2] = 0.0;
    e.run(StepKind::Infer, 4, &[&x], 0, 0).expect("a fault leaves the executor usable");
}

#[test]
fn a_diagnosis_names_the_first_bad_launch() {
    let mut e = executor(2);
    let (mut x, t) = (values(8 * INS, 1), values(8 * OUTS, 2));
    let good = e.diagnose(StepKind::Train, 8, &[&x, &t], 0, 0).expect("runs");
    assert_eq!((good.state, good.launch, good.layer), (None, None, None));
    x[5] = f32::INFINITY;
    let before = e.state(0).to_vec();
    let bad = e.diagnose(StepKind::Train, 8, &[&x, &t], 0, 0).expect("runs");
    assert_eq!((bad.state, bad.launch, bad.layer), (None, Some(0), Some(0)));
    assert_eq!(e.state(0), before);
    x[5] = 0.0;
    e.state_mut(1)[0] = f32::NAN;
    let bad = e.diagnose(StepKind::Train, 8, &[&x, &t], 0, 0).expect("runs");
    assert_eq!(bad.state, Some(1));
}

#[test]
fn a_profile_has_a_row_per_launch() {
    let mut e = executor(2);
    let (x, t) = (values(8 * INS, 1), values(8 * OUTS, 2));
    let rows = e.profile(StepKind::Train, 8, &[&x, &t], 0, 0).expect("runs");
    let names: Vec<&str> = rows.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["matmul", "bias_relu", "loss", "loss_grad", "matmul", "update"]);
    assert!(rows.iter().all(|r| r.seconds >= 0.0 && r.layer == Some(0)));
}
