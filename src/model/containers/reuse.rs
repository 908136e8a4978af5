//! `reuse` (kur-reference 3.15): names of containers -> the layers they stand for.
//!
//! The target may be any container: a layer, one inside a `parallel`, one that comes later, or an operator, whose
//! layers are then applied one after another. Each layer of the target becomes a node of its own here, so that later
//! stages know one kind of reuse only: one layer with the weights of one other.

use std::collections::BTreeMap;

use crate::diag::Reported;
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::graph::{cyclic_reuse, model_too_large, reused_input, unknown_reuse};
use crate::model::report::values::wrong_type;
use crate::model::table::{Key, Ty};
use crate::model::types::{LayerKind, Spanned};

use super::expand::{Expander, Node, NodeId, NodeKind};

/// How many layers all `reuse` of a model may stand for.
const MAX_LAYERS: usize = 20_000;

const KEYS: &[Key] = &[Key::new("target", Ty::Text, "name of the container").required()];

/// `reuse: NAME` or a mapping.
pub(super) const FORM: Ty = Ty::AnyOf(&[Ty::Text, Ty::Map(KEYS)]);

/// The name of the target.
pub(super) fn target(cx: &mut Cx<'_>, arg: &Value) -> Result<Spanned<String>, Reported> {
    let (value, what) = match arg.kind {
        Kind::Map(_) => {
            let fields = Fields::open(cx, arg, "`reuse`", KEYS)?;
            (fields.need(cx, "target", "target: NAME")?, fields.what("target"))
        }
        _ => (arg, "`reuse`".to_owned()),
    };
    let Some(name) = value.as_str().filter(|s| !s.is_empty()) else {
        return Err(cx.fail(wrong_type(value, &what, "the name of a container")));
    };
    Ok(Spanned { value: name.to_owned(), span: value.span })
}

/// Replaces every `reuse` by the layers it stands for and gives the nodes of the model.
///
/// # Errors
/// `unknown-reuse`, `cyclic-reuse`, `reused-input`: reported; such nodes are broken then.
pub(in crate::model) fn resolve(cx: &mut Cx<'_>, expander: Expander) -> Vec<Node> {
    let Expander { nodes, members, .. } = expander;
    let mut originals = BTreeMap::new();
    if !collect(&nodes, &mut originals) {
        return nodes;
    }
    let originals: BTreeMap<NodeId, Node> = originals.into_iter().map(|(id, n)| (id, n.clone())).collect();
    Resolver { cx, members: &members, originals: &originals, open: Vec::new(), copies: 0 }.chain(nodes)
}

/// All nodes by their number; whether there is a `reuse` among them.
fn collect<'n>(nodes: &'n [Node], all: &mut BTreeMap<NodeId, &'n Node>) -> bool {
    let mut found = false;
    for node in nodes {
        all.insert(node.id, node);
        found |= matches!(node.kind, NodeKind::Reuse(_));
        found |= collect(&node.children, all);
    }
    found
}

struct Resolver<'r, 'c, 'x> {
    cx: &'x mut Cx<'c>,
    members: &'r BTreeMap<String, Vec<NodeId>>,
    originals: &'r BTreeMap<NodeId, Node>,
    /// The nodes whose children are being resolved, outermost first.
    open: Vec<NodeId>,
    /// Layers made so far.
    copies: usize,
}

impl<'r> Resolver<'r, '_, '_> {
    fn chain(&mut self, nodes: Vec<Node>) -> Vec<Node> {
        nodes.into_iter().flat_map(|node| self.node(node)).collect()
    }

    fn node(&mut self, mut node: Node) -> Vec<Node> {
        let children = std::mem::take(&mut node.children);
        node.children = self.inside(node.id, children);
        let NodeKind::Reuse(target) = node.kind.clone() else { return vec![node] };
        let mut layers = Vec::new();
        if self.layers(&target, &mut vec![node.id], &mut layers).is_err() {
            node.kind = NodeKind::Broken;
            return vec![node];
        }
        let Some(last) = layers.pop() else {
            node.kind = NodeKind::Pass;
            return vec![node];
        };
        let reuse = |of: &Node, kind: LayerKind| {
            NodeKind::Layer(LayerKind::Reuse {
                target: Spanned {
                    value: of.names.first().map_or(String::new(), |n| n.value.clone()),
                    span: target.span,
                },
                kind: Box::new(kind),
            })
        };
        let mut out = Vec::new();
        for (i, (of, kind)) in layers.into_iter().enumerate() {
            let name = Spanned { value: format!("{}.{i}", node.name.value), span: node.name.span };
            out.push(Node {
                names: vec![name.clone()],
                name,
                kind: reuse(of, kind),
                children: self.inside(of.id, of.children.clone()),
                inputs: node.inputs.take(),
                sink: false,
                ..node.clone()
            });
        }
        node.kind = reuse(last.0, last.1);
        node.children = self.inside(last.0.id, last.0.children.clone());
        out.push(node);
        out
    }

    /// The children of a node.
    fn inside(&mut self, parent: NodeId, children: Vec<Node>) -> Vec<Node> {
        if children.is_empty() {
            return children;
        }
        self.open.push(parent);
        let children = self.chain(children);
        self.open.pop();
        children
    }

    /// The layers of a target in their order. `path` holds the `reuse` nodes on the way here.
    fn layers(
        &mut self,
        target: &Spanned<String>,
        path: &mut Vec<NodeId>,
        layers: &mut Vec<(&'r Node, LayerKind)>,
    ) -> Result<(), Reported> {
        let Some(ids) = self.members.get(&target.value) else {
            let names = self.members.keys().map(String::as_str);
            let known: Vec<&str> = names.filter(|n| !n.starts_with("..")).collect();
            return Err(self.cx.fail(unknown_reuse(&target.value, target.span, &known)));
        };
        if self.copies > MAX_LAYERS {
            // Reported where the limit was crossed.
            self.cx.sink.check()?;
        }
        let originals = self.originals;
        for node in ids.iter().filter_map(|id| originals.get(id)) {
            if path.contains(&node.id) || self.open.contains(&node.id) {
                return Err(self.cx.fail(cyclic_reuse(target.span, node.span)));
            }
            match &node.kind {
                NodeKind::Layer(LayerKind::Input { .. }) => {
                    return Err(self.cx.fail(reused_input(&target.value, target.span, node.span)));
                }
                NodeKind::Layer(kind) => layers.push((node, kind.clone())),
                NodeKind::Reuse(next) => {
                    path.push(node.id);
                    self.layers(next, path, layers)?;
                    path.pop();
                }
                NodeKind::Pass => {}
                NodeKind::Broken => self.cx.sink.check()?,
            }
            self.copies += 1;
            if self.copies > MAX_LAYERS {
                return Err(self.cx.fail(model_too_large(target.span, MAX_LAYERS)));
            }
        }
        Ok(())
    }
}
