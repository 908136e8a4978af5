//! Random well-formed kernels: interpreter against compiled code.

use std::fmt::Write;

use kurc::ir::kernel::ScalarOp;
use proptest::prelude::*;

use crate::harness::{check, check_lanes, levels};

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
fn expression(
    text: &mut String,
    next: &mut u32,
    ops: &[ScalarOp],
    index: &str,
    row: &str,
    picks: &[(usize, usize, usize, f32)],
) -> u32 {
    let first = *next;
    let _ = writeln!(text, "%{first} = load %x[{index}]");
    let _ = writeln!(text, "%{} = load %r[{row}]", first + 1);
    *next += 2;
    for (op, a, b, lit) in picks {
        let op = ops[*op % ops.len()];
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
                let v = expression(&mut body, &mut next, &OPS, "i", "0", &one);
                let w = expression(&mut body, &mut next, &OPS, "i", "i", &two);
                body = format!("for i in n parallel vector {{ {body} store %y[i], %{v} store %z[i], %{w} }}");
            }
            // Rows with broadcasts.
            1 => {
                let v = expression(&mut body, &mut next, &OPS, &format!("{cols}*i + j"), "i", &one);
                let w = expression(&mut body, &mut next, &OPS, "i + n*j", "j", &two);
                body = format!("for i in n parallel {{ for j in {cols} vector {{ {body} store %y[{cols}*i + j], %{v} store %z[i + n*j], %{w} }} }}");
            }
            // Row reductions.
            2 => {
                let v = expression(&mut body, &mut next, &OPS, &format!("{cols}*i + j"), "j", &one);
                let (s, m) = (next, next + 1);
                next += 2;
                let mut after = String::new();
                let w = expression(&mut after, &mut next, &OPS, "i", "i", &two);
                body = format!("for i in n parallel {{ %{s}, %{m} = reduce add, max j in {cols} vector {{ {body} yield %{v}, %{v} }}
                    {after} %{next} = add %{m}, %{w} store %y[i], %{s} store %z[i], %{next} }}");
            }
            // Column reductions.
            _ => {
                let v = expression(&mut body, &mut next, &OPS, &format!("i + {cols}*j"), "j", &one);
                let (s, m) = (next, next + 1);
                body = format!("for i in {cols} parallel vector {{ %{s}, %{m} = reduce add, min j in n {{ {body} yield %{v}, %{v} }}
                    store %y[i], %{s} store %z[i], %{m} }}");
            }
        }
        let text = format!("kernel @random (in %x: f32[{cols}*n], in %r: f32[{cols}*n], out %y: f32[{cols}*n], out %z: f32[{cols}*n]) {{ {body} }}");
        check(&text, n, 2e-4);
    }
}

/// Every operation that code with eight lanes has.
const WITHOUT_FUNCTIONS: [ScalarOp; 12] = [
    ScalarOp::Add,
    ScalarOp::Sub,
    ScalarOp::Mul,
    ScalarOp::Div,
    ScalarOp::Max,
    ScalarOp::Min,
    ScalarOp::Lt,
    ScalarOp::Le,
    ScalarOp::Eq,
    ScalarOp::Select,
    ScalarOp::Abs,
    ScalarOp::Sqrt,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn eight_lanes_give_the_bits_of_four(
        shape in 0usize..6,
        cols in 1u64..150,
        n in 1u64..20,
        one in prop::collection::vec((0usize..100, 0usize..100, 0usize..100, -2f32..2f32), 0..8),
        two in prop::collection::vec((0usize..100, 0usize..100, 0usize..100, -2f32..2f32), 0..5),
    ) {
        let mut next = 0;
        let mut body = String::new();
        let row = format!("{cols}*i + j");
        let ops = &WITHOUT_FUNCTIONS;
        match shape {
            // Flat.
            0 => {
                let v = expression(&mut body, &mut next, ops, "i", "0", &one);
                let w = expression(&mut body, &mut next, ops, "i", "i", &two);
                body = format!("for i in {cols}*n parallel vector {{ {body} store %y[i], %{v} store %z[i], %{w} }}");
            }
            // Rows, with what is the same for a row or a column.
            1 => {
                let v = expression(&mut body, &mut next, ops, &row, "i", &one);
                let w = expression(&mut body, &mut next, ops, &row, "j", &two);
                body = format!("for i in n parallel {{ for j in {cols} vector {{ {body} store %y[{row}], %{v} store %z[{row}], %{w} }} }}");
            }
            // Sums down columns, with a result for each element and for each column.
            2 => {
                let v = expression(&mut body, &mut next, ops, &format!("i + {cols}*j"), "i", &one);
                let (s, m) = (next, next + 1);
                next += 2;
                let mut after = String::new();
                let w = expression(&mut after, &mut next, ops, "i", "0", &two);
                body = format!("for i in {cols} parallel vector {{
                    %{s}, %{m} = reduce add, max j in n {{ {body} store %y[i + {cols}*j], %{v} yield %{v}, %{v} }}
                    {after} %{next} = sub %{m}, %{w} %{} = min %{s}, %{next} store %z[i], %{} }}", next + 1, next + 1);
            }
            // Two vector loops one after the other.
            3 => {
                let v = expression(&mut body, &mut next, ops, &row, "j", &one);
                let mut second = String::new();
                let w = expression(&mut second, &mut next, ops, &row, "i", &two);
                body = format!("for i in n parallel {{ for j in {cols} vector {{ {body} store %y[{row}], %{v} }}
                    for k in {cols} vector {{ {} store %z[{cols}*i + k], %{w} }} }}", second.replace(&row, &format!("{cols}*i + k")));
            }
            // A vector loop of symbolic length in a serial one.
            4 => {
                let v = expression(&mut body, &mut next, ops, "n*j + k", "k", &one);
                body = format!("for i in 1 parallel {{ for j in {cols} {{ for k in n vector {{ {body} store %y[n*j + k], %{v} store %z[n*j + k], 2.5 }} }} }}");
            }
            // A sum within a sum.
            _ => {
                let v = expression(&mut body, &mut next, ops, "i", "j", &one);
                let (s, t) = (next, next + 1);
                body = format!("for i in {cols} parallel vector {{ %{t} = reduce max j in n {{
                    %{s} = reduce add k in 3 {{ {body} yield %{v} }} yield %{s} }} store %y[i], %{t} store %z[i], 1.0 }}");
            }
        }
        // One result for each element, or for each column.
        let len = |columns: bool| if columns { cols.to_string() } else { format!("{cols}*n") };
        let (y, z) = (len(shape == 5), len(shape == 2 || shape == 5));
        let text = format!("kernel @random (in %x: f32[{cols}*n], in %r: f32[{cols}*n], out %y: f32[{y}], out %z: f32[{z}]) {{ {body} }}");
        let wide = check_lanes(&text, n);
        // Loops of fewer than eight are left to cranelift.
        let expected = levels().len() > 1 && (!matches!(shape, 1 | 3) || cols >= 8);
        prop_assert_eq!(wide, expected, "{}", text);
    }
}
