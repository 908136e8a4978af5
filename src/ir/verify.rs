//! The graph verifier: collects every finding, each tied to a node, and can print them inside the IR text.

use std::collections::BTreeSet;

use kur_runtime::dim::Dim;
use kur_runtime::plan::InputRole;

use super::graph::{Graph, NodeId, Role};
use super::infer::infer;
use super::op::Op;
use super::text::print_graph;
use super::types::{DType, Type};

/// Elements that a tensor may have beside its symbolic sizes: offsets in bytes stay far from the end of the numbers.
const MAX_ELEMENTS: u64 = 1 << 48;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The node, or `None` for the graph as a whole.
    pub node: Option<NodeId>,
    /// What is wrong.
    pub message: String,
}

/// All broken invariants of a graph.
#[must_use]
pub fn verify(g: &Graph) -> Vec<Finding> {
    let mut out = Vec::new();
    let mut inputs = BTreeSet::new();
    for id in g.ids() {
        if let Some(message) = verify_node(g, id, &mut inputs) {
            out.push(Finding { node: Some(id), message });
        }
    }
    let mut updated = vec![false; g.states.len()];
    let mut names: Vec<(u8, &str)> = Vec::new();
    for r in &g.results {
        let mut report = |message: String| out.push(Finding { node: Some(r.value), message });
        if r.value.index() >= g.nodes.len() {
            report("a result names no node".to_owned());
            continue;
        }
        match &r.role {
            Role::Metric(name) => {
                if g.ty(r.value) != &Type::scalar() {
                    report(format!("metric `{name}` is not a float scalar"));
                }
                names.push((0, name));
            }
            Role::Output(name) => {
                if g.ty(r.value).dtype != DType::F32 {
                    report(format!("output `{name}` does not hold floats"));
                }
                names.push((1, name));
            }
            Role::Update(i) | Role::Gradient(i) => match g.states.get(*i as usize) {
                Some(s) if &s.ty != g.ty(r.value) => {
                    report(format!("the result for `{}` has another type than the state", s.name));
                }
                Some(_) if updated[*i as usize] => report("a state is updated twice".to_owned()),
                Some(_) => updated[*i as usize] = true,
                None => report("an update names no state".to_owned()),
            },
        }
    }
    names.sort_unstable();
    if let Some(w) = names.windows(2).find(|w| w[0] == w[1]) {
        out.push(Finding { node: None, message: format!("two results are called `{}`", w[0].1) });
    }
    let mut state_names: Vec<&str> = g.states.iter().map(|s| s.name.as_str()).collect();
    state_names.sort_unstable();
    if let Some(w) = state_names.windows(2).find(|w| w[0] == w[1]) {
        out.push(Finding { node: None, message: format!("two states are called `{}`", w[0]) });
    }
    for s in &g.states {
        if s.ty.shape.iter().any(|d| !d.is_const()) {
            out.push(Finding { node: None, message: format!("state `{}` has no constant shape", s.name) });
        }
    }
    out
}

/// `inputs` holds the inputs before this node.
fn verify_node<'g>(g: &'g Graph, id: NodeId, inputs: &mut BTreeSet<(&'g str, InputRole)>) -> Option<String> {
    let node = g.node(id);
    if node.args.iter().any(|a| *a >= id) {
        return Some("an operand does not precede its use".to_owned());
    }
    if let Op::State { index } = node.op {
        return match g.states.get(index as usize) {
            Some(s) if s.ty == node.ty => None,
            _ => Some("the node does not match its state".to_owned()),
        };
    }
    if let Op::Input { name, role } = &node.op {
        if !inputs.insert((name, *role)) {
            return Some(format!("input `{name}` is declared twice"));
        }
        if *role == InputRole::Control {
            return Some("control values are read by `control`, not by an input".to_owned());
        }
    }
    if node.layer.is_some_and(|l| l.0 as usize >= g.layers.len()) {
        return Some("unknown layer".to_owned());
    }
    if node.ty.shape.iter().any(|d| *d == Dim::constant(0)) {
        return Some("a size is 0".to_owned());
    }
    if node.ty.len().coef() > MAX_ELEMENTS {
        return Some("the tensor has more than 2^48 elements".to_owned());
    }
    let args: Vec<&Type> = node.args.iter().map(|a| g.ty(*a)).collect();
    match infer(&node.op, &args, Some(&node.ty)) {
        Ok(ty) if ty == node.ty => None,
        Ok(ty) => Some(format!("the type should be {}", ty.display(&g.symbols))),
        Err(e) => Some(e),
    }
}

/// The text of the graph with each finding on a comment line below the instruction it concerns.
#[must_use]
pub fn annotate(g: &Graph, findings: &[Finding]) -> String {
    let mut number = 0;
    let mut by_line: Vec<(String, String)> = Vec::new();
    let mut general = String::new();
    for id in g.ids() {
        let printed = !matches!(g.node(id).op, Op::Input { .. } | Op::State { .. } | Op::Const(_));
        for f in findings.iter().filter(|f| f.node == Some(id)) {
            if printed {
                by_line.push((format!("  %{number} = "), f.message.clone()));
            } else {
                general.push_str(&format!("// error: {}: {}\n", g.node(id).op.name(), f.message));
            }
        }
        number += u32::from(printed);
    }
    for f in findings.iter().filter(|f| f.node.is_none()) {
        general.push_str(&format!("// error: {}\n", f.message));
    }
    let mut out = String::new();
    for line in print_graph(g).lines() {
        out.push_str(line);
        out.push('\n');
        for (start, message) in &by_line {
            if line.starts_with(start.as_str()) {
                out.push_str(&format!("  // ^ error: {message}\n"));
            }
        }
    }
    out + &general
}
