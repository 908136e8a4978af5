//! Checks the rules of the kernel IR. All findings are collected, each tied to an entity, so that one mistake does not
//! hide the next. A kernel without findings can be interpreted and compiled; the back ends rely on it.

use std::fmt;

use kur_runtime::dim::{Dim, Sym, SymbolTable};

use crate::ir::kernel::{Access, BufId, IdxId, Index, Kernel, LoopMode, Operand, Scalar, ScalarOp, Stmt, ValId};

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entity {
    /// The kernel as a whole.
    Kernel,
    /// A buffer parameter.
    Buf(BufId),
    /// A value.
    Val(ValId),
    /// A loop.
    Loop(IdxId),
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub entity: Entity,
    /// What is wrong: lower-case start, no full stop.
    pub message: String,
}

/// All broken rules of one kernel; not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyErrors {
    /// Name of the kernel.
    pub kernel: String,
    /// In the order of the text.
    pub findings: Vec<Finding>,
    names: Vec<String>,
}

impl fmt::Display for VerifyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel @{} breaks {} rule(s) of the kernel IR", self.kernel, self.findings.len())?;
        for x in &self.findings {
            match x.entity {
                Entity::Kernel => write!(f, "\n  {}", x.message)?,
                Entity::Buf(b) => {
                    let name = self.names.get(b.0 as usize).map_or("?", String::as_str);
                    write!(f, "\n  %{name}: {}", x.message)?;
                }
                Entity::Val(v) => write!(f, "\n  %{}: {}", v.0, x.message)?,
                Entity::Loop(i) => write!(f, "\n  loop {}: {}", i.0, x.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for VerifyErrors {}

/// Checks a kernel.
///
/// # Errors
/// [`VerifyErrors`] with every broken rule.
pub fn verify(kernel: &Kernel) -> Result<(), VerifyErrors> {
    let mut v = Verifier {
        kernel,
        samples: sample_sizes(&kernel.symbols),
        findings: Vec::new(),
        defined: Vec::new(),
        visible: Vec::new(),
        loops: Vec::new(),
        stores: Vec::new(),
    };
    v.header();
    collect_stores(std::slice::from_ref(&kernel.body), &mut v.stores);
    v.outermost();
    if v.findings.is_empty() {
        return Ok(());
    }
    let names = kernel.bufs.iter().map(|b| b.name.clone()).collect();
    Err(VerifyErrors { kernel: kernel.name.clone(), findings: v.findings, names })
}

/// Values of all symbols for a few sizes of the free ones: index bounds that hold for these hold for all sizes that
/// matter, because both sides are monomials.
fn sample_sizes(symbols: &SymbolTable) -> Vec<Vec<u64>> {
    [1, 2, 5, 32, 101]
        .iter()
        .map(|base| {
            let free: Vec<(Sym, u64)> = (0..symbols.len())
                .filter_map(|i| u8::try_from(i).ok())
                .map(|i| (Sym(i), base + 3 * u64::from(i)))
                .collect();
            symbols.values(&free)
        })
        .collect()
}

fn collect_stores<'a>(body: &'a [Stmt], out: &mut Vec<(BufId, &'a Index)>) {
    for s in body {
        match s {
            Stmt::Store { buf, index, .. } => out.push((*buf, index)),
            Stmt::For { body, .. } | Stmt::Reduce { body, .. } => collect_stores(body, out),
            Stmt::Let { .. } | Stmt::Load { .. } | Stmt::Random { .. } => {}
        }
    }
}

struct Loop {
    idx: IdxId,
    extent: Dim,
    /// Iterations may run side by side, in lanes or threads.
    independent: bool,
    vector: bool,
}

struct Verifier<'a> {
    kernel: &'a Kernel,
    samples: Vec<Vec<u64>>,
    findings: Vec<Finding>,
    defined: Vec<ValId>,
    visible: Vec<(ValId, Scalar)>,
    loops: Vec<Loop>,
    stores: Vec<(BufId, &'a Index)>,
}

impl Verifier<'_> {
    fn fail(&mut self, entity: Entity, message: impl Into<String>) {
        self.findings.push(Finding { entity, message: message.into() });
    }

    fn header(&mut self) {
        let kernel = self.kernel;
        if !is_ident(&kernel.name) {
            self.fail(Entity::Kernel, format!("`{}` is no name", kernel.name));
        }
        for (i, b) in kernel.bufs.iter().enumerate() {
            let entity = Entity::Buf(BufId(u32::try_from(i).unwrap_or(u32::MAX)));
            if !is_ident(&b.name) {
                self.fail(entity, format!("`{}` is no name", b.name));
            }
            if kernel.bufs[..i].iter().any(|other| other.name == b.name) {
                self.fail(entity, "the name is taken by an earlier buffer");
            }
            if b.ty == Scalar::U32 && b.access != Access::In {
                self.fail(entity, "u32 buffers can only be read");
            }
            self.dim(entity, b.len);
        }
    }

    fn outermost(&mut self) {
        let kernel = self.kernel;
        match &kernel.body {
            Stmt::For { mode, .. } if mode.is_parallel() => self.stmt(&kernel.body),
            _ => self.fail(Entity::Kernel, "the body must be one `parallel` or `parallel vector` loop"),
        }
    }

    fn dim(&mut self, entity: Entity, d: Dim) {
        let known = self.kernel.symbols.len();
        for i in known..kur_runtime::dim::MAX_SYMS {
            if d.power(Sym(u8::try_from(i).unwrap_or(u8::MAX))) > 0 {
                self.fail(entity, format!("a size uses symbol {i}, but the kernel has only {known}"));
            }
        }
    }

    fn define(&mut self, val: ValId, ty: Scalar) {
        if self.defined.contains(&val) {
            self.fail(Entity::Val(val), "defined twice");
        }
        self.defined.push(val);
        self.visible.push((val, ty));
    }

    fn uses(&mut self, entity: Entity, o: Operand, want: Scalar) {
        match o {
            Operand::Lit(_) if want == Scalar::F32 => {}
            Operand::Lit(_) => self.fail(entity, "a u32 operand must be a value"),
            Operand::Val(v) => match self.visible.iter().rev().find(|(x, _)| *x == v) {
                None => self.fail(entity, format!("%{} is not defined here", v.0)),
                Some((_, ty)) if *ty != want => {
                    let message = format!("%{} is {}, but {} is needed", v.0, ty.name(), want.name());
                    self.fail(entity, message);
                }
                Some(_) => {}
            },
        }
    }

    fn index(&mut self, entity: Entity, index: &Index) {
        let mut last = None;
        for (idx, stride) in &index.terms {
            self.dim(entity, *stride);
            match self.loops.iter().position(|l| l.idx == *idx) {
                None => self.fail(entity, format!("the index of loop {} is not in scope", idx.0)),
                Some(depth) if last.is_some_and(|l| l >= depth) => {
                    self.fail(entity, "index terms must be in loop order, each loop once");
                }
                Some(depth) => last = Some(depth),
            }
            if stride.coef() == 0 {
                self.fail(entity, "an index term has stride 0");
            }
        }
    }

    /// Bounds at sampled sizes; only asked when the index itself is well-formed.
    fn bounds(&mut self, entity: Entity, buf: BufId, index: &Index) {
        let Some(decl) = self.kernel.bufs.get(buf.0 as usize) else { return };
        for values in &self.samples {
            if self.loops.iter().any(|l| l.extent.eval(values) == 0) {
                continue;
            }
            let mut max = u128::from(index.base);
            for (idx, stride) in &index.terms {
                let Some(l) = self.loops.iter().find(|l| l.idx == *idx) else { return };
                max += u128::from(l.extent.eval(values) - 1) * u128::from(stride.eval(values));
            }
            let len = decl.len.eval(values);
            if max >= u128::from(len) {
                let sizes = (0..self.kernel.symbols.len())
                    .map(|i| format!("{} = {}", self.kernel.symbols.name(Sym(u8::try_from(i).unwrap_or(0))), values[i]))
                    .collect::<Vec<_>>()
                    .join(", ");
                let name = &decl.name;
                self.fail(entity, format!("element {max} of %{name} is used, but it has {len} (with {sizes})"));
                return;
            }
        }
    }

    fn access(&mut self, entity: Entity, buf: BufId, index: &Index) {
        if self.kernel.bufs.get(buf.0 as usize).is_none() {
            self.fail(entity, format!("buffer {} does not exist", buf.0));
        }
        let before = self.findings.len();
        self.index(entity, index);
        if self.findings.len() == before {
            self.bounds(entity, buf, index);
        }
    }

    fn block(&mut self, body: &[Stmt]) {
        body.iter().for_each(|s| self.stmt(s));
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let { val, op, args } => {
                let entity = Entity::Val(*val);
                if args.len() != op.arity() {
                    let message = format!("{} takes {} operand(s), found {}", op.name(), op.arity(), args.len());
                    self.fail(entity, message);
                }
                let want = if *op == ScalarOp::FromU32 { Scalar::U32 } else { Scalar::F32 };
                args.iter().for_each(|a| self.uses(entity, *a, want));
                self.define(*val, Scalar::F32);
            }
            Stmt::Load { val, buf, index } => self.load(*val, *buf, index),
            Stmt::Random { val, seed, step, index, .. } => {
                let entity = Entity::Val(*val);
                self.uses(entity, Operand::Val(*seed), Scalar::U32);
                self.uses(entity, Operand::Val(*step), Scalar::U32);
                self.index(entity, index);
                self.define(*val, Scalar::F32);
            }
            Stmt::Store { buf, index, value } => self.store(*buf, index, *value),
            Stmt::For { idx, extent, mode, body } => {
                let entity = Entity::Loop(*idx);
                if mode.is_parallel() && !self.loops.is_empty() {
                    self.fail(entity, "only the outermost loop may be parallel");
                }
                if self.loops.iter().any(|l| l.vector) {
                    self.fail(entity, "a vector loop may contain serial reductions only");
                }
                self.enter(*idx, *extent, *mode != LoopMode::Serial, mode.is_vector());
                let scope = self.visible.len();
                self.block(body);
                self.visible.truncate(scope);
                self.loops.pop();
            }
            Stmt::Reduce { idx, extent, vector, accs, body, yields } => {
                let entity = Entity::Loop(*idx);
                if *vector && self.loops.iter().any(|l| l.vector) {
                    self.fail(entity, "a vector loop may contain serial reductions only");
                }
                if accs.is_empty() || accs.len() != yields.len() {
                    self.fail(entity, format!("{} accumulators, but {} yields", accs.len(), yields.len()));
                }
                self.enter(*idx, *extent, false, *vector);
                let scope = self.visible.len();
                self.block(body);
                yields.iter().for_each(|y| self.uses(entity, *y, Scalar::F32));
                self.visible.truncate(scope);
                self.loops.pop();
                accs.iter().for_each(|(_, v)| self.define(*v, Scalar::F32));
            }
        }
    }

    fn enter(&mut self, idx: IdxId, extent: Dim, independent: bool, vector: bool) {
        self.dim(Entity::Loop(idx), extent);
        if self.loops.iter().any(|l| l.idx == idx) {
            self.fail(Entity::Loop(idx), "an enclosing loop has the same index");
        }
        self.loops.push(Loop { idx, extent, independent, vector });
    }

    fn load(&mut self, val: ValId, buf: BufId, index: &Index) {
        let entity = Entity::Val(val);
        self.access(entity, buf, index);
        let decl = self.kernel.bufs.get(buf.0 as usize);
        if let Some(decl) = decl {
            if !decl.access.loads() {
                self.fail(entity, format!("%{} can only be stored to", decl.name));
            } else if decl.access == Access::InOut && !self.stores.iter().any(|(b, i)| *b == buf && *i == index) {
                self.fail(entity, format!("no store to %{} has the index of this load", decl.name));
            }
        }
        self.define(val, decl.map_or(Scalar::F32, |d| d.ty));
    }

    fn store(&mut self, buf: BufId, index: &Index, value: Operand) {
        let entity = Entity::Buf(buf);
        self.access(entity, buf, index);
        self.uses(entity, value, Scalar::F32);
        if self.kernel.bufs.get(buf.0 as usize).is_some_and(|d| !d.access.stores()) {
            self.fail(entity, "can only be loaded from");
        }
        let racing = self
            .loops
            .iter()
            .find(|l| l.independent && index.stride(l.idx).is_none() && l.extent.as_const().is_none_or(|e| e > 1));
        if let Some(idx) = racing.map(|l| l.idx) {
            self.fail(entity, format!("all iterations of loop {} store to the same element", idx.0));
        }
        let reduced = self.loops.iter().find(|l| l.vector && !l.independent);
        if let Some(idx) = reduced.map(|l| l.idx) {
            self.fail(entity, format!("vector reduction {} must not store", idx.0));
        }
    }
}

fn is_ident(s: &str) -> bool {
    let mut chars = s.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::text::kernel_parse::parse_kernel;

    fn findings(body: &str) -> Vec<String> {
        let text = format!(
            "kernel @k symbols(n) (in %x: f32[64*n], in %s: u32[2], out %y: f32[64*n], inout %w: f32[n]) {{ {body} }}"
        );
        let kernel = parse_kernel(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        verify(&kernel).err().map_or(Vec::new(), |e| e.findings.into_iter().map(|f| f.message).collect())
    }

    #[test]
    fn good_kernels_pass() {
        let cases = [
            "for i in n parallel { for j in 64 vector { %0 = load %x[64*i + j] store %y[64*i + j], %0 } }",
            "for i in 64*n parallel vector { %0 = load %x[i] %1 = exp %0 store %y[i], %1 }",
            "for i in n parallel { %1 = reduce add j in 64 vector { %0 = load %x[64*i + j] yield %0 } store %w[i], %1 }",
            "for i in 64 parallel vector { %1 = reduce add j in n { %0 = load %x[i + 64*j] yield %0 } store %y[i], %1 }",
            "for i in n parallel vector { %0 = load %w[i] %1 = add %0, 1.0 store %w[i], %1 }",
            "for i in 1 parallel { %0 = load %s[0] %1 = load %s[1] %2 = random 3, %0, %1 [0] store %y[0], %2 }",
        ];
        for c in cases {
            assert_eq!(findings(c), Vec::<String>::new(), "{c}");
        }
    }

    #[test]
    fn broken_rules_are_found() {
        let cases = [
            ("for i in n { store %y[i], 0.0 }", "the body must be one `parallel`"),
            ("for i in n parallel { %0 = load %y[i] store %y[i], %0 }", "%y can only be stored to"),
            ("for i in n parallel { store %x[i], 0.0 }", "can only be loaded from"),
            ("for i in n parallel { store %y[i], %3 }", "%3 is not defined here"),
            ("for i in 65*n parallel { store %y[i], 0.0 }", "is used, but it has 64"),
            ("for i in n parallel { store %y[0], 0.0 }", "all iterations of loop 0 store to the same element"),
            ("for i in n parallel { %0 = add 1.0 store %y[i], %0 }", "add takes 2 operand(s), found 1"),
            ("for i in n parallel { %0 = exp 1.0 %0 = exp 1.0 store %y[i], %0 }", "defined twice"),
            ("for i in n parallel { %0 = load %s[0] store %y[i], %0 }", "%0 is u32, but f32 is needed"),
            ("for i in n parallel { %0 = load %w[0] store %w[i], %0 }", "no store to %w has the index of this load"),
            (
                "for i in n parallel vector { for j in 64 vector { store %y[64*i + j], 0.0 } }",
                "a vector loop may contain serial reductions only",
            ),
            (
                "for i in n parallel { for j in 64 parallel { store %y[64*i + j], 0.0 } }",
                "only the outermost loop may be parallel",
            ),
            ("for i in n parallel { for j in 64 { store %y[j + 64*i], 0.0 } }", "index terms must be in loop order"),
            ("for i in n parallel { store %y[0*i], 0.0 }", "an index term has stride 0"),
        ];
        for (text, want) in cases {
            let found = findings(text);
            assert!(found.iter().any(|f| f.contains(want)), "{text}\nwant {want}\nfound {found:?}");
        }
    }

    #[test]
    fn every_finding_is_reported() {
        let found = findings("for i in n parallel { %0 = load %y[i] store %x[i], %7 }");
        assert_eq!(found.len(), 3, "{found:?}");
    }
}
