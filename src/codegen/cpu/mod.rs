//! Kernel IR → x86-64 machine code. Two levels: x86-64 with SSE2 only, and x86-64-v3. Cranelift can compile any kernel
//! (Kernel IR → CLIF → machine code); on v3, those that `wide` can express get eight lanes from there instead of
//! cranelift's four, with the same bits as results (but for which of two NaNs survives an operation).
//!
//! With cranelift, every scalar lives in an F32X4 register, with four equal lanes where it does not come from a vector loop. So vector
//! bodies and remainders are the same arithmetic on the same instructions, and an element's bits do not depend on
//! where it falls.

mod address;
mod emit;
mod loops;
pub mod math;
mod ops;
mod wide;

use std::fmt::Write as _;
use std::sync::Arc;

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{AbiParam, Function, Signature, UserFuncName, types};
use cranelift_codegen::isa::{self, CallConv, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use kur_runtime::payload::{CodeVariant, CpuLevel};

use crate::codegen::{Artifact, Backend, CodegenError};
use crate::ir::kernel::Kernel;
use crate::ir::verify_kernel::verify;

/// Filler between kernels: `int3`, so that a stray jump stops at once.
const PADDING: u8 = 0xcc;

/// What x86-64-v3 adds to the baseline.
const V3_FEATURES: [&str; 11] = [
    "has_sse3",
    "has_ssse3",
    "has_sse41",
    "has_sse42",
    "has_popcnt",
    "has_cmpxchg16b",
    "has_avx",
    "has_avx2",
    "has_fma",
    "has_bmi1",
    "has_bmi2",
];

/// The x86-64 code generator for one CPU level.
pub struct CpuBackend {
    level: CpuLevel,
    isa: Arc<dyn TargetIsa>,
    wide: bool,
}

impl CpuBackend {
    /// A code generator for a level; needs no CPU of that level.
    ///
    /// # Errors
    /// [`CodegenError`] when cranelift refuses its settings.
    pub fn new(level: CpuLevel) -> Result<CpuBackend, CodegenError> {
        Ok(CpuBackend { level, isa: build_isa(level)?, wide: level >= CpuLevel::V3 })
    }

    /// The same with cranelift alone, for comparisons.
    #[must_use]
    pub fn four_lanes(self) -> CpuBackend {
        CpuBackend { wide: false, ..self }
    }

    /// The code of a verified kernel with eight lanes, where this level and [`wide`] have it.
    fn eight_lanes(&self, kernel: &Kernel) -> Option<wide::Blob> {
        if self.wide { wide::compile(kernel) } else { None }
    }

    /// Compiles kernels into a code variant of the payload.
    ///
    /// # Errors
    /// As [`Backend::compile`].
    pub fn variant(&self, kernels: &[Kernel]) -> Result<CodeVariant, CodegenError> {
        let Artifact { code, entries } = self.compile(kernels)?;
        Ok(CodeVariant { level: self.level, entries, code })
    }

    /// The CLIF of a verified kernel.
    fn function(&self, kernel: &Kernel, frontend: &mut FunctionBuilderContext) -> Result<Function, CodegenError> {
        let mut sig = Signature::new(CallConv::SystemV);
        sig.params.extend([AbiParam::new(types::I64); 3]);
        let mut func = Function::with_name_signature(UserFuncName::testcase(kernel.name.as_bytes()), sig);
        emit::emit(kernel, self.level, self.isa.frontend_config(), &mut func, frontend)?;
        Ok(func)
    }

    fn compile_one(
        &self,
        kernel: &Kernel,
        cx: &mut Context,
        frontend: &mut FunctionBuilderContext,
    ) -> Result<(), CodegenError> {
        cx.clear();
        cx.func = self.function(kernel, frontend)?;
        let compiled = cx.compile(&*self.isa, &mut ControlPlane::default());
        let compiled = compiled.map_err(|e| CodegenError::new(format!("{e:?}", e = e.inner)))?;
        // A blob is mapped as it is; anything that a linker would have to patch is a mistake here.
        if let Some(reloc) = compiled.buffer.relocs().first() {
            return Err(CodegenError::new(format!("the code needs a relocation: {reloc:?}")));
        }
        if compiled.buffer.alignment as usize > Artifact::ALIGN {
            return Err(CodegenError::new(format!("the code needs an alignment of {}", compiled.buffer.alignment)));
        }
        Ok(())
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        match self.level {
            CpuLevel::Baseline => "x86-64",
            CpuLevel::V3 => "x86-64-v3",
        }
    }

    fn compile(&self, kernels: &[Kernel]) -> Result<Artifact, CodegenError> {
        let mut cx = Context::new();
        let mut frontend = FunctionBuilderContext::new();
        let mut out = Artifact { code: Vec::new(), entries: Vec::with_capacity(kernels.len()) };
        for kernel in kernels {
            out.code.resize(out.code.len().next_multiple_of(Artifact::ALIGN), PADDING);
            out.entries.push(out.code.len() as u64);
            checked(kernel)?;
            if let Some(code) = self.eight_lanes(kernel) {
                out.code.extend_from_slice(&code.bytes);
                continue;
            }
            self.compile_one(kernel, &mut cx, &mut frontend).map_err(|e| e.within(kernel))?;
            let compiled = cx.compiled_code().ok_or_else(|| CodegenError::new("no code").within(kernel))?;
            out.code.extend_from_slice(compiled.code_buffer());
        }
        Ok(out)
    }
}

/// Compiles kernels for one level: what the payload carries.
///
/// # Errors
/// As [`Backend::compile`].
pub fn compile_variant(kernels: &[Kernel], level: CpuLevel) -> Result<CodeVariant, CodegenError> {
    CpuBackend::new(level)?.variant(kernels)
}

/// The CLIF text of a kernel, as `--emit=clif` shows it, also where eight lanes are used instead of it.
///
/// # Errors
/// As [`Backend::compile`].
pub fn clif_text(kernel: &Kernel, level: CpuLevel) -> Result<String, CodegenError> {
    checked(kernel)?;
    let func = CpuBackend::new(level)?.function(kernel, &mut FunctionBuilderContext::new());
    func.map(|f| f.display().to_string()).map_err(|e| e.within(kernel))
}

/// The disassembly of a kernel, as `--emit=asm` shows it.
///
/// # Errors
/// As [`Backend::compile`].
pub fn asm_text(kernel: &Kernel, level: CpuLevel) -> Result<String, CodegenError> {
    let backend = CpuBackend::new(level)?;
    let fail = |e: String| CodegenError::new(format!("disassembly failed: {e}")).within(kernel);
    let capstone = backend.isa.to_capstone().map_err(|e| fail(e.to_string()))?;
    checked(kernel)?;
    if let Some(code) = backend.eight_lanes(kernel) {
        let mut text = format!("@{}: ; {}, eight lanes\n", kernel.name, backend.name());
        let instructions = &code.bytes[..code.instructions];
        for i in capstone.disasm_all(instructions, 0).map_err(|e| fail(e.to_string()))?.iter() {
            let (mnemonic, operands) = (i.mnemonic().unwrap_or("?"), i.op_str().unwrap_or(""));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:>6x}: {}", i.address(), format!("{mnemonic} {operands}").trim_end());
        }
        let pool = code.instructions.next_multiple_of(wide::VECTOR);
        for (i, bits) in code.pool.iter().enumerate() {
            let _ = writeln!(text, "{:>6x}: 8 x {:?}", pool + wide::VECTOR * i, f32::from_bits(*bits));
        }
        return Ok(text);
    }
    let mut cx = Context::new();
    backend.compile_one(kernel, &mut cx, &mut FunctionBuilderContext::new()).map_err(|e| e.within(kernel))?;
    let compiled = cx.compiled_code().ok_or_else(|| fail("no code".to_owned()))?;
    let text = compiled.disassemble(Some(&cx.func.params), &capstone).map_err(|e| fail(e.to_string()))?;
    Ok(format!("@{}: ; {}\n{text}", kernel.name, backend.name()))
}

fn checked(kernel: &Kernel) -> Result<(), CodegenError> {
    verify(kernel).map_err(|e| CodegenError::new(e.to_string()).within(kernel))
}

/// The cranelift target of a level, with the settings that all code of kurc is compiled with.
pub(crate) fn build_isa(level: CpuLevel) -> Result<Arc<dyn TargetIsa>, CodegenError> {
    let refuse = |e: &dyn std::fmt::Display| CodegenError::new(format!("cranelift settings: {e}"));
    let mut flags = settings::builder();
    for (name, value) in [
        // Address arithmetic and invariants are placed by hand in `loops`. Measured with `examples/kernel_bench`, the
        // optimizer gains 7 % on relu(a·b+c) in L1 and nothing beyond, but hoists the constants of transcendental
        // functions out of the loop and spills them: exp 0.49 → 0.36, tanh 0.30 → 0.22 elements per cycle.
        ("opt_level", "none"),
        ("enable_verifier", "true"),
        // Says how symbols would be reached. There are none, and cranelift-jit insists on this value.
        ("is_pic", "false"),
        ("unwind_info", "false"),
        ("enable_probestack", "false"),
    ] {
        flags.set(name, value).map_err(|e| refuse(&e))?;
    }
    let triple: target_lexicon::Triple = "x86_64-unknown-linux-gnu".parse().map_err(|e| refuse(&e))?;
    let mut isa = isa::lookup(triple).map_err(|e| refuse(&e))?;
    if level == CpuLevel::V3 {
        for feature in V3_FEATURES {
            isa.enable(feature).map_err(|e| refuse(&e))?;
        }
    }
    isa.finish(settings::Flags::new(flags)).map_err(|e| refuse(&e))
}
