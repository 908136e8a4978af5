//! The arithmetic and traffic that `kurc build --report` and `bench --profile` tell equal what one counts by hand.

use kur_runtime::exec::{StepKind, StepWork, Work, launch_name, step_work, usual_sizes};
use kur_runtime::plan::Plan;
use kurc::driver::{Build, Options, Session};
use kurc::frontend::MemoryWorld;

/// A build and the text of a small model: its layers, and what it is trained for.
fn build(layers: &str, train: &str) -> Build {
    let text = format!("model:\n{layers}\n{train}");
    let world = MemoryWorld::with_file("Kurfile.yml", &text);
    let mut session = Session::new(&world);
    match session.compile("Kurfile.yml", &Options::default()) {
        Ok(build) => build,
        Err(e) => panic!("{e:?}: {:?}\n{text}", session.sink.sorted()),
    }
}

/// A step for a batch size, with the names of its launches.
fn step(build: &Build, step: StepKind, batch: u64) -> (Vec<String>, StepWork) {
    let p = &build.program;
    let values = p.symbols.values(&usual_sizes(p, step, batch));
    let plan: &Plan = match step {
        StepKind::Train => p.train.as_ref().expect("a train step"),
        StepKind::Test => p.test.as_ref().expect("a test step"),
        StepKind::Infer => &p.infer,
    };
    let names = plan.launches.iter().map(|l| launch_name(p, l)).collect();
    (names, step_work(p, step, &values).expect("a sound plan").expect("the step"))
}

/// All launches of a name together.
fn named(names: &[String], work: &StepWork, name: &str) -> Work {
    let of = names.iter().zip(&work.launches).filter(|(n, _)| *n == name);
    of.fold(Work::default(), |sum, (_, w)| sum.and(*w))
}

/// The generated kernels together.
fn kernels(build: &Build, names: &[String], work: &StepWork) -> Work {
    let generated = |n: &str| build.program.kernels.iter().any(|k| k.name == n);
    let of = names.iter().zip(&work.launches).filter(|(n, _)| generated(n));
    of.fold(Work::default(), |sum, (_, w)| sum.and(*w))
}

#[test]
fn dense_layers_count_as_by_hand() {
    let b = build("  - input: {shape: [20], name: x}\n  - dense: 30\n  - activation: relu\n    name: y\n", "");
    let (names, work) = step(&b, StepKind::Infer, 8);
    // The bias is added and relu takes the maximum in the product: two operations on each of 8·30 numbers. The bias is
    // read once.
    assert_eq!(names, ["matmul+bias+relu"]);
    let product = named(&names, &work, "matmul+bias+relu");
    assert_eq!(product.flops, 2.0 * 8.0 * 20.0 * 30.0 + 2.0 * 8.0 * 30.0);
    assert_eq!(product.read, 4.0 * (8.0 * 20.0 + 20.0 * 30.0 + 30.0));
    assert_eq!(product.written, 4.0 * 8.0 * 30.0);
    assert_eq!(work.total().flops, product.flops);
    // Input, result and weights, however often they are read; each at a multiple of 64 bytes.
    let least = 4 * (8 * 20 + 8 * 30 + 20 * 30 + 30);
    assert!((least..=least + 4 * 8 * 30).contains(&work.working_set), "{} of {least}", work.working_set);
}

#[test]
fn a_train_step_has_two_products_more_and_an_update() {
    let train = "train: {optimizer: {name: sgd, learning_rate: 0.1}}\nloss: [{target: y, name: mean_squared_error}]\n";
    let model = "  - input: {shape: [20], name: x}\n  - dense: 30\n  - dense: 4\n    name: y\n";
    let b = build(model, train);
    let (names, work) = step(&b, StepKind::Train, 8);
    // Forward, gradient of both kernels, gradient of what the second layer reads; the input needs none.
    let product = |m: f64, n: f64, k: f64| 2.0 * m * n * k;
    let want = 2.0 * product(8.0, 30.0, 20.0) + 3.0 * product(8.0, 4.0, 30.0);
    let biases = 8.0 * 30.0 + 8.0 * 4.0;
    let products = named(&names, &work, "matmul").and(named(&names, &work, "matmul+bias"));
    assert_eq!(products.flops, want + biases);
    // An update multiplies and subtracts for each weight, so the kernels do at least that.
    let params = 20.0 * 30.0 + 30.0 + 30.0 * 4.0 + 4.0;
    let rest = kernels(&b, &names, &work);
    assert!(rest.flops >= 2.0 * params, "{}", rest.flops);
    assert!(rest.read >= 8.0 * params && rest.written >= 4.0 * params, "{rest:?}");
}

#[test]
fn convolutions_count_as_by_hand() {
    let model = "  - input: {shape: [16, 12, 3], name: x}\n  - convolution: {kernels: 8, size: [3, 5], strides: [1, 1]}\n    name: y\n";
    let b = build(model, "");
    let (names, work) = step(&b, StepKind::Infer, 2);
    let conv = named(&names, &work, "conv+bias");
    let cells = 2.0 * 16.0 * 12.0 * 8.0;
    assert_eq!(conv.flops, 2.0 * cells * 15.0 * 3.0 + cells);
    assert_eq!(conv.read, 4.0 * (2.0 * 16.0 * 12.0 * 3.0 + 15.0 * 3.0 * 8.0 + 8.0));
    assert_eq!(conv.written, 4.0 * cells);
}

#[test]
fn recurrent_layers_count_as_by_hand() {
    for (kind, gates) in [("gru", 3.0), ("lstm", 4.0)] {
        let model =
            format!("  - input: {{shape: [7, 5], name: x}}\n  - recurrent: {{size: 16, type: {kind}}}\n    name: y\n");
        let b = build(&model, "");
        let (names, work) = step(&b, StepKind::Infer, 4);
        // The input's product for all steps at once, then a product of the state and some 30 operations on each unit.
        let cells = 4.0 * 7.0 * 16.0 * gates;
        assert_eq!(named(&names, &work, "matmul+bias").flops, 2.0 * cells * 5.0 + cells, "{kind}");
        assert_eq!(named(&names, &work, kind).flops, 4.0 * 7.0 * 16.0 * (2.0 * gates * 16.0 + 30.0), "{kind}");
    }
}

#[test]
fn sizes_add_up_where_they_differ() {
    // A mean over variable steps: operations on n·t numbers and on n ones are different monomials of one kernel or two.
    let model =
        "  - input: {shape: [null, 6], name: x}\n  - recurrent: {size: 4, type: gru, sequence: no}\n    name: y\n";
    let b = build(model, "");
    let p = &b.program;
    let flops = |batch: u64, steps: u64| {
        let sizes: Vec<_> = usual_sizes(p, StepKind::Infer, batch)
            .into_iter()
            .enumerate()
            .map(|(i, (s, v))| (s, if i == 1 { steps } else { v }))
            .collect();
        let work = step_work(p, StepKind::Infer, &p.symbols.values(&sizes)).expect("sound").expect("infer");
        work.total().flops
    };
    assert_eq!(usual_sizes(p, StepKind::Infer, 3).len(), 2);
    assert_eq!(flops(6, 10), 2.0 * flops(3, 10));
    assert_eq!(flops(3, 20), 2.0 * flops(3, 10));
}

#[test]
fn the_report_names_lines_and_totals() {
    let b = build("  - input: {shape: [20], name: x}\n  - dense: 30\n    name: y\n", "");
    let text = b.report(Some(8)).expect("a report");
    assert!(text.starts_with("step infer, batch size 8\n"), "{text}");
    let line = text.lines().find(|l| l.ends_with("matmul+bias @ y")).expect("the product");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words, ["9840", "3160", "960", "2.39", "3", "matmul+bias", "@", "y"]);
    let total = text.lines().find(|l| l.ends_with("total")).expect("a total");
    assert_eq!(total.split_whitespace().next(), Some("9840"));
    // Without an option the batch size is that of the section, or 32.
    assert!(b.report(None).expect("a report").starts_with("step infer, batch size 32\n"));
}
