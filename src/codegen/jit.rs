//! Loads a code variant into this process: what `kurc train` does instead of writing an executable. The bytes are the
//! very ones that an executable would carry, so both run the same code.

use std::sync::Mutex;

use cranelift_codegen::ir::{AbiParam, Signature, types};
use cranelift_codegen::isa::CallConv;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, default_libcall_names};
use kur_runtime::abi::KernelFn;
use kur_runtime::exec::CodeTable;
use kur_runtime::payload::CodeVariant;

use crate::codegen::cpu::build_isa;
use crate::codegen::{Artifact, CodegenError};

/// Owns the memory of the code; frees it when the last kernel is gone.
struct Loaded(Mutex<Option<JITModule>>);

impl Drop for Loaded {
    fn drop(&mut self) {
        let module = self.0.get_mut().ok().and_then(Option::take);
        if let Some(module) = module {
            // SAFETY: the code table that owns this memory is being dropped, and its entries with it, so that no
            // kernel runs or can be called any more.
            unsafe { module.free_memory() };
        }
    }
}

/// Maps code executable and gives its entry points. The CPU must have what [`CodeVariant::level`] asks for; this is
/// for the caller to check.
///
/// # Errors
/// [`CodegenError`] when an entry lies outside of the code, or no executable memory can be had.
pub fn load(variant: &CodeVariant) -> Result<CodeTable, CodegenError> {
    let size = variant.code.len() as u64;
    if let Some(bad) = variant.entries.iter().find(|e| **e >= size) {
        return Err(CodegenError::new(format!("entry {bad} lies outside of {size} bytes of code")));
    }
    let refuse = |e: &dyn std::fmt::Display| CodegenError::new(format!("loading code: {e}"));
    let builder = JITBuilder::with_isa(build_isa(variant.level)?, default_libcall_names());
    let mut module = JITModule::new(builder);
    let mut entries = Vec::with_capacity(variant.entries.len());
    if !variant.code.is_empty() {
        let mut sig = Signature::new(CallConv::SystemV);
        sig.params.extend([AbiParam::new(types::I64); 3]);
        let id = module.declare_function("kernels", Linkage::Local, &sig).map_err(|e| refuse(&e))?;
        let defined = module.define_function_bytes(id, Artifact::ALIGN as u64, &variant.code, &[]);
        defined.map_err(|e| refuse(&e))?;
        module.finalize_definitions().map_err(|e| refuse(&e))?;
        let base = module.get_finalized_function(id);
        for entry in &variant.entries {
            let at = usize::try_from(*entry).map_err(|e| refuse(&e))?;
            // SAFETY: `at` is inside of the blob (checked above), where the code generator put the entry of a
            // function with exactly this signature; the blob lives as long as the owner below.
            entries.push(unsafe { std::mem::transmute::<*const u8, KernelFn>(base.add(at)) });
        }
    }
    Ok(CodeTable { entries, owner: Box::new(Loaded(Mutex::new(Some(module)))) })
}
