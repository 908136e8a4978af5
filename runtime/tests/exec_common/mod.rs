//! A hand-made program for the executor's tests: one dense layer with relu, trained by plain gradient descent. Its
//! kernels are Rust functions with the calling convention of generated code. Shapes: x `[n, 96]`, w `[96, 64]`,
//! b `[64]`, y `[n, 64]`, target `[n, 64]`.

use kur_runtime::abi::{KernelArgs, KernelFn};
use kur_runtime::dim::{Dim, DimSum, SymbolTable};
use kur_runtime::exec::CodeTable;
use kur_runtime::plan::{
    ArenaClass, BufInfo, Call, Init, InputRole, InputSlot, KernelInfo, Launch, LayerInfo, LibCall, Place, Plan,
    Program, ResultRole, ResultSlot, StateRole, StateSpec,
};
use kur_runtime::spec::{RunSpec, TrainWeights};

/// Inputs of the layer.
pub(crate) const INS: usize = 96;
/// Units of the layer.
pub(crate) const OUTS: usize = 64;
const RATE: f32 = 0.5;

/// # Safety
/// `args` must have at least `i + 1` buffers.
unsafe fn buf(args: *const KernelArgs, i: usize) -> *mut f32 {
    // SAFETY: passed on to the caller.
    unsafe { (*(*args).bufs.add(i)).cast() }
}

/// Rows `lo..hi` of y: relu(y + b), in place; buffers y, b.
unsafe extern "sysv64" fn bias_relu(args: *const KernelArgs, lo: u64, hi: u64) {
    // SAFETY: the executor passes the buffers of the plan below.
    unsafe {
        let (y, b) = (buf(args, 0), buf(args, 1));
        for i in lo as usize..hi as usize {
            for j in 0..OUTS {
                let v = y.add(i * OUTS + j);
                *v = (*v + *b.add(j)).max(0.0);
            }
        }
    }
}

/// The scalar mean square error; buffers y, target, loss. Reads the batch from the symbols.
unsafe extern "sysv64" fn loss(args: *const KernelArgs, _lo: u64, _hi: u64) {
    // SAFETY: as above.
    unsafe {
        let n = *(*args).syms as usize * OUTS;
        let (y, t) = (buf(args, 0), buf(args, 1));
        let sum: f64 = (0..n).map(|i| f64::from(*y.add(i) - *t.add(i)).powi(2)).sum();
        *buf(args, 2) = (sum / n as f64) as f32;
    }
}

/// Rows of the gradient; buffers y, target, gy.
unsafe extern "sysv64" fn loss_grad(args: *const KernelArgs, lo: u64, hi: u64) {
    // SAFETY: as above.
    unsafe {
        let n = (*(*args).syms as usize * OUTS) as f32;
        for i in lo as usize * OUTS..hi as usize * OUTS {
            let (y, t) = (*buf(args, 0).add(i), *buf(args, 1).add(i));
            *buf(args, 2).add(i) = if y > 0.0 { 2.0 * (y - t) / n } else { 0.0 };
        }
    }
}

/// Elements of w: w −= rate · gw, scaled by the control buffer [1 + updates − updates]; buffers w, gw, control.
unsafe extern "sysv64" fn update(args: *const KernelArgs, lo: u64, hi: u64) {
    // SAFETY: as above.
    unsafe {
        let control = buf(args, 2).cast::<u32>();
        let scale = if *control == 9 { RATE * 2.0 } else { RATE } / (1 + *control.add(1)) as f32;
        for i in lo as usize..hi as usize {
            *buf(args, 0).add(i) -= scale * *buf(args, 1).add(i);
        }
    }
}

/// The machine code of the program.
pub(crate) fn code() -> CodeTable {
    let entries: Vec<KernelFn> = vec![bias_relu, loss, loss_grad, update];
    CodeTable { entries, owner: Box::new(()) }
}

/// The program.
pub(crate) fn program() -> Program {
    let (n, ins, outs) = (Dim::batch(), Dim::from(INS), Dim::from(OUTS));
    let per_row = |unit_offset| Place::Arena { class: 1, unit_offset };
    let fixed = |unit_offset| Place::Arena { class: 0, unit_offset };
    let (w, b) = (Place::State { offset: 0 }, Place::State { offset: (INS * OUTS * 4) as u64 });
    let (x, target, control) = (Place::Input { index: 0 }, Place::Input { index: 2 }, Place::Input { index: 1 });
    let (y, gy, gw, loss) = (per_row(0), per_row(OUTS as u64 * 4), fixed(64), fixed(0));
    let launch = |call, bufs: &[Place]| Launch { call, bufs: bufs.to_vec(), layer: Some(0) };
    let kernel = |kernel, extent, grain, cost| Call::Kernel { kernel, extent, grain, cost };
    let forward = vec![
        launch(Call::Lib(LibCall::MatMul { batch: Dim::ONE, m: n, n: outs, k: ins, ta: false, tb: false }), &[x, w, y]),
        launch(kernel(0, n, 4, outs.times(Dim::constant(60))), &[y, b]),
    ];
    let mut train = forward.clone();
    train.push(launch(kernel(1, Dim::ONE, 1, n), &[y, target, loss]));
    train.push(launch(kernel(2, n, 1, outs.times(Dim::constant(90))), &[y, target, gy]));
    train.push(launch(
        Call::Lib(LibCall::MatMul { batch: Dim::ONE, m: ins, n: outs, k: n, ta: true, tb: false }),
        &[x, gy, gw],
    ));
    train.push(launch(kernel(3, Dim::from(INS * OUTS), 16, Dim::constant(70)), &[w, gw, control]));
    let slot = |name: &str, role, shape: &[Dim]| InputSlot { name: name.to_owned(), role, shape: shape.to_vec() };
    let inputs = vec![
        slot("x", InputRole::Data, &[ins]),
        slot("control", InputRole::Control, &[Dim::constant(2)]),
        slot("t", InputRole::Target, &[outs]),
    ];
    let arena = vec![
        ArenaClass { class: Dim::ONE, unit_bytes: 64 + (INS * OUTS * 4) as u64 },
        ArenaClass { class: n, unit_bytes: 2 * OUTS as u64 * 4 },
    ];
    let output = ResultSlot { name: "y".to_owned(), role: ResultRole::Output, place: y, shape: vec![n, outs] };
    let metric = ResultSlot { name: "loss".to_owned(), role: ResultRole::Metric, place: loss, shape: vec![] };
    let state = |name: &str, shape: &[usize], init, offset: usize| StateSpec {
        name: name.to_owned(),
        shape: shape.iter().map(|d| *d as u64).collect(),
        role: StateRole::Param,
        init,
        offset: offset as u64,
    };
    let glorot = Init::GlorotUniform { fan_in: INS as u64, fan_out: OUTS as u64 };
    let info = |name: &str, bufs: &[(Dim, bool, bool)]| KernelInfo {
        name: name.to_owned(),
        flops: DimSum::default(),
        bufs: bufs.iter().map(|(len, reads, writes)| BufInfo { len: *len, reads: *reads, writes: *writes }).collect(),
    };
    let (cells, weights) = (n.times(outs), Dim::from(INS * OUTS));
    let (read, written, changed) = (|len| (len, true, false), |len| (len, false, true), |len| (len, true, true));
    Program {
        compiler: "test".to_owned(),
        symbols: SymbolTable::default(),
        state: vec![
            state("dense/w", &[INS, OUTS], glorot, 0),
            state("dense/b", &[OUTS], Init::Constant(0.01), INS * OUTS * 4),
        ],
        state_bytes: ((INS + 1) * OUTS * 4) as u64,
        train: Some(Plan {
            inputs: inputs.clone(),
            results: vec![metric, output.clone()],
            arena: arena.clone(),
            launches: train,
        }),
        test: None,
        infer: Plan { inputs: inputs[..1].to_vec(), results: vec![output], arena, launches: forward },
        kernels: vec![
            info("bias_relu", &[changed(cells), read(outs)]),
            info("loss", &[read(cells), read(cells), written(Dim::ONE)]),
            info("loss_grad", &[read(cells), read(cells), written(cells)]),
            info("update", &[changed(weights), read(weights), read(Dim::constant(2))]),
        ],
        layers: vec![LayerInfo {
            name: "dense".to_owned(),
            kind: "dense".to_owned(),
            shape: OUTS.to_string(),
            params: ((INS + 1) * OUTS) as u64,
            line: 1,
        }],
        run: RunSpec {
            name: "test".to_owned(),
            seed: 0,
            inputs: vec![],
            outputs: vec![],
            train: None,
            validate: None,
            test: None,
            evaluate: None,
            epochs: None,
            train_weights: TrainWeights::default(),
            unbuilt: Vec::new(),
            validate_best: None,
            test_weights: None,
            evaluate_weights: None,
            destination: None,
            rate: Default::default(),
        },
    }
}

/// Values in ±1 that depend on the index only.
pub(crate) fn values(len: usize, seed: u32) -> Vec<f32> {
    use kur_runtime::abi::rng;
    (0..len).map(|i| 2.0 * rng::uniform(rng::stream(seed, 1, 2), i as u32) - 1.0).collect()
}
