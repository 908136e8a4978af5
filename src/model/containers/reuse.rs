//! `reuse` (kur-reference 3.15): names of containers -> the layers they stand for.
//!
//! The target may be any container: a layer, one inside a `parallel`, one that comes later, or an operator, whose
//! layers are then applied one after another. Each layer of the target becomes a node of its own here, so that later
//! stages know one kind of reuse only: one layer with the weights of one other.

use std::collections::BTreeMap;

use crate::diag::{Reported, Suggestions};
use crate::frontend::Value;
use crate::frontend::value::Kind;
use crate::model::convert;
use crate::model::cx::Cx;
use crate::model::fields::Fields;
use crate::model::report::graph::{cyclic_reuse, model_too_large, reuse_too_deep, reused_input, unknown_reuse};
use crate::model::report::values::wrong_type;
use crate::model::table::{Key, Ty};
use crate::model::types::{LayerKind, Spanned};

use super::expand::{Expander, Node, NodeId, NodeKind};

/// How many layers all `reuse` of a model may stand for.
const MAX_LAYERS: usize = 20_000;

/// How deep `parallel` layers may nest through `reuse`.
const MAX_DEPTH: usize = 50;

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
    match convert::written(value) {
        Some(name) => Ok(Spanned { value: name, span: value.span }),
        None => Err(cx.fail(wrong_type(value, &what, "the name of a container"))),
    }
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
    let names = members.keys().map(String::as_str).filter(|n| !n.starts_with("..")).collect();
    let mut resolver = Resolver {
        cx,
        members: &members,
        originals: &originals,
        suggestions: Suggestions::new(names),
        known: BTreeMap::new(),
        open: Vec::new(),
        followed: 0,
        copies: 0,
    };
    resolver.chain(nodes)
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
    suggestions: Suggestions<'r>,
    /// What was found out about `reuse` nodes so far.
    known: BTreeMap<NodeId, Known>,
    /// The nodes whose children are being resolved, outermost first.
    open: Vec<NodeId>,
    /// Layers in `known`.
    followed: usize,
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
        let originals = self.originals;
        let Some(NodeKind::Reuse(target)) = originals.get(&node.id).map(|n| &n.kind) else { return vec![node] };
        let Ok(mut layers) = self.copied(node.id, target) else {
            node.kind = NodeKind::Broken;
            return vec![node];
        };
        let Some(last) = layers.pop() else {
            node.kind = NodeKind::Pass;
            return vec![node];
        };
        let reuse = |(of, kind): (&Node, &LayerKind)| {
            NodeKind::Layer(LayerKind::Reuse {
                target: Spanned {
                    value: of.names.first().map_or(String::new(), |n| n.value.clone()),
                    span: target.span,
                },
                kind: Box::new(kind.clone()),
            })
        };
        let mut out = Vec::new();
        for (i, (of, kind)) in layers.into_iter().enumerate() {
            let name = Spanned { value: format!("{}.{i}", node.name.value), span: node.name.span };
            out.push(Node {
                names: vec![name.clone()],
                name,
                kind: reuse((of, kind)),
                children: self.inside(of.id, of.children.clone()),
                inputs: node.inputs.take(),
                sink: false,
                ..node.clone()
            });
        }
        node.kind = reuse(last);
        node.children = self.inside(last.0.id, last.0.children.clone());
        out.push(node);
        out
    }

    /// The layers that a `reuse` puts where it stands.
    fn copied(
        &mut self,
        node: NodeId,
        target: &'r Spanned<String>,
    ) -> Result<Vec<(&'r Node, &'r LayerKind)>, Reported> {
        if self.copies > MAX_LAYERS || self.followed > MAX_LAYERS {
            // Reported where the limit was crossed.
            self.cx.sink.check()?;
        }
        let ids = self.layers(node, target)?;
        let originals = self.originals;
        let layers = ids.iter().filter_map(|id| originals.get(id)).filter_map(|n| match &n.kind {
            NodeKind::Layer(kind) => Some((n, kind)),
            _ => None,
        });
        let layers: Vec<_> = layers.collect();
        if let Some((inner, _)) = layers.iter().find(|(n, _)| self.open.contains(&n.id)) {
            return Err(self.cx.fail(cyclic_reuse(target.span, inner.span)));
        }
        if self.open.len() > MAX_DEPTH && layers.iter().any(|(n, _)| !n.children.is_empty()) {
            return Err(self.cx.fail(reuse_too_deep(target.span, MAX_DEPTH)));
        }
        self.copies += layers.len();
        if self.copies > MAX_LAYERS {
            return Err(self.cx.fail(model_too_large(target.span, MAX_LAYERS)));
        }
        Ok(layers)
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

    /// The layers that a `reuse` node stands for, in their order.
    ///
    /// A target may be a `reuse` itself. Each is followed once, and without recursion: chains may be long.
    fn layers(&mut self, node: NodeId, target: &'r Spanned<String>) -> Result<Vec<NodeId>, Reported> {
        let mut path: Vec<Step<'r>> = Vec::new();
        let mut next = (node, target);
        loop {
            let (at, target) = next;
            match self.known.get(&at) {
                Some(Known::Layers(layers)) => {
                    let Some(reader) = path.last_mut() else { return Ok(layers.clone()) };
                    reader.layers.extend(layers);
                    reader.rest.next();
                }
                Some(Known::Failed(r)) => return Err(self.give_up(&path, *r)),
                Some(Known::Open) => {
                    // Only what is on the path is open, so there is a reader.
                    let from = path.last().map_or(target, |reader| reader.target);
                    let span = self.originals.get(&at).map_or(target.span, |n| n.span);
                    let reported = self.cx.fail(cyclic_reuse(from.span, span));
                    return Err(self.give_up(&path, reported));
                }
                None => match self.members.get(&target.value) {
                    Some(ids) => {
                        self.known.insert(at, Known::Open);
                        path.push(Step { node: at, target, rest: ids.iter(), layers: Vec::new() });
                    }
                    None => {
                        let d = unknown_reuse(&target.value, target.span, self.suggestions.take());
                        let reported = self.cx.fail(d);
                        self.known.insert(at, Known::Failed(reported));
                        return Err(self.give_up(&path, reported));
                    }
                },
            }
            let Some(step) = path.last_mut() else { continue };
            next = match self.advance(step) {
                Ok(Some(further)) => further,
                Ok(None) => {
                    let (node, target, layers) = (step.node, step.target, std::mem::take(&mut step.layers));
                    path.pop();
                    self.known.insert(node, Known::Layers(layers));
                    (node, target)
                }
                Err(r) => return Err(self.give_up(&path, r)),
            };
        }
    }

    /// Everything on the way to a mistake fails with it.
    fn give_up(&mut self, path: &[Step<'r>], reported: Reported) -> Reported {
        for step in path {
            self.known.insert(step.node, Known::Failed(reported));
        }
        reported
    }

    /// Takes in members of a target until one of them is a `reuse`, which has to be followed.
    fn advance(&mut self, step: &mut Step<'r>) -> Result<Option<(NodeId, &'r Spanned<String>)>, Reported> {
        let (originals, target) = (self.originals, step.target);
        while let Some(id) = step.rest.as_slice().first() {
            match originals.get(id).map(|n| (n, &n.kind)) {
                Some((node, NodeKind::Layer(LayerKind::Input { .. }))) => {
                    return Err(self.cx.fail(reused_input(&target.value, target.span, node.span)));
                }
                Some((_, NodeKind::Layer(_))) => step.layers.push(*id),
                Some((_, NodeKind::Reuse(further))) => return Ok(Some((*id, further))),
                Some((_, NodeKind::Broken)) => self.cx.sink.check()?,
                Some((_, NodeKind::Pass)) | None => {}
            }
            step.rest.next();
        }
        self.followed += step.layers.len();
        if self.followed > MAX_LAYERS {
            return Err(self.cx.fail(model_too_large(target.span, MAX_LAYERS)));
        }
        Ok(None)
    }
}

/// A `reuse` on the way from one target to the next.
struct Step<'r> {
    node: NodeId,
    target: &'r Spanned<String>,
    /// Members of the target that are not taken in yet.
    rest: std::slice::Iter<'r, NodeId>,
    layers: Vec<NodeId>,
}

/// What is known of a `reuse`.
enum Known {
    /// It is being followed: to meet it again is a circle.
    Open,
    /// The layers it stands for.
    Layers(Vec<NodeId>),
    /// It is wrong, which was reported.
    Failed(Reported),
}
