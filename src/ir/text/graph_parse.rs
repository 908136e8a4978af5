//! Reads the text form of the graph IR. Types are inferred again and compared with the annotations, so ill-typed text
//! is refused with its line.

use kur_runtime::dim::{Dim, SymDef, SymbolTable};
use kur_runtime::plan::{CellActivation, Init, InputRole, PartOf, RnnCell, RnnGradOf, StateRole, StepPick};
use pest::Parser as _;
use pest::iterators::Pair;

use super::super::graph::{Graph, GraphResult, Layer, LayerRef, Node, NodeId, Role, State};
use super::super::infer::infer;
use super::super::kernel::{ReduceOp, ScalarOp};
use super::super::op::{Control, ConvAttrs, Op, PoolAttrs, RnnAttrs};
use super::super::types::{DType, Type};
use super::graph_print::rnn_cell_name;
use super::{TextError, unquote};

#[derive(pest_derive::Parser)]
#[grammar = "../grammar/graph.pest"]
struct Grammar;

type P<'i> = Pair<'i, Rule>;

/// Reads a file of one graph.
///
/// # Errors
/// Syntax or type errors with their place.
pub fn parse_graph(text: &str) -> Result<Graph, TextError> {
    let mut all = parse_graphs(text)?;
    match all.len() {
        1 => Ok(all.remove(0)),
        n => Err(TextError { line: 1, column: 1, message: format!("expected one graph, found {n}") }),
    }
}

/// Reads a file of graphs.
///
/// # Errors
/// As [`parse_graph`].
pub fn parse_graphs(text: &str) -> Result<Vec<Graph>, TextError> {
    let file = Grammar::parse(Rule::file, text).map_err(|e| {
        let (line, column) = match e.line_col {
            pest::error::LineColLocation::Pos(p) | pest::error::LineColLocation::Span(p, _) => p,
        };
        let message = e.renamed_rules(|r| rule_name(*r).to_owned()).variant.message().into_owned();
        TextError { line, column, message }
    })?;
    let mut out = Vec::new();
    for pair in file.flat_map(Pair::into_inner) {
        if pair.as_rule() == Rule::graph {
            out.push(graph(pair)?);
        }
    }
    Ok(out)
}

fn rule_name(r: Rule) -> &'static str {
    match r {
        Rule::instr => "an instruction",
        Rule::operand | Rule::value | Rule::input_ref | Rule::state_ref => "an operand",
        Rule::ty | Rule::dtype => "a type",
        Rule::dim | Rule::factor => "a size",
        Rule::number => "a number",
        Rule::integer => "digits",
        Rule::ident => "a name",
        Rule::string => "a quoted name",
        Rule::result | Rule::result_role => "`output`, `metric`, `update` or `gradient`",
        Rule::attrs | Rule::attr | Rule::list => "attributes",
        Rule::symbols | Rule::symbol => "symbols",
        Rule::graph => "`graph`",
        Rule::EOI => "end of file",
        _ => "a declaration",
    }
}

fn fail<T>(at: &P<'_>, message: impl Into<String>) -> Result<T, TextError> {
    let (line, column) = at.line_col();
    Err(TextError { line, column, message: message.into() })
}

/// Reader state of one graph.
struct Reader {
    g: Graph,
    /// Node of instruction `%i`.
    values: Vec<NodeId>,
    /// Node of state `i`, once used.
    states: Vec<Option<NodeId>>,
}

fn graph(pair: P<'_>) -> Result<Graph, TextError> {
    let mut r = Reader { g: Graph::new(""), values: Vec::new(), states: Vec::new() };
    for part in pair.into_inner() {
        match part.as_rule() {
            Rule::ident => part.as_str().clone_into(&mut r.g.name),
            Rule::symbols => r.g.symbols = symbols(part)?,
            Rule::layer_decl => {
                let mut i = part.into_inner();
                let (name, line) = (next(&mut i)?, next(&mut i)?);
                let line = int(&line)?;
                r.g.layers.push(Layer { name: unquote(name.as_str()), line, span: None });
            }
            Rule::input_decl => r.input(part)?,
            Rule::state_decl => r.state(part)?,
            Rule::instr => r.instr(part)?,
            Rule::result => r.result(part)?,
            _ => {}
        }
    }
    Ok(r.g)
}

fn next<'i>(i: &mut pest::iterators::Pairs<'i, Rule>) -> Result<P<'i>, TextError> {
    i.next().ok_or_else(|| TextError { line: 0, column: 0, message: "incomplete text".to_owned() })
}

fn int<T: std::str::FromStr>(p: &P<'_>) -> Result<T, TextError> {
    p.as_str().parse().or_else(|_| fail(p, "number out of range"))
}

fn float(p: &P<'_>) -> Result<f64, TextError> {
    match p.as_str() {
        "nan" | "-nan" => Ok(f64::NAN),
        s => s.parse().or_else(|_| fail(p, "not a number")),
    }
}

pub(super) fn symbols(pair: P<'_>) -> Result<SymbolTable, TextError> {
    let mut t = SymbolTable::default();
    for (k, s) in pair.into_inner().enumerate() {
        let at = s.clone();
        let mut i = s.into_inner();
        let name = next(&mut i)?;
        if k == 0 {
            if name.as_str() != "n" {
                return fail(&name, "the first symbol is the batch `n`");
            }
            continue;
        }
        let def = match i.next() {
            None => None,
            Some(base) => {
                let base = dim(&base, &t)?;
                let sign = next(&mut i)?;
                let add: i64 = int(&next(&mut i)?)?;
                let div = int(&next(&mut i)?)?;
                Some(SymDef { base, add: if sign.as_str() == "-" { -add } else { add }, div })
            }
        };
        if t.find(name.as_str()).is_some() || t.add(name.as_str(), def).is_none() {
            return fail(&at, "symbol defined twice, or too many symbols");
        }
    }
    Ok(t)
}

fn dim(pair: &P<'_>, t: &SymbolTable) -> Result<Dim, TextError> {
    let mut d = Dim::ONE;
    for f in pair.clone().into_inner() {
        let text = f.as_str();
        d = d.times(if text.starts_with(|c: char| c.is_ascii_digit()) {
            Dim::constant(int(&f)?)
        } else {
            match t.find(text) {
                Some(s) => Dim::symbol(s),
                None => return fail(&f, format!("unknown symbol `{text}`")),
            }
        });
    }
    Ok(d)
}

fn ty(pair: P<'_>, t: &SymbolTable) -> Result<Type, TextError> {
    let mut i = pair.into_inner();
    let dtype = if next(&mut i)?.as_str() == "u32" { DType::U32 } else { DType::F32 };
    let shape = i.map(|d| dim(&d, t)).collect::<Result<_, _>>()?;
    Ok(Type { dtype, shape })
}

fn input_role(p: &P<'_>) -> InputRole {
    match p.as_str() {
        "target" => InputRole::Target,
        "lengths" => InputRole::Lengths,
        _ => InputRole::Data,
    }
}

/// Attributes of an instruction by name.
type Attrs = Vec<(String, Vec<Dim>)>;

impl Reader {
    fn input(&mut self, pair: P<'_>) -> Result<(), TextError> {
        let at = pair.clone();
        let mut i = pair.into_inner();
        let role = input_role(&next(&mut i)?);
        let name = unquote(next(&mut i)?.as_str());
        let ty = ty(next(&mut i)?, &self.g.symbols)?;
        if self.find_input(role, &name).is_some() {
            return fail(&at, "input declared twice");
        }
        self.g.push(Node { op: Op::Input { name, role }, args: Vec::new(), ty, layer: None });
        Ok(())
    }

    fn find_input(&self, role: InputRole, name: &str) -> Option<NodeId> {
        self.g
            .ids()
            .find(|id| matches!(&self.g.node(*id).op, Op::Input { name: n, role: r } if n == name && *r == role))
    }

    fn state(&mut self, pair: P<'_>) -> Result<(), TextError> {
        let at = pair.clone();
        let mut i = pair.into_inner().peekable();
        let trainable = i.next_if(|p| p.as_rule() == Rule::frozen).is_none();
        let mut i = i.collect::<Vec<_>>().into_iter();
        let mut take = || i.next().ok_or(()).or_else(|()| fail(&at, "incomplete declaration"));
        let role = match take()?.as_str() {
            "param" => StateRole::Param,
            "running" => StateRole::Running,
            _ => StateRole::Optimizer,
        };
        let name = unquote(take()?.as_str());
        let ty = ty(take()?, &self.g.symbols)?;
        let init = init(take()?)?;
        if ty.shape.iter().any(|d| !d.is_const()) {
            return fail(&at, "a state has a constant shape");
        }
        if self.g.states.iter().any(|s| s.name == name) {
            return fail(&at, "state declared twice");
        }
        let trainable = trainable && role == StateRole::Param;
        self.g.states.push(State { name, role, ty, init, trainable });
        self.states.push(None);
        Ok(())
    }

    fn operand(&mut self, pair: &P<'_>) -> Result<NodeId, TextError> {
        let inner = match pair.clone().into_inner().next() {
            Some(p) => p,
            None => return fail(pair, "missing operand"),
        };
        match inner.as_rule() {
            Rule::value => {
                let digits = inner.as_str().trim_start_matches('%');
                let n: usize = digits.parse().or_else(|_| fail(&inner, "number out of range"))?;
                match self.values.get(n) {
                    Some(v) => Ok(*v),
                    None => fail(&inner, format!("`%{n}` is not defined before its use")),
                }
            }
            Rule::input_ref => {
                let mut i = inner.clone().into_inner();
                let role = input_role(&next(&mut i)?);
                let name = unquote(next(&mut i)?.as_str());
                self.find_input(role, &name).ok_or(()).or_else(|()| fail(&inner, "unknown input"))
            }
            Rule::state_ref => {
                let name = unquote(next(&mut inner.clone().into_inner())?.as_str());
                match self.g.states.iter().position(|s| s.name == name) {
                    Some(k) => Ok(self.state_node(k)),
                    None => fail(&inner, "unknown state"),
                }
            }
            _ => {
                let v = float(&inner)?;
                Ok(self.g.push(Node { op: Op::Const(v), args: Vec::new(), ty: Type::scalar(), layer: None }))
            }
        }
    }

    fn state_node(&mut self, k: usize) -> NodeId {
        if let Some(id) = self.states[k] {
            return id;
        }
        let ty = self.g.states[k].ty.clone();
        let index = u32::try_from(k).unwrap_or(u32::MAX);
        let id = self.g.push(Node { op: Op::State { index }, args: Vec::new(), ty, layer: None });
        self.states[k] = Some(id);
        id
    }

    fn instr(&mut self, pair: P<'_>) -> Result<(), TextError> {
        let at = pair.clone();
        let mut i = pair.into_inner();
        let number: usize = int(&next(&mut i)?)?;
        if number != self.values.len() {
            return fail(&at, format!("expected `%{}`", self.values.len()));
        }
        let word = next(&mut i)?;
        let (mut args, mut attrs, mut given, mut layer) = (Vec::new(), Attrs::new(), None, None);
        for p in i {
            match p.as_rule() {
                Rule::operand => args.push(self.operand(&p)?),
                Rule::attrs => attrs = self.attrs(p)?,
                Rule::ty => given = Some(ty(p, &self.g.symbols)?),
                Rule::at_layer => {
                    let p = next(&mut p.into_inner())?;
                    let n: u32 = int(&p)?;
                    if n as usize >= self.g.layers.len() {
                        return fail(&p, "unknown layer");
                    }
                    layer = Some(LayerRef(n));
                }
                _ => {}
            }
        }
        let op = match op(word.as_str(), &attrs) {
            Ok(op) => op,
            Err(e) => return fail(&word, e),
        };
        let types: Vec<&Type> = args.iter().map(|a| self.g.ty(*a)).collect();
        let ty = infer(&op, &types, given.as_ref()).or_else(|e| fail(&at, e))?;
        if given.as_ref() != Some(&ty) {
            return fail(&at, format!("the result type is {}", ty.display(&self.g.symbols)));
        }
        let id = self.g.push(Node { op, args, ty, layer });
        self.values.push(id);
        Ok(())
    }

    fn attrs(&self, pair: P<'_>) -> Result<Attrs, TextError> {
        let mut out = Attrs::new();
        for a in pair.into_inner() {
            let mut i = a.into_inner();
            let name = next(&mut i)?.as_str().to_owned();
            let value = match i.next() {
                None => Vec::new(),
                Some(p) if p.as_rule() == Rule::dim => vec![dim(&p, &self.g.symbols)?],
                Some(p) => p.into_inner().map(|d| dim(&d, &self.g.symbols)).collect::<Result<_, _>>()?,
            };
            out.push((name, value));
        }
        Ok(out)
    }

    fn result(&mut self, pair: P<'_>) -> Result<(), TextError> {
        let mut i = pair.into_inner();
        let word = next(&mut i)?;
        let name_at = next(&mut i)?;
        let name = unquote(name_at.as_str());
        let value = self.operand(&next(&mut i)?)?;
        let role = match word.as_str() {
            "output" => Role::Output(name),
            "metric" => Role::Metric(name),
            word => match self.g.states.iter().position(|s| s.name == name) {
                Some(k) => {
                    let k = u32::try_from(k).unwrap_or(u32::MAX);
                    if word == "update" { Role::Update(k) } else { Role::Gradient(k) }
                }
                None => return fail(&name_at, "unknown state"),
            },
        };
        self.g.results.push(GraphResult { role, value });
        Ok(())
    }
}

fn init(pair: P<'_>) -> Result<Init, TextError> {
    let at = pair.clone();
    let mut i = pair.into_inner();
    let word = next(&mut i)?;
    let args = i.map(|p| float(&p)).collect::<Result<Vec<_>, _>>()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "printed from the narrower type")]
    match (word.as_str(), args.as_slice()) {
        ("constant", [v]) => Ok(Init::Constant(*v as f32)),
        ("uniform", [v]) => Ok(Init::Uniform { limit: *v as f32 }),
        ("glorot_uniform", [a, b]) => Ok(Init::GlorotUniform { fan_in: *a as u64, fan_out: *b as u64 }),
        ("orthogonal", []) => Ok(Init::Orthogonal),
        ("block", [v, a, b]) => Ok(Init::Block { value: *v as f32, from: *a as u64, to: *b as u64 }),
        _ => fail(&at, "unknown initialiser"),
    }
}

/// The operation of an instruction from its word and attributes.
fn op(word: &str, attrs: &Attrs) -> Result<Op, String> {
    let find = |name: &str| attrs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_slice());
    let dims = |name: &str| find(name).ok_or_else(|| format!("`{word}` needs the attribute `{name}`"));
    let ints = |name: &str| -> Result<Vec<u32>, String> {
        dims(name)?
            .iter()
            .map(|d| {
                d.as_const().and_then(|c| u32::try_from(c).ok()).ok_or_else(|| format!("`{name}` must be constants"))
            })
            .collect()
    };
    let axes = |name: &str| Ok::<_, String>(ints(name)?.into_iter().map(|a| a as usize).collect::<Vec<_>>());
    let axis = || axes("axis")?.first().copied().ok_or_else(|| "`axis` takes one number".to_owned());
    let flag = |name: &str| find(name).is_some();
    let conv = || {
        Ok::<_, String>(ConvAttrs {
            stride: ints("stride")?,
            pad: ints("pad")?,
            dilation: ints("dilation")?,
            output: dims("out")?.to_vec(),
            groups: match find("groups") {
                None => 1,
                Some(_) => ints("groups")?.first().copied().ok_or("`groups` takes one number")?,
            },
        })
    };
    let pool = || {
        Ok::<_, String>(PoolAttrs {
            average: flag("average"),
            window: ints("window")?,
            stride: ints("stride")?,
            pad: ints("pad")?,
            output: dims("out")?.to_vec(),
        })
    };
    let reduce = |op| Ok::<_, String>(Op::Reduce { op, axes: axes("axes")? });
    let one = |name: &str| match dims(name)? {
        [d] => Ok(*d),
        _ => Err(format!("`{name}` takes one size")),
    };
    let activation = |place: &str| {
        let named = |a: &CellActivation| flag(&format!("{place}_{}", a.name()));
        CellActivation::ALL.into_iter().find(named).ok_or_else(|| format!("`{word}` needs the flag `{place}_FUNCTION`"))
    };
    let rnn = |cell| {
        let (inner, outer) = (activation("inner")?, activation("outer")?);
        Ok::<_, String>(RnnAttrs { cell, inner, outer, reverse: flag("reverse") })
    };
    let cell = || {
        let cells = [RnnCell::Gru, RnnCell::GruAfter, RnnCell::Lstm];
        let found = cells.into_iter().find(|c| flag(rnn_cell_name(*c)));
        found.ok_or_else(|| format!("`{word}` needs the name of a cell as a flag"))
    };
    let part = || {
        let number = |name: &str| ints(name)?.first().copied().ok_or_else(|| format!("`{name}` takes one number"));
        let steps = match (flag("first"), flag("last")) {
            (true, _) => StepPick::First,
            (_, true) => StepPick::Last,
            _ => StepPick::All,
        };
        Ok::<_, String>(PartOf { part: number("part")?, parts: number("parts")?, steps })
    };
    Ok(match word {
        "control" if flag("seed") => Op::Control(Control::Seed),
        "control" if flag("updates") => Op::Control(Control::Updates),
        "size" => Op::Size(one("dim")?),
        "broadcast" => Op::Broadcast,
        "random" => Op::Random { key: ints("key")?.first().copied().ok_or("`key` takes one number")? },
        "reduce_add" => reduce(ReduceOp::Add)?,
        "reduce_max" => reduce(ReduceOp::Max)?,
        "reduce_min" => reduce(ReduceOp::Min)?,
        "reshape" => Op::Reshape,
        "transpose" => Op::Transpose { perm: axes("perm")? },
        "matmul" => Op::MatMul { ta: flag("ta"), tb: flag("tb") },
        "conv" => Op::Conv(conv()?),
        "conv_grad_input" => Op::ConvGradInput(conv()?),
        "conv_grad_weight" => Op::ConvGradWeight(conv()?),
        "pool" => Op::Pool(pool()?),
        "pool_grad" => Op::PoolGrad(pool()?),
        "softmax" => Op::Softmax { log: false },
        "log_softmax" => Op::Softmax { log: true },
        "argmax" => Op::ArgMax,
        "positions" => Op::Positions,
        "gru" => Op::Rnn(rnn(RnnCell::Gru)?),
        "gru_after" => Op::Rnn(rnn(RnnCell::GruAfter)?),
        "lstm" => Op::Rnn(rnn(RnnCell::Lstm)?),
        "rnn_grad" => {
            let of = if flag("final") { RnnGradOf::Final } else { RnnGradOf::States };
            Op::RnnGrad(rnn(cell()?)?, of)
        }
        "rnn_grad_weight" => Op::RnnGradWeight(rnn(cell()?)?),
        "rnn_grad_bias" => Op::RnnGradBias(rnn(cell()?)?),
        "part" => Op::Part(part()?),
        "part_grad" => Op::PartGrad(part()?),
        "scan" => Op::Scan { reverse: flag("reverse") },
        "shift" => Op::Shift { reverse: flag("reverse") },
        "ctc" => Op::Ctc { blank_first: flag("blank_first") },
        "ctc_grad" => Op::CtcGrad { blank_first: flag("blank_first") },
        "lengths" => Op::Lengths { window: ints("window")?, stride: ints("stride")? },
        "concat" => Op::Concat { axis: axis()? },
        "slice" => Op::Slice { axis: axis()?, start: dims("start")?.to_vec() },
        "pad" => Op::Pad { axis: axis()?, start: dims("start")?.to_vec() },
        "gather" => Op::Gather,
        "gather_grad" => Op::GatherGrad,
        _ => match ScalarOp::from_name(word) {
            Some(s) => Op::Map(s),
            None => return Err(format!("unknown operation `{word}`")),
        },
    })
}
