//! Gradient checks: every differentiable operation against central differences in f64, along a random direction, with
//! random shapes. A gradient that is zero everywhere fails, so a rule cannot pass by doing nothing.

use kur_runtime::abi::rng;
use kur_runtime::dim::{BATCH, Dim};
use kur_runtime::plan::{Init, InputRole, StateRole};
use kurc::ir::graph::{Builder, Graph, GraphResult, Node, NodeId, Role, State};
use kurc::ir::interp::{Inputs, run};
use kurc::ir::kernel::{ReduceOp, ScalarOp};
use kurc::ir::op::{ConvAttrs, Op, PoolAttrs};
use kurc::ir::text::{parse_graph, print_graph};
use kurc::ir::types::Type;
use kurc::passes::{PassCx, find, run_pass};
use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

#[path = "gradients/models/mod.rs"]
mod models;
#[path = "gradients/sequences.rs"]
mod sequences;

/// A deterministic source of numbers for one case.
struct Draws {
    stream: u32,
    next: u32,
}

impl Draws {
    fn new(seed: u32) -> Draws {
        Draws { stream: rng::stream(seed, 1, 2), next: 0 }
    }

    fn unit(&mut self) -> f64 {
        self.next += 1;
        f64::from(rng::uniform(self.stream, self.next))
    }

    /// A tensor with entries in `lo..hi`.
    fn tensor(&mut self, shape: &[usize], lo: f64, hi: f64) -> ArrayD<f64> {
        let n: usize = shape.iter().product();
        let data = (0..n).map(|_| lo + (hi - lo) * self.unit()).collect();
        ArrayD::from_shape_vec(IxDyn(shape), data).expect("sizes agree")
    }
}

/// A graph under construction whose parameters are the operands under test.
struct Case {
    graph: Graph,
    params: Vec<ArrayD<f64>>,
    draws: Draws,
}

impl Case {
    fn new(seed: u32) -> Case {
        Case { graph: Graph::new("case"), params: Vec::new(), draws: Draws::new(seed) }
    }

    /// A trainable operand with entries in `lo..hi`.
    fn param(&mut self, shape: &[usize], lo: f64, hi: f64) -> NodeId {
        let index = self.graph.states.len();
        let ty = Type::f32(shape.iter().map(|s| Dim::from(*s)).collect());
        let name = format!("p{index}");
        let (role, init) = (StateRole::Param, Init::Constant(0.0));
        self.graph.states.push(State { name, role, ty: ty.clone(), init, trainable: true });
        self.params.push(self.draws.tensor(shape, lo, hi));
        let op = Op::State { index: u32::try_from(index).expect("few") };
        self.graph.push(Node { op, args: Vec::new(), ty, layer: None })
    }

    /// An operand that has no gradient.
    fn fixed(&mut self, values: ArrayD<f64>) -> NodeId {
        let id = self.param(values.shape(), 0.0, 1.0);
        if let (Some(p), Some(s)) = (self.params.last_mut(), self.graph.states.last_mut()) {
            *p = values;
            s.trainable = false;
        }
        id
    }

    /// Makes the loss Σ y · w with random weights w, differentiates, and compares with finite differences.
    fn check(mut self, y: NodeId) -> Result<(), TestCaseError> {
        let shape: Vec<usize> =
            self.graph.shape(y).iter().map(|d| usize::try_from(d.eval(&[1])).expect("small")).collect();
        let weights = self.draws.tensor(&shape, 0.5, 1.5);
        let op = Op::Input { name: "w".into(), role: InputRole::Data };
        let ty = self.graph.ty(y).clone();
        let w = self.graph.push(Node { op, args: Vec::new(), ty, layer: None });
        let mut b = Builder::new(&mut self.graph, None);
        let p = b.mul(y, w);
        let axes: Vec<usize> = (0..shape.len()).collect();
        let s = b.sum(p, &axes);
        let value = b.reshape(s, Vec::new());
        self.graph.results.push(GraphResult { role: Role::Metric("loss".into()), value });

        let text = print_graph(&self.graph);
        let again = parse_graph(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(print_graph(&again), text);

        let pass = find("autodiff").expect("registered");
        run_pass(pass, &PassCx::default(), &mut self.graph, &|| std::time::Duration::ZERO)
            .map_err(|e| TestCaseError::fail(format!("{e}\n{}", e.dump)))?;
        for name in ["canonicalize", "cse", "dce"] {
            let pass = find(name).expect("registered");
            run_pass(pass, &PassCx::default(), &mut self.graph, &|| std::time::Duration::ZERO)
                .map_err(|e| TestCaseError::fail(format!("{e}\n{}", e.dump)))?;
        }
        let inputs = |params: Vec<ArrayD<f64>>| Inputs {
            sizes: vec![(BATCH, 1)],
            tensors: vec![(InputRole::Data, "w".into(), weights.clone())],
            states: params,
            seed: 3,
            updates: 5,
        };
        let outcome = run(&self.graph, &inputs(self.params.clone())).map_err(TestCaseError::fail)?;
        let direction: Vec<ArrayD<f64>> = (self.params.iter().zip(&self.graph.states))
            .map(|(p, s)| self.draws.tensor(p.shape(), -1.0, 1.0) * f64::from(u8::from(s.trainable)))
            .collect();
        let mut exact = 0.0;
        let mut largest = 0.0f64;
        for (i, g) in &outcome.gradients {
            exact += (g * &direction[*i as usize]).sum();
            largest = g.iter().fold(largest, |a, b| a.max(b.abs()));
        }
        prop_assert!(largest > 0.0, "all gradients are zero\n{}", print_graph(&self.graph));
        let at = |h: f64| -> Result<f64, TestCaseError> {
            let moved = self.params.iter().zip(&direction).map(|(p, d)| p + &(d * h)).collect();
            let o = run(&self.graph, &inputs(moved)).map_err(TestCaseError::fail)?;
            Ok(o.values[0].1.sum())
        };
        let h = 1e-6;
        let numeric = (at(h)? - at(-h)?) / (2.0 * h);
        let scale = exact.abs().max(numeric.abs()).max(1.0);
        prop_assert!((exact - numeric).abs() < 2e-6 * scale, "{exact} against {numeric}\n{}", print_graph(&self.graph));
        Ok(())
    }
}

const SIZES: [usize; 5] = [1, 2, 3, 5, 7];

fn size() -> impl Strategy<Value = usize> {
    prop::sample::select(&SIZES[..])
}

proptest! {
    // Always the same cases: a kink (ties, zeros) near a drawn point would fail once in many runs.
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::with_cases(24) })]

    #[test]
    fn scalar_functions_of_one_operand(seed: u32, a in size(), b in size()) {
        use ScalarOp::{Abs, Exp, Expm1, Log, Log1p, Neg, Sigmoid, Sqrt, Tanh};
        for (op, lo, hi) in [
            (Neg, -2.0, 2.0), (Abs, 0.1, 2.0), (Abs, -2.0, -0.1), (Sqrt, 0.2, 3.0), (Exp, -2.0, 2.0),
            (Log, 0.2, 3.0), (Log1p, -0.5, 3.0), (Expm1, -2.0, 2.0), (Tanh, -2.0, 2.0), (Sigmoid, -4.0, 4.0),
        ] {
            let mut c = Case::new(seed);
            let x = c.param(&[a, b], lo, hi);
            let y = Builder::new(&mut c.graph, None).map(op, &[x]);
            c.check(y)?;
        }
    }

    #[test]
    fn scalar_functions_of_two_operands_broadcast(seed: u32, a in size(), b in size(), form in 0usize..5) {
        use ScalarOp::{Add, Div, Max, Min, Mul, Pow, Sub};
        let (left, right): (&[usize], &[usize]) = match form {
            0 => (&[a, b], &[a, b]),
            1 => (&[a, b], &[b]),
            2 => (&[a, 1], &[1, b]),
            3 => (&[], &[a, b]),
            _ => (&[b], &[a, 1]),
        };
        for op in [Add, Sub, Mul, Div, Max, Min, Pow] {
            let mut c = Case::new(seed);
            // Apart, so that no tie of max and min lies within the step of the differences.
            let (lo, hi) = if op == Max { (2.1, 3.0) } else { (0.5, 1.9) };
            let x = c.param(left, 0.5, 2.0);
            let z = c.param(right, lo, hi);
            let y = Builder::new(&mut c.graph, None).map(op, &[x, z]);
            // One operand of max or min always wins here; the swapped case checks the other.
            c.check(y)?;
        }
    }

    #[test]
    fn max_and_min_mixed(seed: u32, a in size(), b in size()) {
        for op in [ScalarOp::Max, ScalarOp::Min] {
            let mut c = Case::new(seed);
            let x = c.param(&[a, b], -1.0, 1.0);
            let mut g = Builder::new(&mut c.graph, None);
            let zero = g.constant(0.01);
            let y = g.map(op, &[x, zero]);
            let y = g.mul(y, x);
            let y = g.add(y, x);
            c.check(y)?;
        }
    }

    #[test]
    fn selections(seed: u32, a in size(), b in size()) {
        let mut c = Case::new(seed);
        let x = c.param(&[a, b], -1.0, 1.0);
        let z = c.param(&[b], 0.5, 2.0);
        let mut g = Builder::new(&mut c.graph, None);
        let half = g.constant(0.25);
        let cond = g.map(ScalarOp::Lt, &[half, x]);
        let y = g.map(ScalarOp::Select, &[cond, x, z]);
        c.check(y)?;
    }

    #[test]
    fn sums_and_extremes(seed: u32, a in size(), b in size(), d in size(), axes in prop::sample::subsequence(vec![0usize, 1, 2], 1..=3)) {
        for op in [ReduceOp::Add, ReduceOp::Max, ReduceOp::Min] {
            let mut c = Case::new(seed);
            let x = c.param(&[a, b, d], -1.0, 1.0);
            let y = Builder::new(&mut c.graph, None).op(Op::Reduce { op, axes: axes.clone() }, &[x]);
            c.check(y)?;
        }
    }

    #[test]
    fn shapes(seed: u32, a in size(), b in size(), d in size()) {
        let mut c = Case::new(seed);
        let x = c.param(&[a, b, d], -1.0, 1.0);
        let mut g = Builder::new(&mut c.graph, None);
        let t = g.op(Op::Transpose { perm: vec![2, 0, 1] }, &[x]);
        let r = g.reshape(t, vec![Dim::from(d * a), Dim::from(b)]);
        let s = g.reshape(x, vec![Dim::from(a), Dim::from(b), Dim::from(d), Dim::ONE]);
        let s = g.broadcast(s, vec![Dim::from(a), Dim::from(b), Dim::from(d), Dim::from(3usize)]);
        let s = g.sum(s, &[0, 3]);
        let s = g.reshape(s, vec![Dim::ONE, Dim::from(b * d)]);
        let s = g.sum(s, &[1]);
        let y = g.mul(r, s);
        c.check(y)?;
    }

    #[test]
    fn matrix_products(seed: u32, m in size(), n in size(), k in size(), ta: bool, tb: bool, batch in prop::option::of(size())) {
        let shape = |x: usize, y: usize, t: bool| {
            let mut s: Vec<usize> = batch.into_iter().collect();
            s.extend(if t { [y, x] } else { [x, y] });
            s
        };
        let mut c = Case::new(seed);
        let a = c.param(&shape(m, k, ta), -1.0, 1.0);
        let b = c.param(&shape(k, n, tb), -1.0, 1.0);
        let y = Builder::new(&mut c.graph, None).op(Op::MatMul { ta, tb }, &[a, b]);
        c.check(y)?;
    }

    #[test]
    fn convolutions_and_their_gradients(
        seed: u32, d in 1usize..=3, cin in 1usize..3, cout in 1usize..3, k in 1usize..4, s in 1u32..3, p in 0u32..2, dil in 1u32..3,
        groups in 1u32..4,
    ) {
        // So many channels in each group.
        let (cin, cout) = (cin * groups as usize, cout * groups as usize);
        let n = 6usize;
        let span = (k - 1) * dil as usize + 1;
        let padded = n + 2 * p as usize;
        prop_assume!(span <= padded);
        let out = (padded - span) / s as usize + 1;
        let attrs = ConvAttrs { stride: vec![s; d], pad: vec![p; d], dilation: vec![dil; d], output: vec![Dim::from(out); d], groups };
        let spatial = |v: usize, first: usize, last: usize| {
            let mut s = vec![first];
            s.extend(vec![v; d]);
            s.push(last);
            s
        };
        let mut kernel = vec![k; d];
        kernel.extend([cin / groups as usize, cout]);
        let dims = |v: &[usize]| v.iter().map(|x| Dim::from(*x)).collect::<Vec<_>>();
        let (xs, ys) = (spatial(n, 2, cin), spatial(out, 2, cout));
        let mut c = Case::new(seed);
        let x = c.param(&xs, -1.0, 1.0);
        let w = c.param(&kernel, -1.0, 1.0);
        let y = Builder::new(&mut c.graph, None).op(Op::Conv(attrs.clone()), &[x, w]);
        c.check(y)?;
        // The gradient operations are linear in each operand, so they have gradients of their own.
        let mut c = Case::new(seed);
        let gy = c.param(&ys, -1.0, 1.0);
        let w = c.param(&kernel, -1.0, 1.0);
        let y = Builder::new(&mut c.graph, None).shaped(Op::ConvGradInput(attrs.clone()), &[gy, w], dims(&xs));
        c.check(y)?;
        let mut c = Case::new(seed);
        let x = c.param(&xs, -1.0, 1.0);
        let gy = c.param(&ys, -1.0, 1.0);
        let y = Builder::new(&mut c.graph, None).shaped(Op::ConvGradWeight(attrs), &[x, gy], dims(&kernel));
        c.check(y)?;
    }

    #[test]
    fn pooling(seed: u32, d in 1usize..=3, window in 1u32..4, s in 1u32..3, p in 0u32..2, average: bool) {
        prop_assume!(p < window);
        let n = 5usize;
        let out = (n + 2 * p as usize - window as usize) / s as usize + 1;
        let attrs = PoolAttrs { average, window: vec![window; d], stride: vec![s; d], pad: vec![p; d], output: vec![Dim::from(out); d] };
        let mut shape = vec![2];
        shape.extend(vec![n; d]);
        shape.push(2);
        let mut c = Case::new(seed);
        let x = c.param(&shape, -1.0, 1.0);
        let y = Builder::new(&mut c.graph, None).op(Op::Pool(attrs), &[x]);
        c.check(y)?;
    }

    #[test]
    fn joining_cutting_and_padding(seed: u32, a in size(), b in size(), d in size(), e in size(), axis in 0usize..3) {
        let mut c = Case::new(seed);
        let mut shapes = [[a, b, d]; 3];
        shapes[1][axis] = e;
        let x = c.param(&shapes[0], -1.0, 1.0);
        let z = c.param(&shapes[1], -1.0, 1.0);
        let mut g = Builder::new(&mut c.graph, None);
        let (first, second) = (g.shape(x)[axis], g.shape(z)[axis]);
        let squared = g.mul(x, x);
        let y = g.concat(&[x, z, squared], axis);
        // Cut z and one cell more out, and put it among zeros.
        let (start, len) = (first, Dim::from(e + 1));
        let part = g.slice(y, axis, start, len);
        let wide = g.pad(part, axis, Dim::from(2usize), Dim::from(e + 5));
        let whole = g.concat(&[y, wide], axis);
        prop_assert_eq!(g.shape(whole)[axis], Dim::constant(2 * first.coef() + second.coef() + e as u64 + 5));
        c.check(whole)?;
    }

    #[test]
    fn rows_of_tables(seed: u32, rows in size(), width in size(), count in size()) {
        let mut c = Case::new(seed);
        let table = c.param(&[rows, width], -1.0, 1.0);
        let mut g = Builder::new(&mut c.graph, None);
        // The same row is used several times.
        let index: Vec<NodeId> = (0..count).map(|i| {
            let one = g.constant((i * i % rows) as f64);
            g.reshape(one, vec![Dim::ONE])
        }).collect();
        let index = g.concat(&index, 0);
        let index = g.reshape(index, vec![Dim::from(count), Dim::ONE]);
        let y = g.op(Op::Gather, &[table, index]);
        let y = g.mul(y, y);
        c.check(y)?;
        // The gradient is linear in gy and has a gradient of its own.
        let mut c = Case::new(seed);
        let gy = c.param(&[3, width], -1.0, 1.0);
        let mut g = Builder::new(&mut c.graph, None);
        let index: Vec<NodeId> = [0, rows - 1, 0].map(|i| {
            let one = g.constant(i as f64);
            g.reshape(one, vec![Dim::ONE])
        }).to_vec();
        let index = g.concat(&index, 0);
        let y = g.shaped(Op::GatherGrad, &[index, gy], vec![Dim::from(rows), Dim::from(width)]);
        c.check(y)?;
    }

    #[test]
    fn softmax_and_its_logarithm(seed: u32, a in size(), b in size(), log: bool) {
        prop_assume!(b > 1);
        let mut c = Case::new(seed);
        let x = c.param(&[a, b], -2.0, 2.0);
        let mut g = Builder::new(&mut c.graph, None);
        let y = g.op(Op::Softmax { log }, &[x]);
        let y = g.mul(y, y);
        c.check(y)?;
    }
}
