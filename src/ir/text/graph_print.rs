//! Prints the graph IR.

use std::fmt::Write as _;

use kur_runtime::dim::{Dim, Sym, SymbolTable};
use kur_runtime::plan::{Init, InputRole, RnnCell, RnnGradOf, StepPick};

use super::super::graph::{Graph, NodeId, Role};
use super::super::op::{Control, Op, RnnAttrs, state_role_name};
use super::{literal, quote};

/// The text of a graph, with a final newline.
#[must_use]
pub fn print_graph(g: &Graph) -> String {
    let mut out = String::new();
    let numbers = number(g);
    // Writing to a String cannot fail, so the results are dropped on purpose.
    let _ = writeln!(out, "graph @{} {} {{", g.name, symbols(&g.symbols));
    for l in &g.layers {
        let _ = writeln!(out, "  layer {} line {}", quote(&l.name), l.line);
    }
    for id in g.ids() {
        if let Op::Input { name, role } = &g.node(id).op {
            let _ = writeln!(out, "  input {} {}: {}", role_word(*role), quote(name), g.ty(id).display(&g.symbols));
        }
    }
    for s in &g.states {
        let frozen = if s.trainable || s.role != kur_runtime::plan::StateRole::Param { "" } else { "frozen " };
        let _ = writeln!(
            out,
            "  {frozen}state {} {}: {} = {}",
            state_role_name(s.role),
            quote(&s.name),
            s.ty.display(&g.symbols),
            init(s.init)
        );
    }
    for id in g.ids() {
        instruction(g, &numbers, id, &mut out);
    }
    for r in &g.results {
        let value = operand(g, &numbers, r.value);
        let _ = match &r.role {
            Role::Output(n) => writeln!(out, "  output {} = {value}", quote(n)),
            Role::Metric(n) => writeln!(out, "  metric {} = {value}", quote(n)),
            Role::Update(i) => writeln!(out, "  update {} = {value}", quote(&g.states[*i as usize].name)),
            Role::Gradient(i) => writeln!(out, "  gradient {} = {value}", quote(&g.states[*i as usize].name)),
        };
    }
    out.push_str("}\n");
    out
}

/// Instruction numbers: leaves and constants are printed in place and take none.
fn number(g: &Graph) -> Vec<Option<u32>> {
    let mut next = 0;
    g.nodes
        .iter()
        .map(|n| match n.op {
            Op::Input { .. } | Op::State { .. } | Op::Const(_) => None,
            _ => {
                next += 1;
                Some(next - 1)
            }
        })
        .collect()
}

fn role_word(role: InputRole) -> &'static str {
    match role {
        InputRole::Data => "data",
        InputRole::Target => "target",
        InputRole::Lengths => "lengths",
        InputRole::Control => "control",
    }
}

/// The `symbols(…)` clause.
#[must_use]
pub(crate) fn symbols(t: &SymbolTable) -> String {
    let mut parts = Vec::new();
    for i in 0..t.len() {
        let s = Sym(u8::try_from(i).unwrap_or(u8::MAX));
        parts.push(match t.def(s) {
            None => t.name(s).to_owned(),
            Some(d) => {
                let sign = if d.add < 0 { '-' } else { '+' };
                format!("{} = ({} {sign} {}) / {}", t.name(s), d.base.display(t), d.add.unsigned_abs(), d.div)
            }
        });
    }
    format!("symbols({})", parts.join(", "))
}

fn init(i: Init) -> String {
    match i {
        Init::Constant(v) => format!("constant({})", literal(f64::from(v))),
        Init::Uniform { limit } => format!("uniform({})", literal(f64::from(limit))),
        Init::GlorotUniform { fan_in, fan_out } => format!("glorot_uniform({fan_in}, {fan_out})"),
        Init::Orthogonal => "orthogonal()".to_owned(),
        Init::Block { value, from, to } => format!("block({}, {from}, {to})", literal(f64::from(value))),
    }
}

fn operand(g: &Graph, numbers: &[Option<u32>], id: NodeId) -> String {
    match &g.node(id).op {
        Op::Input { name, role } => format!("{}.{}", role_word(*role), quote(name)),
        Op::State { index } => format!("state.{}", quote(&g.states[*index as usize].name)),
        Op::Const(v) => literal(*v),
        _ => format!("%{}", numbers[id.index()].unwrap_or(u32::MAX)),
    }
}

fn instruction(g: &Graph, numbers: &[Option<u32>], id: NodeId, out: &mut String) {
    let Some(number) = numbers[id.index()] else { return };
    let node = g.node(id);
    let args: Vec<String> = node.args.iter().map(|a| operand(g, numbers, *a)).collect();
    let _ = write!(out, "  %{number} = {}", node.op.name());
    if !args.is_empty() {
        let _ = write!(out, " {}", args.join(", "));
    }
    if let Some(a) = attributes(&node.op, &g.symbols) {
        let _ = write!(out, " {{{a}}}");
    }
    let _ = write!(out, " : {}", node.ty.display(&g.symbols));
    if let Some(l) = node.layer {
        let _ = write!(out, " @{}", l.0);
    }
    out.push('\n');
}

fn attributes(op: &Op, t: &SymbolTable) -> Option<String> {
    let ints = |name: &str, v: &[u32]| format!("{name}={v:?}");
    let dims = |name: &str, v: &[Dim]| {
        let v: Vec<String> = v.iter().map(|d| d.display(t).to_string()).collect();
        format!("{name}=[{}]", v.join(", "))
    };
    Some(match op {
        Op::Control(Control::Seed) => "seed".to_owned(),
        Op::Control(Control::Updates) => "updates".to_owned(),
        Op::Size(d) => format!("dim={}", d.display(t)),
        Op::Random { key } => format!("key={key}"),
        Op::Reduce { axes, .. } => format!("axes={axes:?}"),
        Op::Transpose { perm } => format!("perm={perm:?}"),
        Op::MatMul { ta, tb } => match (ta, tb) {
            (false, false) => return None,
            (true, false) => "ta".to_owned(),
            (false, true) => "tb".to_owned(),
            (true, true) => "ta, tb".to_owned(),
        },
        Op::Conv(a) | Op::ConvGradInput(a) | Op::ConvGradWeight(a) => {
            let mut parts = vec![
                ints("stride", &a.stride),
                ints("pad", &a.pad),
                ints("dilation", &a.dilation),
                dims("out", &a.output),
            ];
            if a.groups != 1 {
                parts.push(format!("groups={}", a.groups));
            }
            parts.join(", ")
        }
        Op::Pool(a) | Op::PoolGrad(a) => {
            let mut parts =
                vec![ints("window", &a.window), ints("stride", &a.stride), ints("pad", &a.pad), dims("out", &a.output)];
            if a.average {
                parts.push("average".to_owned());
            }
            parts.join(", ")
        }
        Op::Rnn(a) => rnn(a, false),
        Op::RnnGrad(a, of) => {
            let of = if *of == RnnGradOf::Final { ", final" } else { "" };
            rnn(a, true) + of
        }
        Op::RnnGradWeight(a) | Op::RnnGradBias(a) => rnn(a, true),
        Op::Part(p) | Op::PartGrad(p) => {
            let steps = match p.steps {
                StepPick::All => "",
                StepPick::First => ", first",
                StepPick::Last => ", last",
            };
            format!("part={}, parts={}{steps}", p.part, p.parts)
        }
        Op::Scan { reverse: true } | Op::Shift { reverse: true } => "reverse".to_owned(),
        Op::Ctc { blank_first: true } | Op::CtcGrad { blank_first: true } => "blank_first".to_owned(),
        Op::Lengths { window, stride } => [ints("window", window), ints("stride", stride)].join(", "),
        Op::Scan { .. } | Op::Shift { .. } | Op::Ctc { .. } | Op::CtcGrad { .. } => return None,
        Op::Concat { axis } => format!("axis={axis}"),
        Op::Slice { axis, start } | Op::Pad { axis, start } => format!("axis={axis}, {}", dims("start", start)),
        Op::Gather
        | Op::GatherGrad
        | Op::Input { .. }
        | Op::State { .. }
        | Op::Const(_)
        | Op::Map(_)
        | Op::Broadcast
        | Op::Reshape
        | Op::Softmax { .. }
        | Op::ArgMax
        | Op::Positions => return None,
    })
}

/// Attributes of a recurrent layer; `cell` where the name of the operation does not say it.
fn rnn(a: &RnnAttrs, cell: bool) -> String {
    let mut parts = Vec::new();
    if cell {
        parts.push(rnn_cell_name(a.cell).to_owned());
    }
    parts.push(format!("inner_{}", a.inner.name()));
    parts.push(format!("outer_{}", a.outer.name()));
    if a.reverse {
        parts.push("reverse".to_owned());
    }
    parts.join(", ")
}

/// The word of a cell in text.
pub(super) fn rnn_cell_name(cell: RnnCell) -> &'static str {
    match cell {
        RnnCell::Gru => "gru",
        RnnCell::GruAfter => "gru_after",
        RnnCell::Lstm => "lstm",
    }
}
