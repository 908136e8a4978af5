//! Parses the text form of kernels with `grammar/kernel.pest`. Names are resolved here; every other rule of the IR is
//! the verifier's business, so that it can report all findings at once.

use kur_runtime::dim::{Dim, SymDef, SymbolTable};
use pest::Parser;
use pest::error::{Error, ErrorVariant};
use pest::iterators::{Pair, Pairs};

use crate::ir::kernel::{
    Access, BufDecl, BufId, IdxId, Index, Kernel, LoopMode, Operand, ReduceOp, Scalar, ScalarOp, Stmt, ValId,
};

use grammar::{KernelParser, Rule};

mod grammar {
    #[derive(pest_derive::Parser)]
    #[grammar = "../grammar/kernel.pest"]
    pub(super) struct KernelParser;
}

/// A syntax error or an unknown name, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// Byte offset in the text.
    pub offset: usize,
    /// What is wrong: lower-case start, no full stop.
    pub message: String,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// Parses a text with exactly one kernel.
///
/// # Errors
/// [`ParseError`] at the first syntax error, unknown name or number that is too large.
pub fn parse_kernel(text: &str) -> Result<Kernel, ParseError> {
    let mut all = parse_kernels(text)?;
    match (all.pop(), all.len()) {
        (Some(kernel), 0) => Ok(kernel),
        (_, n) => {
            let found = if n == 0 { "none".to_owned() } else { (n + 1).to_string() };
            Err(ParseError { line: 1, column: 1, offset: 0, message: format!("expected one kernel, found {found}") })
        }
    }
}

/// Parses any number of kernels.
///
/// # Errors
/// [`ParseError`] at the first syntax error, unknown name or number that is too large.
pub fn parse_kernels(text: &str) -> Result<Vec<Kernel>, ParseError> {
    let file = KernelParser::parse(Rule::file, text).map_err(|e| from_pest(e.renamed_rules(|r| describe(*r))))?;
    file.flat_map(Pair::into_inner).filter(|p| p.as_rule() == Rule::kernel).map(kernel).collect()
}

fn from_pest(e: Error<Rule>) -> ParseError {
    let (line, column) = match e.line_col {
        pest::error::LineColLocation::Pos(p) | pest::error::LineColLocation::Span(p, _) => p,
    };
    let offset = match e.location {
        pest::error::InputLocation::Pos(p) | pest::error::InputLocation::Span((p, _)) => p,
    };
    ParseError { line, column, offset, message: e.variant.message().into_owned() }
}

fn describe(rule: Rule) -> String {
    match rule {
        Rule::file | Rule::kernel => "`kernel @name`",
        Rule::symbols | Rule::symbol => "a symbol",
        Rule::sign => "`+` or `-`",
        Rule::param => "a buffer such as `in %x: f32[64*n]`",
        Rule::access => "`in`, `out` or `inout`",
        Rule::scalar => "`f32` or `u32`",
        Rule::dim => "a size such as `64*n`",
        Rule::index => "an index such as `64*i + j`",
        Rule::block | Rule::stmt | Rule::store | Rule::for_loop | Rule::assign => "a statement",
        Rule::mode | Rule::lanes => "`parallel`, `vector` or `{`",
        Rule::load | Rule::random | Rule::reduce | Rule::op => "an operation",
        Rule::reduce_op => "`add`, `max` or `min`",
        Rule::yields => "`yield`",
        Rule::operand | Rule::factor | Rule::float => "a value or a number",
        Rule::value => "a value such as `%0`",
        Rule::ident => "a name",
        Rule::int => "a number",
        Rule::EOI => "the end of the text",
        Rule::WHITESPACE | Rule::COMMENT => "white space",
    }
    .to_owned()
}

fn fail(at: &Pair<'_, Rule>, message: impl Into<String>) -> ParseError {
    from_pest(Error::new_from_span(ErrorVariant::CustomError { message: message.into() }, at.as_span()))
}

fn int<T: std::str::FromStr>(p: &Pair<'_, Rule>) -> Result<T, ParseError> {
    p.as_str().parse().map_err(|_| fail(p, format!("number {} is too large", p.as_str())))
}

/// The next child; the grammar guarantees that it is there.
fn next<'a>(pairs: &mut Pairs<'a, Rule>) -> Pair<'a, Rule> {
    pairs.next().expect("the grammar has this child")
}

/// What names mean while a kernel is read.
struct Names {
    symbols: SymbolTable,
    bufs: Vec<BufDecl>,
    scope: Vec<(String, IdxId)>,
    loops: u32,
}

fn kernel(p: Pair<'_, Rule>) -> Result<Kernel, ParseError> {
    let mut inner = p.into_inner();
    let name = next(&mut inner).as_str().to_owned();
    let mut names = Names { symbols: SymbolTable::default(), bufs: Vec::new(), scope: Vec::new(), loops: 0 };
    let mut body = None;
    for p in inner {
        match p.as_rule() {
            Rule::symbols => p.into_inner().enumerate().try_for_each(|(i, s)| names.symbol(i, s))?,
            Rule::param => names.param(p)?,
            _ => body = Some(names.stmt(p)?),
        }
    }
    let body = body.expect("the grammar asks for a loop");
    Ok(Kernel { name, symbols: names.symbols, bufs: names.bufs, body })
}

impl Names {
    fn symbol(&mut self, i: usize, p: Pair<'_, Rule>) -> Result<(), ParseError> {
        let mut inner = p.clone().into_inner();
        let name = next(&mut inner).as_str();
        let def = match inner.next() {
            None => None,
            Some(base) => {
                let base = self.dim(&base)?;
                let minus = next(&mut inner).as_str() == "-";
                let add: i64 = int(&next(&mut inner))?;
                let div = int(&next(&mut inner))?;
                Some(SymDef { base, add: if minus { -add } else { add }, div })
            }
        };
        if i == 0 {
            // The table starts with the batch symbol; the text may not rename it.
            return if name == "n" && def.is_none() { Ok(()) } else { Err(fail(&p, "the first symbol must be `n`")) };
        }
        if self.symbols.find(name).is_some() {
            return Err(fail(&p, format!("symbol `{name}` is defined twice")));
        }
        self.symbols.add(name, def).map(|_| ()).ok_or_else(|| fail(&p, "too many symbols"))
    }

    fn param(&mut self, p: Pair<'_, Rule>) -> Result<(), ParseError> {
        let mut inner = p.into_inner();
        let access = match next(&mut inner).as_str() {
            "in" => Access::In,
            "out" => Access::Out,
            _ => Access::InOut,
        };
        let name = next(&mut inner).as_str().to_owned();
        let ty = if next(&mut inner).as_str() == "u32" { Scalar::U32 } else { Scalar::F32 };
        let len = self.dim(&next(&mut inner))?;
        self.bufs.push(BufDecl { name, ty, access, len });
        Ok(())
    }

    fn buf(&self, p: &Pair<'_, Rule>) -> Result<BufId, ParseError> {
        let i = self.bufs.iter().position(|b| b.name == p.as_str());
        let i = i.ok_or_else(|| fail(p, format!("no buffer is named `%{}`", p.as_str())))?;
        Ok(BufId(u32::try_from(i).map_err(|_| fail(p, "too many buffers"))?))
    }

    fn dim(&self, p: &Pair<'_, Rule>) -> Result<Dim, ParseError> {
        match self.term(p)? {
            (dim, None) => Ok(dim),
            (_, Some(_)) => Err(fail(p, "a size must not depend on a loop index")),
        }
    }

    /// A product of numbers, symbols and at most one loop index.
    fn term(&self, p: &Pair<'_, Rule>) -> Result<(Dim, Option<IdxId>), ParseError> {
        let mut dim = Dim::ONE;
        let mut idx = None;
        for f in p.clone().into_inner() {
            if f.as_rule() == Rule::int {
                let n: u64 = int(&f)?;
                if dim.coef().checked_mul(n).is_none() {
                    return Err(fail(&f, "the product is too large"));
                }
                dim = dim.times(Dim::constant(n));
            } else if let Some((_, i)) = self.scope.iter().rev().find(|(name, _)| name == f.as_str()) {
                if idx.replace(*i).is_some() {
                    return Err(fail(p, "a term must not multiply two loop indices"));
                }
            } else if let Some(s) = self.symbols.find(f.as_str()) {
                dim = dim.times(Dim::symbol(s));
            } else {
                return Err(fail(&f, format!("`{}` is neither a loop index in scope nor a symbol", f.as_str())));
            }
        }
        Ok((dim, idx))
    }

    fn index(&self, p: Pair<'_, Rule>) -> Result<Index, ParseError> {
        let mut index = Index::default();
        for t in p.into_inner() {
            match self.term(&t)? {
                (stride, Some(idx)) => index.terms.push((idx, stride)),
                (dim, None) => {
                    let n = dim.as_const().ok_or_else(|| fail(&t, "the constant part of an index must be a number"))?;
                    let sum = index.base.checked_add(n);
                    index.base = sum.ok_or_else(|| fail(&t, "the constant part is too large"))?;
                }
            }
        }
        Ok(index)
    }

    fn value(p: &Pair<'_, Rule>) -> Result<ValId, ParseError> {
        Ok(ValId(int(&next(&mut p.clone().into_inner()))?))
    }

    fn operand(p: &Pair<'_, Rule>) -> Result<Operand, ParseError> {
        let p = next(&mut p.clone().into_inner());
        match p.as_rule() {
            Rule::value => Ok(Operand::Val(Self::value(&p)?)),
            _ => p.as_str().parse().map(Operand::Lit).map_err(|_| fail(&p, "not a number")),
        }
    }

    fn open(&mut self, name: &Pair<'_, Rule>) -> Result<IdxId, ParseError> {
        if self.symbols.find(name.as_str()).is_some() {
            return Err(fail(name, format!("loop index `{}` hides a symbol", name.as_str())));
        }
        let idx = IdxId(self.loops);
        self.loops += 1;
        self.scope.push((name.as_str().to_owned(), idx));
        Ok(idx)
    }

    fn stmt(&mut self, p: Pair<'_, Rule>) -> Result<Stmt, ParseError> {
        let p = next(&mut p.into_inner());
        let rule = p.as_rule();
        let mut inner = p.into_inner();
        match rule {
            Rule::store => {
                let buf = self.buf(&next(&mut inner))?;
                let index = self.index(next(&mut inner))?;
                let value = Self::operand(&next(&mut inner))?;
                Ok(Stmt::Store { buf, index, value })
            }
            Rule::for_loop => {
                let name = next(&mut inner);
                let extent = self.dim(&next(&mut inner))?;
                let words: Vec<&str> = next(&mut inner).as_str().split_whitespace().collect();
                let mode = match words.as_slice() {
                    [] => LoopMode::Serial,
                    ["parallel"] => LoopMode::Parallel,
                    ["vector"] => LoopMode::Vector,
                    _ => LoopMode::ParallelVector,
                };
                let idx = self.open(&name)?;
                let body = next(&mut inner).into_inner().map(|s| self.stmt(s)).collect::<Result<_, _>>()?;
                self.scope.pop();
                Ok(Stmt::For { idx, extent, mode, body })
            }
            _ => self.assign(inner),
        }
    }

    fn assign(&mut self, inner: Pairs<'_, Rule>) -> Result<Stmt, ParseError> {
        let mut pairs: Vec<Pair<'_, Rule>> = inner.collect();
        let rhs = pairs.pop().expect("the grammar has a right side");
        let vals = pairs.iter().map(Self::value).collect::<Result<Vec<_>, _>>()?;
        if rhs.as_rule() == Rule::reduce {
            return self.reduce(&vals, rhs);
        }
        let [val] = vals[..] else {
            return Err(fail(&rhs, "only a reduction defines several values"));
        };
        let mut inner = rhs.clone().into_inner();
        let first = next(&mut inner);
        match rhs.as_rule() {
            Rule::load => Ok(Stmt::Load { val, buf: self.buf(&first)?, index: self.index(next(&mut inner))? }),
            Rule::random => {
                let seed = Self::value(&next(&mut inner))?;
                let step = Self::value(&next(&mut inner))?;
                Ok(Stmt::Random { val, key: int(&first)?, seed, step, index: self.index(next(&mut inner))? })
            }
            _ => {
                let Some(op) = ScalarOp::from_name(first.as_str()) else {
                    let known = crate::diag::did_you_mean(first.as_str(), ScalarOp::all().map(ScalarOp::name));
                    let hint = known.map_or(String::new(), |k| format!("; did you mean `{k}`?"));
                    return Err(fail(&first, format!("unknown operation `{}`{hint}", first.as_str())));
                };
                let args = inner.map(|p| Self::operand(&p)).collect::<Result<_, _>>()?;
                Ok(Stmt::Let { val, op, args })
            }
        }
    }

    fn reduce(&mut self, vals: &[ValId], p: Pair<'_, Rule>) -> Result<Stmt, ParseError> {
        let whole = p.clone();
        let mut ops = Vec::new();
        let mut inner = p.into_inner().peekable();
        while let Some(op) = inner.next_if(|p| p.as_rule() == Rule::reduce_op) {
            ops.push(match op.as_str() {
                "add" => ReduceOp::Add,
                "max" => ReduceOp::Max,
                _ => ReduceOp::Min,
            });
        }
        if ops.len() != vals.len() {
            let message = format!("{} values are defined by {} reductions", vals.len(), ops.len());
            return Err(fail(&whole, message));
        }
        let accs = ops.into_iter().zip(vals.iter().copied()).collect();
        let name = inner.next().expect("the grammar has a loop name");
        let extent = self.dim(&inner.next().expect("the grammar has an extent"))?;
        let vector = inner.next().is_some_and(|p| p.as_str().trim() == "vector");
        let idx = self.open(&name)?;
        let mut body = Vec::new();
        let mut yields = Vec::new();
        for p in inner {
            if p.as_rule() == Rule::stmt {
                body.push(self.stmt(p)?);
            } else {
                yields = p.into_inner().map(|p| Self::operand(&p)).collect::<Result<_, _>>()?;
            }
        }
        self.scope.pop();
        Ok(Stmt::Reduce { idx, extent, vector, accs, body, yields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BIAS_RELU: &str = "\
kernel @bias_relu symbols(n, t, d2 = (t - 9) / 2) (in %x: f32[64*n], in %b: f32[64], out %y: f32[64*n]) {
  for i in n parallel {
    for j in 64 vector {
      %0 = load %x[64*i + j]
      %1 = load %b[j]
      %2 = add %0, %1
      %3 = max %2, 0.0
      store %y[64*i + j], %3
    }
  }
}
";

    const REDUCE: &str = "\
kernel @mix symbols(n) (in %x: f32[64*n], in %c: u32[2], inout %w: f32[64], out %y: f32[64*n]) {
  for i in 64 parallel vector {
    %0, %1 = reduce add, max j in n {
      %2 = load %x[i + 64*j + 1]
      yield %2, 1e-7
    }
    %9 = reduce min j in 7 vector {
      yield %0
    }
    %3 = load %c[0]
    %4 = load %c[1]
    %5 = random 7, %3, %4 [n*i]
    %6 = select %5, %0, -inf
    for j in 3 {
      store %y[j], nan
    }
    store %w[i], %6
  }
}
";

    #[test]
    fn texts_print_as_they_were_written() {
        for text in [BIAS_RELU, REDUCE] {
            let kernel = parse_kernel(text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(kernel.to_string(), text);
        }
    }

    #[test]
    fn comments_and_layout_are_free() {
        let text = BIAS_RELU.replace('\n', " # note\n   ");
        assert_eq!(parse_kernel(&text).expect("parses").to_string(), BIAS_RELU);
    }

    #[test]
    fn errors_name_the_place_and_the_reason() {
        let cases = [
            ("kernel @k () { for i in m parallel { } }", "1:25: `m` is neither a loop index in scope nor a symbol"),
            (
                "kernel @k () { for i in n parallel { %0 = sigmod 1.0 } }",
                "1:43: unknown operation `sigmod`; did you mean `sigmoid`?",
            ),
            ("kernel @k () { for i in n parallel { store %y[i], 1.0 } }", "1:45: no buffer is named `%y`"),
            (
                "kernel @k (out %y: f32[n]) { for i in n parallel { store %y[i*i], 1.0 } }",
                "1:61: a term must not multiply two loop indices",
            ),
            ("kernel @k () { for n in 3 parallel { } }", "1:20: loop index `n` hides a symbol"),
            (
                "kernel @k () { for i in 99999999999999999999 parallel { } }",
                "1:25: number 99999999999999999999 is too large",
            ),
            ("", "1:1: expected one kernel, found none"),
        ];
        for (text, want) in cases {
            assert_eq!(parse_kernel(text).expect_err(text).to_string(), want);
        }
        let e = parse_kernel("kernel @k () { for i in n { store }").expect_err("fails").to_string();
        assert!(!e.contains("for_loop"), "grammar names must not leak: {e}");
    }

    /// A random kernel body; not necessarily one that verifies.
    fn stmts(depth: u32, idxs: u32) -> BoxedStrategy<Vec<Stmt>> {
        let val = (0u32..50).prop_map(ValId);
        let lit = prop_oneof![any::<f64>().prop_filter("nan", |x| !x.is_nan()), Just(0.5), Just(f64::INFINITY)];
        let operand = prop_oneof![val.clone().prop_map(Operand::Val), lit.prop_map(Operand::Lit)].boxed();
        let term = (0..idxs, 1u64..100, 0u8..3).prop_map(|(i, c, b)| {
            let stride = (0..b).fold(Dim::constant(c), |d, _| d.times(Dim::batch()));
            (IdxId(i), stride)
        });
        let index =
            (prop::collection::vec(term, 0..3), 0u64..9).prop_map(|(terms, base)| Index { base, terms }).boxed();
        let op = prop::sample::select(ScalarOp::all().collect::<Vec<_>>());
        let one = prop_oneof![
            (val.clone(), op, prop::collection::vec(operand.clone(), 1..4)).prop_map(|(val, op, args)| Stmt::Let {
                val,
                op,
                args
            }),
            (val.clone(), index.clone()).prop_map(|(val, index)| Stmt::Load { val, buf: BufId(0), index }),
            (val.clone(), val.clone(), val.clone(), any::<u32>(), index.clone())
                .prop_map(|(val, seed, step, key, index)| Stmt::Random { val, key, seed, step, index }),
            (index, operand.clone()).prop_map(|(index, value)| Stmt::Store { buf: BufId(1), index, value }),
        ];
        if depth == 0 {
            return prop::collection::vec(one, 0..4).boxed();
        }
        let modes = prop::sample::select(vec![LoopMode::Serial, LoopMode::Vector]);
        let inner = stmts(depth - 1, idxs + 1);
        let nest = (inner.clone(), modes, 0u64..99).prop_map(move |(body, mode, e)| Stmt::For {
            idx: IdxId(idxs),
            extent: Dim::constant(e).times(Dim::batch()),
            mode,
            body,
        });
        let ops = prop::sample::select(vec![ReduceOp::Add, ReduceOp::Max, ReduceOp::Min]);
        let accs = prop::collection::vec((ops, val, operand), 1..3);
        let reduce = (inner, accs, any::<bool>()).prop_map(move |(body, accs, vector)| Stmt::Reduce {
            idx: IdxId(idxs),
            extent: Dim::constant(7),
            vector,
            yields: accs.iter().map(|(_, _, y)| *y).collect(),
            accs: accs.into_iter().map(|(op, v, _)| (op, v)).collect(),
            body,
        });
        prop::collection::vec(prop_oneof![3 => one, 1 => nest, 1 => reduce], 0..4).boxed()
    }

    proptest! {
        #[test]
        fn print_parse_print_is_the_identity(body in stmts(3, 1)) {
            let buf = |name: &str, access| BufDecl {
                name: name.to_owned(), ty: Scalar::F32, access, len: Dim::batch().times(Dim::constant(8)),
            };
            let kernel = Kernel {
                name: "random".to_owned(),
                symbols: SymbolTable::default(),
                bufs: vec![buf("x", Access::In), buf("y.0", Access::InOut)],
                body: Stmt::For { idx: IdxId(0), extent: Dim::batch(), mode: LoopMode::Parallel, body },
            };
            let text = kernel.to_string();
            let parsed = parse_kernel(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            prop_assert_eq!(parsed.to_string(), text);
        }

        #[test]
        fn no_text_panics(text in "(kernel @k|[(){}%=,*+\\[\\] a-z0-9]|for i in n|load|reduce add){0,40}") {
            let _ = parse_kernels(&text);
        }
    }
}
