//! Runs one kernel text everywhere and compares.

use kur_runtime::abi::KernelArgs;
use kur_runtime::exec::CodeTable;
use kur_runtime::payload::CpuLevel;
use kurc::codegen::cpu::{CpuBackend, asm_text, compile_variant};
use kurc::codegen::jit;
use kurc::ir::interp::kernel::{Data, Precision, run};
use kurc::ir::kernel::{Access, Kernel, Scalar, Stmt};
use kurc::ir::text::kernel_parse::parse_kernel;
use kurc::ir::verify_kernel::verify;

/// Sizes of the batch symbol.
pub(crate) const SIZES: [u64; 6] = [1, 3, 7, 17, 33, 100];
/// Elements before and after each buffer that no kernel may change.
const MARGIN: usize = 24;
const CANARY: u32 = 0x7fc0_dead;

/// Levels that this CPU can run. The baseline always can; v3 is skipped by name where it cannot.
pub(crate) fn levels() -> Vec<CpuLevel> {
    let mut levels = vec![CpuLevel::Baseline];
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        levels.push(CpuLevel::V3);
    } else {
        eprintln!("skipped: x86-64-v3 (this CPU has no AVX2 and FMA)");
    }
    levels
}

pub(crate) fn load(kernel: &Kernel, level: CpuLevel) -> CodeTable {
    let variant = compile_variant(std::slice::from_ref(kernel), level).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
    jit::load(&variant).expect("code loads")
}

/// A buffer as 32-bit words.
pub(crate) type Words = Vec<u32>;

/// Calls a kernel over the given chunks on copies of the buffers, which it returns.
pub(crate) fn call(code: &CodeTable, values: &[u64], bufs: &[Words], chunks: &[(u64, u64)]) -> Vec<Words> {
    let margin = [CANARY; MARGIN];
    let mut memory: Vec<Words> = bufs.iter().map(|b| [&margin[..], b, &margin[..]].concat()).collect();
    let pointers: Vec<*mut u8> = memory.iter_mut().map(|m| m[MARGIN..].as_mut_ptr().cast()).collect();
    let args = KernelArgs { bufs: pointers.as_ptr(), syms: values.as_ptr() };
    for (lo, hi) in chunks {
        // SAFETY: the kernel was verified and compiled for these buffers, which have the lengths it declares.
        unsafe { code.entries[0](&raw const args, *lo, *hi) };
    }
    for m in &mut memory {
        let end = m.split_off(m.len() - MARGIN);
        assert!(end.iter().chain(&m[..MARGIN]).all(|w| *w == CANARY), "a kernel wrote outside of a buffer");
        m.drain(..MARGIN);
    }
    memory
}

/// Reproducible contents: small floats of both signs, a few zeros, and words for u32 buffers.
pub(crate) fn fill(kernel: &Kernel, values: &[u64], salt: u32) -> Vec<Words> {
    let mut bufs = Vec::new();
    for (b, decl) in kernel.bufs.iter().enumerate() {
        let len = usize::try_from(decl.len.eval(values)).expect("small");
        let words = (0..len).map(|i| {
            let bits = kur_runtime::abi::rng::bits(salt ^ (b as u32) << 8, i as u32);
            match (decl.ty, decl.access) {
                (Scalar::U32, _) => bits,
                (_, Access::Out) => f32::NAN.to_bits(),
                _ if bits.is_multiple_of(13) => 0,
                _ => ((bits >> 8) as f32 / 2_097_152.0 - 4.0).to_bits(),
            }
        });
        bufs.push(words.collect());
    }
    bufs
}

fn interpret(kernel: &Kernel, values: &[u64], bufs: &[Words]) -> Vec<Data> {
    let mut data: Vec<Data> = bufs
        .iter()
        .zip(&kernel.bufs)
        .map(|(words, decl)| match decl.ty {
            Scalar::F32 => Data::F32(words.iter().map(|w| f64::from(f32::from_bits(*w))).collect()),
            Scalar::U32 => Data::U32(words.clone()),
        })
        .collect();
    run(kernel, values, &mut data, Precision::F64).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
    data
}

/// Ways to cut a range: whole, halves at odd places, single iterations, multiples of 16, and with empty chunks.
fn cuts(extent: u64) -> Vec<Vec<(u64, u64)>> {
    let step = |k: u64| (0..extent).step_by(k as usize).map(|lo| (lo, (lo + k).min(extent))).collect::<Vec<_>>();
    let third = extent / 3;
    vec![step(1), step(5), step(16), vec![(third, extent), (third, third), (0, third)]]
}

/// Checks one text at one batch size; `tol` is relative to 1 + |expected|.
pub(crate) fn check(text: &str, n: u64, tol: f64) {
    let kernel = parse_kernel(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    verify(&kernel).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
    let free: Vec<_> = (0..kernel.symbols.len()).map(|i| (kur_runtime::dim::Sym(i as u8), n + 4 * i as u64)).collect();
    let values = kernel.symbols.values(&free);
    let input = fill(&kernel, &values, 7);
    let want = interpret(&kernel, &values, &input);
    let Stmt::For { extent, .. } = &kernel.body else { unreachable!("verified") };
    let extent = extent.eval(&values);
    for level in levels() {
        let code = load(&kernel, level);
        let got = call(&code, &values, &input, &[(0, extent)]);
        let explain =
            || format!("{kernel}\nlevel {level:?}, n = {n}\n{}", asm_text(&kernel, level).expect("disassembles"));
        for (b, decl) in kernel.bufs.iter().enumerate() {
            if !decl.access.stores() {
                assert_eq!(got[b], input[b], "%{} was changed\n{}", decl.name, explain());
                continue;
            }
            for (i, (g, w)) in got[b].iter().zip(want[b].floats()).enumerate() {
                let g = f64::from(f32::from_bits(*g));
                let same = g == *w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= tol * (1.0 + w.abs());
                assert!(same, "%{}[{i}] is {g}, expected {w}\n{}", decl.name, explain());
            }
        }
        for chunks in cuts(extent) {
            assert!(call(&code, &values, &input, &chunks) == got, "chunks {chunks:?} give other bits\n{}", explain());
        }
    }
}

/// Whether two results are the same bits; which of two NaNs survives an addition is left open.
fn same_bits(a: &[Words], b: &[Words]) -> bool {
    let same = |a: &u32, b: &u32| a == b || (f32::from_bits(*a).is_nan() && f32::from_bits(*b).is_nan());
    a.iter().zip(b).all(|(a, b)| a.iter().zip(b).all(|(a, b)| same(a, b)))
}

/// Every fourth number replaced by one of those that rules are made for.
fn with_special_values(kernel: &Kernel, mut bufs: Vec<Words>) -> Vec<Words> {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 1e-45, -1e-45, f32::MAX, 1.0];
    for (decl, words) in kernel.bufs.iter().zip(&mut bufs) {
        if decl.ty == Scalar::F32 && decl.access.loads() {
            for (i, w) in words.iter_mut().enumerate().filter(|(_, w)| w.is_multiple_of(4)) {
                *w = special[i % special.len()].to_bits();
            }
        }
    }
    bufs
}

/// Checks that code with eight lanes and code with four give the same bits for one text at one batch size, special
/// values included, however the range is cut. Gives whether there is code with eight lanes.
pub(crate) fn check_lanes(text: &str, n: u64) -> bool {
    let kernel = parse_kernel(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let free: Vec<_> = (0..kernel.symbols.len()).map(|i| (kur_runtime::dim::Sym(i as u8), n + 4 * i as u64)).collect();
    let values = kernel.symbols.values(&free);
    let Stmt::For { extent, .. } = &kernel.body else { unreachable!("verified") };
    let extent = extent.eval(&values);
    let level = CpuLevel::V3;
    let asm = asm_text(&kernel, level).expect("disassembles");
    if !levels().contains(&level) || !asm.lines().next().is_some_and(|l| l.ends_with("eight lanes")) {
        return false;
    }
    let four = CpuBackend::new(level).and_then(|b| b.four_lanes().variant(std::slice::from_ref(&kernel)));
    let four = jit::load(&four.unwrap_or_else(|e| panic!("{e}\n{kernel}"))).expect("code loads");
    let eight = load(&kernel, level);
    let plain = fill(&kernel, &values, 11);
    for input in [with_special_values(&kernel, plain.clone()), plain] {
        let want = call(&four, &values, &input, &[(0, extent)]);
        for chunks in cuts(extent).into_iter().chain([vec![(0, extent)]]) {
            let got = call(&eight, &values, &input, &chunks);
            assert!(same_bits(&got, &want), "other bits than with four lanes, n = {n}, {chunks:?}\n{kernel}\n{asm}");
        }
    }
    true
}

/// Checks one text at all sizes.
pub(crate) fn check_sizes(text: &str, tol: f64) {
    for n in SIZES {
        check(text, n, tol);
        check_lanes(text, n);
    }
}
