//! Instructions read back with a disassembler, and what the emitter takes and leaves. That its results are right is
//! asserted by `tests/kernels`.

use kur_runtime::payload::CpuLevel;

use super::compile;
use super::encode::{Alu, Assembler, Cond, Gpr, Mem, Operand, Packed, RAX, RSP, Ymm};
use crate::codegen::cpu::build_isa;
use crate::ir::text::kernel_parse::parse_kernel;

/// The instructions as the disassembler reads them.
fn read_back(write: impl FnOnce(&mut Assembler)) -> Vec<String> {
    let mut asm = Assembler::default();
    write(&mut asm);
    let blob = asm.finish().expect("all labels are bound");
    let capstone = build_isa(CpuLevel::V3).expect("settings").to_capstone().expect("a disassembler");
    let lines = capstone.disasm_all(&blob.bytes[..blob.instructions], 0).expect("valid code");
    let text = |mnemonic: Option<&str>, operands: Option<&str>| {
        format!("{} {}", mnemonic.unwrap_or("?"), operands.unwrap_or("")).trim_end().to_owned()
    };
    lines.iter().map(|i| text(i.mnemonic(), i.op_str())).collect()
}

fn at(base: u8, index: Option<u8>, disp: i32) -> Mem {
    Mem::At { base: Gpr(base), index: index.map(Gpr), disp }
}

#[test]
fn vector_instructions_read_back() {
    let got = read_back(|a| {
        a.packed(Packed::Add, Ymm(1), Ymm(2), Operand::Reg(Ymm(3)));
        a.packed(Packed::Sub, Ymm(9), Ymm(10), Operand::Reg(Ymm(11)));
        a.packed(Packed::Div, Ymm(1), Ymm(15), Operand::Mem(at(0, None, 0)));
        a.packed(Packed::AndNot, Ymm(8), Ymm(0), Operand::Mem(at(5, Some(12), 0)));
        a.packed(Packed::Max, Ymm(7), Ymm(7), Operand::Mem(at(13, Some(8), 127)));
        a.compare(1, Ymm(4), Ymm(5), Operand::Reg(Ymm(14)));
        a.blend(Ymm(2), Ymm(3), Operand::Reg(Ymm(12)), Ymm(13));
        a.blend(Ymm(2), Ymm(3), Operand::Mem(at(12, None, -128)), Ymm(4));
        a.sqrt(Ymm(8), Ymm(9));
        a.copy(Ymm(0), Operand::Reg(Ymm(8)));
        a.load(Ymm(1), at(4, None, 8));
        a.store(at(1, Some(9), 4096), Ymm(12));
        a.broadcast(Ymm(11), at(10, Some(3), -132));
        a.store_one(at(14, None, 0), Ymm(6));
        a.prefetch(at(9, Some(13), 2048));
        a.prefetch(at(3, None, 64));
        a.zero_upper();
        a.ret();
    });
    // As AT&T writes it: the result is last.
    let want = [
        "vaddps %ymm3, %ymm2, %ymm1",
        "vsubps %ymm11, %ymm10, %ymm9",
        "vdivps (%rax), %ymm15, %ymm1",
        "vandnps (%rbp, %r12), %ymm0, %ymm8",
        "vmaxps 0x7f(%r13, %r8), %ymm7, %ymm7",
        "vcmpltps %ymm14, %ymm5, %ymm4",
        "vblendvps %ymm13, %ymm12, %ymm3, %ymm2",
        "vblendvps %ymm4, -0x80(%r12), %ymm3, %ymm2",
        "vsqrtps %ymm9, %ymm8",
        "vmovaps %ymm8, %ymm0",
        "vmovups 8(%rsp), %ymm1",
        "vmovups %ymm12, 0x1000(%rcx, %r9)",
        "vbroadcastss -0x84(%r10, %rbx), %ymm11",
        "vmovss %xmm6, (%r14)",
        "prefetcht0 0x800(%r9, %r13)",
        "prefetcht0 0x40(%rbx)",
        "vzeroupper",
        "retq",
    ];
    assert_eq!(got, want);
}

#[test]
fn integer_instructions_read_back() {
    let got = read_back(|a| {
        a.alu_imm(Alu::Add, Gpr(9), -4);
        a.alu_imm(Alu::Sub, RSP, 24);
        a.alu_imm(Alu::Cmp, RAX, 16);
        a.alu_mem(Alu::Add, Gpr(13), RSP, 16);
        a.alu_reg(Alu::Sub, Gpr(2), Gpr(6));
        a.mov(Gpr(12), Gpr(7));
        a.mov_imm(Gpr(11), 5_000_000_000);
        a.mov_load(Gpr(5), RAX, 300);
        a.mov_store(RSP, 8, Gpr(15));
        a.imul_imm(Gpr(8), Gpr(6), 4);
        a.imul_mem(Gpr(3), RSP, 0);
        a.push(Gpr(12));
        a.pop(Gpr(3));
    });
    let want = [
        "addq $-4, %r9",
        "subq $0x18, %rsp",
        "cmpq $0x10, %rax",
        "addq 0x10(%rsp), %r13",
        "subq %rsi, %rdx",
        "movq %rdi, %r12",
        "movabsq $0x12a05f200, %r11",
        "movq 0x12c(%rax), %rbp",
        "movq %r15, 8(%rsp)",
        "imulq $4, %rsi, %r8",
        "imulq (%rsp), %rbx",
        "pushq %r12",
        "popq %rbx",
    ];
    assert_eq!(got, want);
}

#[test]
fn jumps_and_constants_are_relative() {
    let got = read_back(|a| {
        let (back, forward) = (a.label(), a.label());
        a.bind(back);
        let one = a.constant(1);
        a.copy(Ymm(1), Operand::Mem(Mem::Pool(one)));
        let two = a.constant(2);
        a.compare(2, Ymm(1), Ymm(2), Operand::Mem(Mem::Pool(two)));
        a.jump_if(Cond::NonZero, back);
        a.jump_if(Cond::NotGreater, forward);
        a.ret();
        a.bind(forward);
        a.ret();
    });
    // 8 + 9 + 6 + 6 + 1 + 1 bytes of code; the pool begins at 32.
    let want = ["vmovaps 0x18(%rip), %ymm1", "vcmpleps 0x2f(%rip), %ymm2, %ymm1", "jne 0", "jle 0x1e", "retq", "retq"];
    assert_eq!(got, want);
}

fn takes(text: &str) -> bool {
    compile(&parse_kernel(text).unwrap_or_else(|e| panic!("{e}"))).is_some()
}

#[test]
fn takes_what_it_can_express_and_leaves_the_rest() {
    let flat =
        |body: &str| format!("kernel @k (in %x: f32[n], out %y: f32[n]) {{ for i in n parallel vector {{ {body} }} }}");
    assert!(takes(&flat("%0 = load %x[i] %1 = sqrt %0 store %y[i], %1")));
    // Functions, elements apart, random numbers.
    assert!(!takes(&flat("%0 = load %x[i] %1 = exp %0 store %y[i], %1")));
    assert!(!takes(
        "kernel @k (in %x: f32[2*n], out %y: f32[n]) { for i in n parallel vector { %0 = load %x[2*i] store %y[i], %0 } }"
    ));
    // A sum down a column keeps its order, one along a row would not.
    assert!(takes(
        "kernel @k (in %x: f32[8*n], out %y: f32[8]) { for i in 8 parallel vector {
           %1 = reduce add j in n { %0 = load %x[i + 8*j] yield %0 } store %y[i], %1 } }"
    ));
    assert!(!takes(
        "kernel @k (in %x: f32[8*n], out %y: f32[n]) { for i in n parallel {
           %1 = reduce add j in 8 vector { %0 = load %x[8*i + j] yield %0 } store %y[i], %1 } }"
    ));
}

#[test]
fn too_many_values_at_once_are_left_to_cranelift() {
    use std::fmt::Write;
    // All loads first, then all uses.
    let text = |n: usize| {
        let mut body = String::new();
        for v in 0..n {
            let _ = writeln!(body, "%{v} = load %x[i + {v}]");
        }
        for v in 0..n {
            let _ = writeln!(body, "%{} = mul %{v}, %{}", n + v, n - 1 - v);
        }
        for v in 1..n {
            let (left, right) = (if v == 1 { n } else { 2 * n + v - 2 }, n + v);
            let _ = writeln!(body, "%{} = add %{left}, %{right}", 2 * n + v - 1);
        }
        format!(
            "kernel @k (in %x: f32[n + {n}], out %y: f32[n]) {{ for i in n parallel vector {{ {body} store %y[i], %{} }} }}",
            3 * n - 2
        )
        .replace(&format!("f32[n + {n}]"), "f32[40*n]")
    };
    assert!(takes(&text(6)));
    assert!(takes(&text(9)));
    assert!(!takes(&text(24)));
}
