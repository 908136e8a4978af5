//! Assembles the program for the runtime: state layout, run specification, summary rows; and looks at the data.

use kur_runtime::data::{self, ProbedSource, Role, TargetHint, with_file};
use kur_runtime::dim::{Dim, DimSum, SymbolTable};
use kur_runtime::error::Error;
use kur_runtime::plan::{ALIGN, BufInfo, KernelInfo, LayerInfo, Plan, Program, StateSpec};
use kur_runtime::spec::{
    AccumulateSpec, InputSpec, OutputSpec, PlateauSpec, RateSpec, RunSpec, SectionSpec, SupplierSpec,
};

use super::{Options, Step, Stop};
use crate::diag::SourceMap;
use crate::ir::kernel::{BufDecl, Kernel, Stmt};
use crate::lower::model::{Lowered, Mode};
use crate::model::types::{
    BATCHES, Curve, DataShape, Kurfile, LAST_BATCH, LayerKind, Need, Optimizer, PLATEAU, PLATEAU_SEEN, data_sections,
};
use crate::shapes::Shapes;

/// The optimizer of the train section; adam where there is none (kur-reference 5.3).
pub(super) fn optimizer(kurfile: &Kurfile) -> Optimizer {
    kurfile.train.as_ref().map_or_else(Optimizer::default, |t| t.optimizer.clone())
}

/// The section whose data gives the shapes: the first that has data; a file from the command line replaces its files
/// but keeps its columns.
pub(super) fn section(kurfile: &Kurfile, file: Option<&str>) -> Option<SectionSpec> {
    let sections: Vec<&SectionSpec> = data_sections(kurfile).into_iter().map(|(_, s)| s).collect();
    let found = sections.iter().find(|s| !s.data.is_empty()).copied();
    match file {
        None => found.cloned(),
        Some(path) => {
            let all: Vec<Option<&SectionSpec>> = sections.into_iter().map(Some).collect();
            Some(with_file(found, &all, path))
        }
    }
}

/// The file that gives the shapes instead of the Kurfile's own data, if any. A file that is only tested on does unless
/// the Kurfile's own data shows that it lacks something: the label, some classes, or all sense.
pub(super) fn shape_file<'a>(kurfile: &Kurfile, options: &'a Options) -> Option<&'a str> {
    let Some(tested) = options.tested.as_deref() else { return options.data.as_deref() };
    let Ok(Some(own)) = probe(kurfile, None, None) else { return Some(tested) };
    let Ok(Some(other)) = probe(kurfile, None, Some(tested)) else { return None };
    let less = |(role, shape): &(Role, DataShape)| {
        let same = other.iter().find(|(_, s)| s.name == shape.name);
        *role == Role::Target && same.is_none_or(|(_, s)| s.shape.last() < shape.shape.last())
    };
    if own.iter().any(less) { None } else { Some(tested) }
}

/// Data that the loss of an output reads instead of a target named like it (kur-reference 5.2).
fn loss_reads(kurfile: &Kurfile, output: usize) -> Vec<String> {
    let ctc = kurfile.losses.iter().filter(|l| l.output == output).find_map(|l| l.ctc.as_ref());
    ctc.map_or(Vec::new(), |c| {
        vec![c.labels.value.clone(), c.input_length.value.clone(), c.output_length.value.clone()]
    })
}

/// Looks at the data. Before the model is lowered nothing is known of the outputs (`infer` is `None`); then only the
/// inputs' shapes are of use. `None` when the Kurfile names no data.
pub(super) fn probe(
    kurfile: &Kurfile,
    infer: Option<&Lowered>,
    file: Option<&str>,
) -> Result<Option<Vec<(Role, DataShape)>>, Error> {
    let Some(section) = section(kurfile, file) else { return Ok(None) };
    if section.data.iter().any(|s| matches!(s, SupplierSpec::Unbuilt { .. })) {
        return Ok(None);
    }
    let mut inputs: Vec<String> =
        kurfile.layers.iter().filter(|l| matches!(l.kind, LayerKind::Input { .. })).map(|l| l.name.clone()).collect();
    inputs.extend(kurfile.rate_source().map(str::to_owned));
    let mut hints: Vec<TargetHint> = Vec::new();
    for (i, o) in kurfile.outputs.iter().enumerate().filter(|(i, _)| kurfile.losses.iter().any(|l| l.output == *i)) {
        let reads = loss_reads(kurfile, i);
        if reads.is_empty() {
            let known = infer.and_then(|l| l.outputs.get(i));
            let width = known.filter(|(_, softmax)| *softmax).and_then(|(s, _)| s.last()).and_then(|d| d.as_const());
            hints.push(TargetHint { name: o.name.clone(), aliases: o.aliases.clone(), softmax_width: width });
        }
        for name in reads {
            if hints.iter().all(|h| h.name != name) {
                hints.push(TargetHint::named(&name));
            }
        }
    }
    let origin = section.data.first().map_or(String::new(), |s| match s {
        SupplierSpec::Csv(c) => c.file.path.clone(),
        SupplierSpec::Mnist { images, .. } => images.path.clone(),
        SupplierSpec::Arrays { file, .. } => file.path.clone(),
        SupplierSpec::Unbuilt { what } => what.clone(),
    });
    let found = data::probe(&section, &inputs, &hints)?;
    let reshapes = section.data.iter().all(|s| matches!(s, SupplierSpec::Csv(_)));
    let shape = |mut s: ProbedSource| {
        if let Some(first) = s.shape.first_mut().filter(|_| s.variable) {
            *first = 0;
        }
        (s.role, DataShape { name: s.name, shape: s.shape, source: origin.clone(), reshapes })
    };
    Ok(Some(found.sources.into_iter().map(shape).collect()))
}

/// Shapes of data whose files are not there, where the format fixes them: pictures and classes of MNIST and CIFAR-10.
pub(super) fn fixed_shapes(kurfile: &Kurfile) -> Vec<DataShape> {
    let mut found: Vec<DataShape> = Vec::new();
    for supplier in section(kurfile, None).iter().flat_map(|s| &s.data) {
        let (images, source) = match supplier {
            SupplierSpec::Mnist { .. } => ([28, 28, 1], "mnist"),
            SupplierSpec::Unbuilt { what } if what == "the supplier `cifar`" => ([32, 32, 3], "cifar"),
            SupplierSpec::Csv(_) | SupplierSpec::Arrays { .. } | SupplierSpec::Unbuilt { .. } => continue,
        };
        for (name, shape) in [("images", images.to_vec()), ("labels", vec![10])] {
            let source = source.to_owned();
            found.push(DataShape { name: name.to_owned(), shape, source, reshapes: false });
        }
    }
    found
}

/// The states of the program with their places. All steps share the model's states; the train step's optimizer state
/// comes behind.
pub(super) fn states(steps: &[Step]) -> Result<Vec<StateSpec>, Stop> {
    let longest = steps.iter().max_by_key(|s| s.graph.states.len());
    let Some(longest) = longest else { return Ok(Vec::new()) };
    for s in steps {
        let same = s.graph.states.iter().zip(&longest.graph.states).all(|(a, b)| a.name == b.name && a.ty == b.ty);
        if !same {
            return Err(Stop::Internal {
                stage: "states".to_owned(),
                message: format!(
                    "the steps {} and {} disagree about the model's state",
                    s.mode.name(),
                    longest.mode.name()
                ),
                dump: crate::ir::text::print_graph(&s.graph),
            });
        }
    }
    let mut at = 0;
    Ok(longest
        .graph
        .states
        .iter()
        .map(|s| {
            let shape: Vec<u64> = s.ty.shape.iter().map(|d| d.coef()).collect();
            let spec = StateSpec { name: s.name.clone(), shape, role: s.role, init: s.init, offset: at };
            at = (at + spec.len() * 4).next_multiple_of(ALIGN);
            spec
        })
        .collect())
}

/// The symbols of all sizes. The steps lower the model alike, so the table of each begins with that of the model.
pub(super) fn symbols(steps: &[Step]) -> Result<SymbolTable, Stop> {
    let longest = steps.iter().max_by_key(|s| s.graph.symbols.len());
    let Some(longest) = longest.map(|s| &s.graph.symbols) else { return Ok(SymbolTable::default()) };
    for s in steps {
        if !longest.starts_with(&s.graph.symbols) {
            return Err(Stop::Internal {
                stage: "symbols".to_owned(),
                message: format!("the step {} has sizes of its own", s.mode.name()),
                dump: crate::ir::text::print_graph(&s.graph),
            });
        }
    }
    Ok(longest.clone())
}

/// Puts everything together.
#[expect(clippy::too_many_arguments, reason = "the parts of a program, one by one")]
pub(super) fn assemble(
    kurfile: &Kurfile,
    shapes: &Shapes,
    infer: &Lowered,
    state: Vec<StateSpec>,
    symbols: SymbolTable,
    plans: Vec<(Mode, Plan)>,
    kernels: &[Kernel],
    sources: &SourceMap,
) -> Program {
    let state_bytes = state.last().map_or(0, |s| (s.offset + s.len() * 4).next_multiple_of(ALIGN));
    let layers = kurfile
        .layers
        .iter()
        .zip(&shapes.layers)
        .map(|(l, row)| LayerInfo {
            name: l.name.clone(),
            kind: l.kind.word().to_owned(),
            shape: row.shape.iter().flatten().map(|s| s.to_string()).collect::<Vec<_>>().join("x"),
            params: row.params.unwrap_or(0),
            line: sources.line(l.span),
        })
        .collect();
    let of = |want: Mode| plans.iter().find(|(m, _)| *m == want).map(|(_, p)| p.clone());
    let (train, test, infer_plan) = (of(Mode::Train), of(Mode::Test), of(Mode::Infer));
    let empty = Plan { inputs: Vec::new(), results: Vec::new(), arena: Vec::new(), launches: Vec::new() };
    Program {
        compiler: env!("CARGO_PKG_VERSION").to_owned(),
        symbols,
        state,
        state_bytes,
        train,
        test,
        infer: infer_plan.unwrap_or(empty),
        kernels: kernels.iter().map(info).collect(),
        layers,
        run: run_spec(kurfile, shapes, infer),
    }
}

/// Sizes as numbers, 0 where they vary.
fn constants(shape: &[Dim]) -> Vec<u64> {
    shape.iter().map(|d| d.as_const().unwrap_or(0)).collect()
}

fn run_spec(kurfile: &Kurfile, shapes: &Shapes, infer: &Lowered) -> RunSpec {
    let inputs = kurfile
        .layers
        .iter()
        .zip(&shapes.layers)
        .filter(|(l, _)| matches!(l.kind, LayerKind::Input { .. }))
        .map(|(l, row)| InputSpec {
            name: l.name.clone(),
            shape: row.shape.iter().flatten().map(|s| s.known().unwrap_or(0)).collect(),
        })
        .collect();
    let outputs = kurfile
        .outputs
        .iter()
        .zip(&infer.outputs)
        .enumerate()
        .map(|(i, (o, (shape, softmax)))| OutputSpec {
            name: o.name.clone(),
            aliases: o.aliases.clone(),
            shape: constants(shape),
            softmax: *softmax,
            loss: kurfile.losses.iter().find(|l| l.output == i).map(|l| l.kind.word().to_owned()),
            loss_reads: loss_reads(kurfile, i),
            metrics: kurfile.losses.iter().find(|l| l.output == i).map(|l| l.metrics.clone()).unwrap_or_default(),
            blank_first: kurfile.losses.iter().any(|l| l.output == i && l.ctc.as_ref().is_some_and(|c| c.warp)),
        })
        .collect();
    let train = kurfile.train.as_ref();
    RunSpec {
        name: kurfile.name.clone(),
        seed: kurfile.seed.unwrap_or(0),
        inputs,
        outputs,
        train: train.map(|t| t.section.clone()),
        validate: kurfile.validate.as_ref().map(|s| s.value.clone()),
        test: kurfile.test.as_ref().map(|s| s.value.clone()),
        evaluate: kurfile.evaluate.as_ref().map(|s| s.value.clone()),
        epochs: train.and_then(|t| t.epochs),
        train_weights: train.map(|t| t.weights.clone()).unwrap_or_default(),
        unbuilt: kurfile.unbuilt.iter().filter(|u| u.need == Need::Run).map(|u| u.what.clone()).collect(),
        validate_best: kurfile.validate_best.clone(),
        test_weights: kurfile.test_weights.clone(),
        evaluate_weights: kurfile.evaluate_weights.clone(),
        destination: kurfile.destination.clone(),
        rate: rate_spec(kurfile),
    }
}

fn rate_spec(kurfile: &Kurfile) -> RateSpec {
    let schedule = kurfile.train.as_ref().map(|t| &t.optimizer.schedule.curve);
    let plateau = match schedule {
        Some(Curve::Plateau { factor, patience }) => Some(PlateauSpec {
            factor: *factor,
            patience: *patience,
            state: PLATEAU.to_owned(),
            seen: PLATEAU_SEEN.to_owned(),
        }),
        _ => None,
    };
    let accumulate = (optimizer(kurfile).accumulate > 1)
        .then(|| AccumulateSpec { batches: BATCHES.to_owned(), last: LAST_BATCH.to_owned() });
    RateSpec { source: kurfile.rate_source().map(str::to_owned), plateau, accumulate }
}

/// Work and buffers of a kernel, for reports.
fn info(k: &Kernel) -> KernelInfo {
    let mut flops = DimSum::default();
    work(&k.body, Dim::ONE, &mut flops);
    let buf = |b: &BufDecl| BufInfo { len: b.len, reads: b.access.loads(), writes: b.access.stores() };
    KernelInfo { name: k.name.clone(), flops, bufs: k.bufs.iter().map(buf).collect() }
}

/// Adds the arithmetic operations of a statement that runs `times` times.
fn work(s: &Stmt, times: Dim, sum: &mut DimSum) {
    match s {
        Stmt::For { extent, body, .. } => body.iter().for_each(|s| work(s, times.times(*extent), sum)),
        Stmt::Reduce { extent, body, accs, .. } => {
            let times = times.times(*extent);
            sum.add(times.times(Dim::from(accs.len())));
            body.iter().for_each(|s| work(s, times, sum));
        }
        Stmt::Let { op, .. } => sum.add(times.times(Dim::constant(op.flops()))),
        // The mixing is on whole numbers; the draw becomes a float by one operation.
        Stmt::Random { .. } => sum.add(times),
        Stmt::Load { .. } | Stmt::Store { .. } => {}
    }
}
