//! Prints kernels. What comes out parses back to an equal text (`kernel_parse`); the same kernel always gives the
//! same text. Loops are named `i j k …` by their depth, values by their number.

use std::fmt;

use kur_runtime::dim::{Dim, Sym, SymbolTable};

use crate::ir::kernel::{IdxId, Index, Kernel, Operand, Stmt, ValId};

/// Names of loop indices by depth; deeper ones, and those that are taken by a symbol, are numbered.
const INDEX_NAMES: [&str; 8] = ["i", "j", "k", "l", "p", "q", "r", "s"];

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel @{} ", self.name)?;
        print_symbols(f, &self.symbols)?;
        f.write_str(" (")?;
        for (i, b) in self.bufs.iter().enumerate() {
            let sep = if i == 0 { "" } else { ", " };
            let len = b.len.display(&self.symbols);
            write!(f, "{sep}{} %{}: {}[{len}]", b.access.name(), b.name, b.ty.name())?;
        }
        f.write_str(") {\n")?;
        let mut p = Printer { out: f, kernel: self, scope: Vec::new() };
        p.stmt(&self.body)?;
        f.write_str("}\n")
    }
}

/// The texts of several kernels, separated by empty lines: what `--emit=kernel` writes.
#[must_use]
pub fn print_all(kernels: &[Kernel]) -> String {
    kernels.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The name of the loop at a depth, kept apart from the symbols.
#[must_use]
pub fn index_name(symbols: &SymbolTable, depth: usize) -> String {
    match INDEX_NAMES.get(depth) {
        Some(name) if symbols.find(name).is_none() => (*name).to_owned(),
        _ => {
            let mut name = format!("i{depth}");
            while symbols.find(&name).is_some() {
                name.push('_');
            }
            name
        }
    }
}

fn print_symbols(f: &mut fmt::Formatter<'_>, symbols: &SymbolTable) -> fmt::Result {
    f.write_str("symbols(")?;
    for i in 0..symbols.len() {
        let sym = Sym(u8::try_from(i).unwrap_or(u8::MAX));
        if i > 0 {
            f.write_str(", ")?;
        }
        f.write_str(symbols.name(sym))?;
        if let Some(def) = symbols.def(sym) {
            let sign = if def.add < 0 { '-' } else { '+' };
            write!(f, " = ({} {sign} {}) / {}", def.base.display(symbols), def.add.unsigned_abs(), def.div)?;
        }
    }
    f.write_str(")")
}

struct Printer<'a, 'f, 'b> {
    out: &'a mut fmt::Formatter<'f>,
    kernel: &'b Kernel,
    /// Open loops, outermost first.
    scope: Vec<(IdxId, String)>,
}

impl Printer<'_, '_, '_> {
    fn indent(&mut self) -> fmt::Result {
        for _ in 0..=self.scope.len() {
            self.out.write_str("  ")?;
        }
        Ok(())
    }

    fn open(&mut self, idx: IdxId) -> String {
        let name = index_name(&self.kernel.symbols, self.scope.len());
        self.scope.push((idx, name.clone()));
        name
    }

    fn dim(&self, d: Dim) -> String {
        d.display(&self.kernel.symbols).to_string()
    }

    fn buf(&self, b: crate::ir::kernel::BufId) -> &str {
        self.kernel.bufs.get(b.0 as usize).map_or("?", |d| &d.name)
    }

    fn index(&self, index: &Index) -> String {
        let mut parts = Vec::new();
        for (idx, stride) in &index.terms {
            let name = self.scope.iter().rev().find(|(i, _)| i == idx).map_or("?", |(_, n)| n);
            parts.push(if *stride == Dim::ONE { name.to_owned() } else { format!("{}*{name}", self.dim(*stride)) });
        }
        if index.base != 0 || parts.is_empty() {
            parts.push(index.base.to_string());
        }
        parts.join(" + ")
    }

    fn block(&mut self, body: &[Stmt]) -> fmt::Result {
        body.iter().try_for_each(|s| self.stmt(s))
    }

    fn stmt(&mut self, stmt: &Stmt) -> fmt::Result {
        self.indent()?;
        match stmt {
            Stmt::Let { val, op, args } => writeln!(self.out, "%{} = {} {}", val.0, op.name(), operands(args)),
            Stmt::Load { val, buf, index } => {
                let text = format!("%{} = load %{}[{}]", val.0, self.buf(*buf), self.index(index));
                writeln!(self.out, "{text}")
            }
            Stmt::Random { val, key, seed, step, index } => {
                let index = self.index(index);
                writeln!(self.out, "%{} = random {key}, %{}, %{} [{index}]", val.0, seed.0, step.0)
            }
            Stmt::Store { buf, index, value } => {
                let text = format!("store %{}[{}], {}", self.buf(*buf), self.index(index), operand(*value));
                writeln!(self.out, "{text}")
            }
            Stmt::For { idx, extent, mode, body } => {
                let extent = self.dim(*extent);
                let name = self.open(*idx);
                let mode = if mode.suffix().is_empty() { String::new() } else { format!(" {}", mode.suffix()) };
                writeln!(self.out, "for {name} in {extent}{mode} {{")?;
                self.block(body)?;
                self.close()
            }
            Stmt::Reduce { idx, extent, vector, accs, body, yields } => {
                let vals = accs.iter().map(|(_, v)| value(*v)).collect::<Vec<_>>().join(", ");
                let ops = accs.iter().map(|(op, _)| op.name()).collect::<Vec<_>>().join(", ");
                let extent = self.dim(*extent);
                let lanes = if *vector { " vector" } else { "" };
                let name = self.open(*idx);
                writeln!(self.out, "{vals} = reduce {ops} {name} in {extent}{lanes} {{")?;
                self.block(body)?;
                self.indent()?;
                writeln!(self.out, "yield {}", operands(yields))?;
                self.close()
            }
        }
    }

    fn close(&mut self) -> fmt::Result {
        self.scope.pop();
        self.indent()?;
        self.out.write_str("}\n")
    }
}

fn value(v: ValId) -> String {
    format!("%{}", v.0)
}

fn operand(o: Operand) -> String {
    match o {
        Operand::Val(v) => value(v),
        Operand::Lit(x) => literal(x),
    }
}

fn operands(list: &[Operand]) -> String {
    list.iter().map(|o| operand(*o)).collect::<Vec<_>>().join(", ")
}

/// The shortest text that reads back to the same f64.
fn literal(x: f64) -> String {
    if x.is_nan() { "nan".to_owned() } else { format!("{x:?}") }
}
