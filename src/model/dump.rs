//! The typed Kurfile as stable text, for golden tests and `--emit=model`.

use std::fmt::Write as _;

use kur_runtime::spec::{CsvSpec, FileSpec, Missing, Normalize, ProviderSpec, SectionSpec, SupplierSpec};

use super::types::{Clip, Curve, Highway, Kurfile, Layer, LayerKind, Optimizer, OptimizerKind};

/// Prints everything but places.
#[must_use]
pub fn dump(k: &Kurfile) -> String {
    let mut out = format!("kurfile {}\n", k.name);
    if let Some(seed) = k.seed {
        line(&mut out, 0, &format!("seed {seed}"));
    }
    if k.compat_kur {
        line(&mut out, 0, "compat kur");
    }
    for (i, l) in k.layers.iter().enumerate() {
        line(&mut out, 0, &format!("layer {i} {}", layer(l)));
    }
    for o in &k.outputs {
        let aliases = if o.aliases.is_empty() { String::new() } else { format!(" aka {}", o.aliases.join(", ")) };
        line(&mut out, 0, &format!("output {} = layer {}{aliases}", o.name, o.layer.0));
    }
    for m in &k.messages {
        line(&mut out, 0, &format!("message {}", m.value));
    }
    for u in &k.unbuilt {
        line(&mut out, 0, &format!("not built: {}", u.what));
    }
    for l in &k.losses {
        let target = k.outputs.get(l.output).map_or("?", |o| &o.name);
        line(&mut out, 0, &format!("loss {} of {target} weight {}", l.kind.word(), l.weight));
        if let Some(c) = &l.ctc {
            let relative = c.relative_to.as_ref().map_or(String::new(), |r| format!(" of layer {}", r.value.0));
            let flag = |on: bool, word: &str| if on { format!(" {word}") } else { String::new() };
            let flags = flag(c.warp, "warp") + &flag(c.loss_scale, "loss_scale");
            let (frames, labels, lengths) = (&c.input_length.value, &c.labels.value, &c.output_length.value);
            line(&mut out, 1, &format!("frames {frames}{relative} labels {labels} lengths {lengths}{flags}"));
        }
    }
    if let Some(t) = &k.train {
        line(&mut out, 0, "train");
        section(&mut out, &t.section);
        line(&mut out, 1, &t.epochs.map_or("epochs until interrupted".to_owned(), |n| format!("epochs {n}")));
        for (what, path) in [("initial", &t.weights.initial), ("best", &t.weights.best), ("last", &t.weights.last)] {
            if let Some(path) = path {
                let must = if what == "initial" && t.weights.must_exist { " (must exist)" } else { "" };
                line(&mut out, 1, &format!("weights {what} {path}{must}"));
            }
        }
        line(&mut out, 1, &optimizer(&t.optimizer));
    }
    let others = [
        ("validate", &k.validate, &k.validate_best),
        ("test", &k.test, &k.test_weights),
        ("evaluate", &k.evaluate, &k.evaluate_weights),
    ];
    for (name, spec, weights) in others {
        let Some(spec) = spec else { continue };
        line(&mut out, 0, name);
        section(&mut out, &spec.value);
        if let Some(path) = weights {
            line(&mut out, 1, &format!("weights {path}"));
        }
        if let Some(path) = k.destination.as_ref().filter(|_| name == "evaluate") {
            line(&mut out, 1, &format!("destination {path}"));
        }
    }
    out
}

fn line(out: &mut String, depth: usize, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}{text}", "  ".repeat(depth));
}

fn layer(l: &Layer) -> String {
    let inputs: Vec<String> = l.inputs.iter().map(|id| id.0.to_string()).collect();
    let from = if inputs.is_empty() { String::new() } else { format!(" <- {}", inputs.join(", ")) };
    let freeze = if l.freeze { " frozen" } else { "" };
    let regularizer = l.regularizer.map_or(String::new(), |r| format!(" regularizer l1 {} l2 {}", r.l1, r.l2));
    format!("{} {}{}{freeze}{regularizer}{from}", l.name, l.kind.word(), arguments(&l.kind))
}

fn arguments(kind: &LayerKind) -> String {
    let flag = |on: bool, word: &str| if on { format!(" {word}") } else { String::new() };
    let gate = |highway: &Option<Highway>| match highway {
        None => String::new(),
        Some(Highway { bias: None }) => " highway".to_owned(),
        Some(Highway { bias: Some(b) }) => format!(" highway bias {b}"),
    };
    match kind {
        LayerKind::Input { shape, dtype } => {
            let dtype = dtype.as_ref().map_or(String::new(), |t| format!(" type {t}"));
            let Some(s) = shape else { return format!(" shape from data{dtype}") };
            let dims: Vec<String> = s.value.iter().map(|d| d.map_or("null".to_owned(), |n| n.to_string())).collect();
            format!(" shape [{}]{dtype}", dims.join(", "))
        }
        LayerKind::Dense { sizes, flatten, highway } => {
            let sizes: Vec<u64> = sizes.iter().map(|s| s.value).collect();
            format!(" {sizes:?}{}{}", flag(*flatten, "flatten"), gate(highway))
        }
        LayerKind::Activation(a) => format!(" {a:?}"),
        LayerKind::Dropout { fraction, independent } => {
            format!(" {fraction}{}", flag(!independent, "whole channels"))
        }
        LayerKind::Flatten | LayerKind::Output | LayerKind::PositionEmbedding => String::new(),
        LayerKind::Upsample { size } => format!(" {:?}", size.value),
        LayerKind::Pad { before, after } => format!(" before {:?} after {:?}", before.value, after.value),
        LayerKind::GlobalPool { kind } => format!(" {kind:?}"),
        LayerKind::LayerNormalization { epsilon } => format!(" epsilon {epsilon}"),
        LayerKind::Attention { heads, causal } => format!(" heads {}{}", heads.value, flag(*causal, "causal")),
        LayerKind::Expand { dimension } | LayerKind::Squeeze { dimension } => format!(" {dimension}"),
        LayerKind::Convolution { kernels, size, strides, dilation, border, separable, highway } => {
            let wide = dilation.iter().any(|d| *d != 1);
            let wide = if wide { format!(" dilation {dilation:?}") } else { String::new() };
            let more = wide + &flag(*separable, "separable") + &gate(highway);
            format!(" kernels {kernels} size {:?} strides {strides:?} {border:?}{more}", size.value)
        }
        LayerKind::Pool { kind, size, strides, border } => {
            format!(" {kind:?} size {:?} strides {strides:?} {border:?}", size.value)
        }
        LayerKind::BatchNormalization { axis, momentum } => format!(" axis {axis} momentum {momentum}"),
        LayerKind::Recurrent(r) => {
            let both = r.bidirectional.map_or(String::new(), |m| format!(" bidirectional {m:?}"));
            let outer = r.outer_activation.map_or(String::new(), |a| format!(" outer {a:?}"));
            let flags = flag(r.sequence, "sequence") + &flag(r.torch, "torch");
            format!(" {:?} size {}{flags}{both}{outer}", r.cell, r.size.value)
        }
        LayerKind::Embedding { vocab_size, size } => format!(" vocab_size {vocab_size} size {size}"),
        LayerKind::Repeat { count } => format!(" {count}"),
        LayerKind::Transpose { axes, include_batch } => {
            format!(" {:?}{}", axes.value, flag(*include_batch, "include_batch"))
        }
        LayerKind::Merge { mode, axis } => format!(" {mode:?} axis {axis}"),
        LayerKind::Parallel { apply } => {
            format!(" [{}]", apply.iter().map(layer).collect::<Vec<_>>().join("; "))
        }
        LayerKind::Reuse { target, kind } => format!(" {} ({}{})", target.value, kind.word(), arguments(kind)),
    }
}

fn section(out: &mut String, s: &SectionSpec) {
    for supplier in &s.data {
        match supplier {
            SupplierSpec::Csv(c) => csv(out, c),
            SupplierSpec::Mnist { images, labels } => {
                line(out, 1, &format!("data mnist images {} labels {}", file(images), file(labels)));
            }
            SupplierSpec::Arrays { format, file: f } => line(out, 1, &format!("data {} {}", format.word(), file(f))),
            SupplierSpec::Unbuilt { what } => line(out, 1, &format!("data not built: {what}")),
        }
    }
    let ProviderSpec { batch_size, num_batches, randomize, force_batch_size } = &s.provider;
    let limit = num_batches.map_or(String::new(), |n| format!(" num_batches {n}"));
    let flag = |on: bool, word: &str| if on { format!(" {word}") } else { String::new() };
    let flags = flag(*randomize, "randomize") + &flag(*force_batch_size, "force_batch_size");
    line(out, 1, &format!("provider batch_size {batch_size}{limit}{flags}"));
}

fn csv(out: &mut String, c: &CsvSpec) {
    let mut text = format!("data csv {}", file(&c.file));
    let byte = |b: u8| format!("{:?}", char::from(b));
    if let Some(b) = c.delimiter {
        text += &format!(" delimiter {}", byte(b));
    }
    if let Some(b) = c.quote {
        text += &format!(" quote {}", byte(b));
    }
    if !c.header {
        text += " no header";
    }
    line(
        out,
        1,
        &(text
            + &scaling(
                Some(c.normalize).filter(|n| *n != Normalize::None),
                Some(c.missing).filter(|m| *m != Missing::Error),
            )),
    );
    for g in &c.columns {
        let one_hot = g.one_hot.map_or(String::new(), |b| format!(" one_hot {b}"));
        line(out, 2, &format!("{} from {:?}{}{one_hot}", g.name, g.from, scaling(g.normalize, g.missing)));
    }
}

fn scaling(normalize: Option<Normalize>, missing: Option<Missing>) -> String {
    let normalize = normalize.map_or(String::new(), |n| format!(" normalize {n:?}"));
    normalize + &missing.map_or(String::new(), |m| format!(" missing {m:?}"))
}

fn file(f: &FileSpec) -> String {
    let sum = f.checksum.as_ref().map_or(String::new(), |c| format!(" (checksum {}…)", &c[..8.min(c.len())]));
    format!("{}{sum}", f.path)
}

fn optimizer(o: &Optimizer) -> String {
    let mut text = format!("optimizer {}", o.kind.word());
    match o.kind {
        OptimizerKind::Sgd { momentum, nesterov } => {
            text += &format!(" momentum {momentum}{}", if nesterov { " nesterov" } else { "" });
        }
        // Kur's fixed numbers say nothing.
        OptimizerKind::Adam { .. } if o.kind == Optimizer::default().kind => {}
        OptimizerKind::Adam { beta_1, beta_2, epsilon } => {
            text += &format!(" beta_1 {beta_1} beta_2 {beta_2} epsilon {epsilon:e}");
        }
        OptimizerKind::AdamW { beta_1, beta_2, epsilon, weight_decay }
        | OptimizerKind::Lamb { beta_1, beta_2, epsilon, weight_decay } => {
            text += &format!(" beta_1 {beta_1} beta_2 {beta_2} epsilon {epsilon:e} weight_decay {weight_decay}");
        }
        OptimizerKind::Lion { beta_1, beta_2, weight_decay } => {
            text += &format!(" beta_1 {beta_1} beta_2 {beta_2} weight_decay {weight_decay}");
        }
        OptimizerKind::RmsProp { rho, epsilon } | OptimizerKind::AdaDelta { rho, epsilon } => {
            text += &format!(" rho {rho} epsilon {epsilon:e}");
        }
    }
    text += &format!(" learning_rate {} decay {}", o.learning_rate, o.decay);
    text += &match o.clip {
        Clip::None => String::new(),
        Clip::Norm(x) => format!(" clip norm {x}"),
        Clip::Abs(x) => format!(" clip abs {x}"),
    };
    if o.schedule.warmup > 0 {
        text += &format!(" warmup {}", o.schedule.warmup);
    }
    text += &match &o.schedule.curve {
        Curve::Constant => String::new(),
        Curve::Every { every, factor } => format!(" step every {every} factor {factor}"),
        Curve::At { at, factor } => format!(" step at {at:?} factor {factor}"),
        Curve::Exponential { every, factor } => format!(" exponential every {every} factor {factor}"),
        Curve::Cosine { steps, last } => format!(" cosine steps {steps} final {last}"),
        Curve::Linear { steps, last } => format!(" linear steps {steps} final {last}"),
        Curve::Plateau { factor, patience } => format!(" plateau factor {factor} patience {patience}"),
    };
    if let Some(s) = &o.scale_rate {
        text += &format!(" scale_rate {}{}", s.source, if s.sqrt { " sqrt" } else { "" });
    }
    if o.accumulate > 1 {
        text += &format!(" accumulate {}", o.accumulate);
    }
    text
}
