//! Random well-formed kernels: interpreter against compiled code.

use std::fmt::Write;

use kurc::ir::kernel::ScalarOp;
use proptest::prelude::*;

use crate::harness::check;

/// Operations whose results stay bounded for bounded operands, so that a tolerance means something.
const OPS: [ScalarOp; 10] = [
    ScalarOp::Add,
    ScalarOp::Sub,
    ScalarOp::Max,
    ScalarOp::Min,
    ScalarOp::Neg,
    ScalarOp::Abs,
    ScalarOp::Tanh,
    ScalarOp::Sigmoid,
    ScalarOp::Mul,
    ScalarOp::Select,
];

/// Statements that load two inputs at `index` and combine them at random; the name of the last value.
fn expression(text: &mut String, next: &mut u32, index: &str, row: &str, picks: &[(usize, usize, usize, f32)]) -> u32 {
    let first = *next;
    let _ = writeln!(text, "%{first} = load %x[{index}]");
    let _ = writeln!(text, "%{} = load %r[{row}]", first + 1);
    *next += 2;
    for (op, a, b, lit) in picks {
        let op = OPS[*op % OPS.len()];
        let count = (*next - first) as usize;
        let mut args: Vec<String> =
            [a, b, &(a + b)].iter().take(op.arity()).map(|p| format!("%{}", first as usize + **p % count)).collect();
        if args.len() > 1 && lit.abs() > 1.0 {
            args[1] = format!("{lit:?}");
        }
        let _ = writeln!(text, "%{next} = {} {}", op.name(), args.join(", "));
        *next += 1;
    }
    *next - 1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_kernels_agree(
        shape in 0usize..4,
        cols in 1u64..40,
        n in 1u64..20,
        one in prop::collection::vec((0usize..100, 0usize..100, 0usize..100, -2f32..2f32), 0..10),
        two in prop::collection::vec((0usize..100, 0usize..100, 0usize..100, -2f32..2f32), 0..6),
    ) {
        let mut next = 0;
        let mut body = String::new();
        match shape {
            // Flat.
            0 => {
                let v = expression(&mut body, &mut next, "i", "0", &one);
                let w = expression(&mut body, &mut next, "i", "i", &two);
                body = format!("for i in n parallel vector {{ {body} store %y[i], %{v} store %z[i], %{w} }}");
            }
            // Rows with broadcasts.
            1 => {
                let v = expression(&mut body, &mut next, &format!("{cols}*i + j"), "i", &one);
                let w = expression(&mut body, &mut next, "i + n*j", "j", &two);
                body = format!("for i in n parallel {{ for j in {cols} vector {{ {body} store %y[{cols}*i + j], %{v} store %z[i + n*j], %{w} }} }}");
            }
            // Row reductions.
            2 => {
                let v = expression(&mut body, &mut next, &format!("{cols}*i + j"), "j", &one);
                let (s, m) = (next, next + 1);
                next += 2;
                let mut after = String::new();
                let w = expression(&mut after, &mut next, "i", "i", &two);
                body = format!("for i in n parallel {{ %{s}, %{m} = reduce add, max j in {cols} vector {{ {body} yield %{v}, %{v} }}
                    {after} %{next} = add %{m}, %{w} store %y[i], %{s} store %z[i], %{next} }}");
            }
            // Column reductions.
            _ => {
                let v = expression(&mut body, &mut next, &format!("i + {cols}*j"), "j", &one);
                let (s, m) = (next, next + 1);
                body = format!("for i in {cols} parallel vector {{ %{s}, %{m} = reduce add, min j in n {{ {body} yield %{v}, %{v} }}
                    store %y[i], %{s} store %z[i], %{m} }}");
            }
        }
        let text = format!("kernel @random (in %x: f32[{cols}*n], in %r: f32[{cols}*n], out %y: f32[{cols}*n], out %z: f32[{cols}*n]) {{ {body} }}");
        check(&text, n, 2e-4);
    }
}
