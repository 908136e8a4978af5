//! Rules about reductions. In: a reduction whose operands are those of the new graph. Out: something cheaper with the
//! same value. What is constant along the reduced axes leaves the sum, so that a sum of scaled values is a scaled sum,
//! which the graph often has already (gradients of normalisations).

use kur_runtime::dim::Dim;

use super::{constant, push};
use crate::ir::graph::{Graph, Node, NodeId};
use crate::ir::kernel::{ReduceOp, ScalarOp};
use crate::ir::op::Op;

/// A reduction of a reduction that nothing else reads is one reduction over the axes of both.
pub(super) fn merge(g: &mut Graph, node: &Node, uses: &[u32]) -> Option<NodeId> {
    let Op::Reduce { op, axes } = &node.op else { return None };
    let x = node.args[0];
    let Op::Reduce { op: inner, axes: first } = &g.node(x).op else { return None };
    if inner != op || uses.get(x.index()) != Some(&1) {
        return None;
    }
    let mut both: Vec<usize> = axes.iter().chain(first).copied().collect();
    both.sort_unstable();
    both.dedup();
    let (op, x) = (*op, g.node(x).args[0]);
    Some(push(g, Op::Reduce { op, axes: both }, vec![x], node))
}

/// The rules that look at one reduction alone.
pub(super) fn simplify(g: &mut Graph, node: &Node, op: ReduceOp, axes: &[usize]) -> Option<NodeId> {
    // Axes of size 1 have nothing to combine.
    let x = node.args[0];
    let shape = g.shape(x);
    let real: Vec<usize> = axes.iter().copied().filter(|a| shape[*a] != Dim::ONE).collect();
    if real.is_empty() {
        return Some(x);
    }
    if real.len() < axes.len() {
        return Some(push(g, Op::Reduce { op, axes: real }, node.args.clone(), node));
    }
    if op != ReduceOp::Add {
        return None;
    }
    let Op::Map(inner) = g.node(x).op else { return None };
    let operands = g.node(x).args.clone();
    match (inner, operands[..].first(), operands.get(1)) {
        (ScalarOp::Neg, Some(a), _) => {
            let sum = sum_like(g, *a, axes, node);
            Some(push(g, Op::Map(ScalarOp::Neg), vec![sum], node))
        }
        (ScalarOp::Sub, Some(a), Some(b)) if is_mean(g, *b, *a, axes) => {
            let zero = g.add(Op::Const(0.0), &[], node.layer);
            Some(push(g, Op::Broadcast, vec![zero], node))
        }
        (ScalarOp::Mul | ScalarOp::Div, Some(a), Some(b)) => {
            let (a, b) = (*a, *b);
            let (each, factor) = if varies(g, a, x, axes) && fixed(g, b, x, axes) {
                (a, b)
            } else if inner == ScalarOp::Mul && varies(g, b, x, axes) && fixed(g, a, x, axes) {
                (b, a)
            } else {
                return None;
            };
            let sum = sum_like(g, each, axes, node);
            Some(push(g, Op::Map(inner), vec![sum, factor], node))
        }
        _ => None,
    }
}

/// The sum of another value over the same axes.
fn sum_like(g: &mut Graph, x: NodeId, axes: &[usize], node: &Node) -> NodeId {
    g.add(Op::Reduce { op: ReduceOp::Add, axes: axes.to_vec() }, &[x], node.layer)
}

/// Whether `a`, an operand of `whole`, has every element of it along the axes.
fn varies(g: &Graph, a: NodeId, whole: NodeId, axes: &[usize]) -> bool {
    let (own, all) = (g.shape(a), g.shape(whole));
    own.len() == all.len() && axes.iter().all(|i| own[*i] == all[*i])
}

/// Whether `a`, an operand of `whole`, is stretched along the axes.
fn fixed(g: &Graph, a: NodeId, whole: NodeId, axes: &[usize]) -> bool {
    let (own, all) = (g.shape(a), g.shape(whole));
    let missing = all.len() - own.len();
    axes.iter().all(|i| *i < missing || own[*i - missing] == Dim::ONE)
}

/// Whether `m` is the mean of `x` over the axes: the sum of deviations from it is 0.
fn is_mean(g: &Graph, m: NodeId, x: NodeId, axes: &[usize]) -> bool {
    let node = g.node(m);
    let (Op::Map(ScalarOp::Div), [sum, count]) = (&node.op, &node.args[..]) else { return false };
    let of_x = matches!(&g.node(*sum).op, Op::Reduce { op: ReduceOp::Add, axes: own } if own == axes)
        && g.node(*sum).args[0] == x;
    let shape = g.shape(x);
    let terms = Dim::product(&axes.iter().map(|a| shape[*a]).collect::<Vec<_>>());
    let counted = match g.node(*count).op {
        Op::Size(d) => d == terms,
        #[expect(clippy::cast_precision_loss, reason = "sizes above 2^53 cannot be allocated")]
        _ => constant(g, *count).is_some_and(|c| terms.as_const().is_some_and(|t| c.to_bits() == (t as f64).to_bits())),
    };
    of_x && counted
}
