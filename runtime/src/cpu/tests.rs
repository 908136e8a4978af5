//! Library calls with senseless sizes, as a damaged plan may hold them: preparation must refuse or survive them.

use super::check::{run, values};
use super::{Level, buffer_lens, prepare, work, workspace_bytes};
use crate::abi::rng;
use crate::dim::Dim;
use crate::plan::{ConvGeometry, LibCall, PoolGeometry};
use crate::pool::Pool;

#[test]
fn senseless_sizes_are_refused_or_harmless() {
    let stream = rng::stream(5, 0, 0);
    let mut draw = 0_u32;
    let mut pick = || {
        draw += 1;
        let list = [0, 1, 2, 3, 7, 64, 1000, 1 << 20, u64::from(u32::MAX), 1 << 33, 1 << 62, u64::MAX];
        list[rng::bits(stream, draw) as usize % list.len()]
    };
    let mut refused = 0;
    for case in 0..4000 {
        let mut three = || [pick(), pick(), pick()];
        let (input, output) = (three().map(Dim::constant), three().map(Dim::constant));
        let (kernel, stride, pad, dilation) = (three(), three(), three(), three());
        let [kernel, stride, pad, dilation] = [kernel, stride, pad, dilation].map(|v| v.map(|x| x as u32));
        let [batch, cin, cout] = three();
        let batch = Dim::constant(batch);
        let conv = ConvGeometry { batch, input, output, kernel, stride, pad, dilation, cin, cout, groups: 1 };
        let pool = PoolGeometry { batch, input, output, window: kernel, stride, pad, channels: cin };
        let [m, n, k] = three().map(Dim::constant);
        let call = match case % 8 {
            0 => LibCall::ConvForward(conv),
            1 => LibCall::ConvGradInput(conv),
            2 => LibCall::ConvGradWeight(conv),
            3 => LibCall::MaxPool(pool),
            4 => LibCall::AvgPoolGrad(pool),
            5 => LibCall::Softmax { rows: m, cols: n, log: false },
            6 => LibCall::ArgMax { rows: m, cols: n },
            _ => LibCall::MatMul { batch, m, n, k, ta: case % 3 == 0, tb: case % 5 == 0 },
        };
        // As when a plan is bound: buffers that fit no memory are refused before anything is prepared.
        let fits = buffer_lens(&call, &[1]).is_ok_and(|lens| lens.iter().all(|l| *l < 1 << 26));
        if !fits {
            refused += 1;
            continue;
        }
        for level in Level::ALL {
            assert!(prepare(&call, &[1], level).is_ok());
        }
        assert!(work(&call, &[1]).is_ok() && workspace_bytes(&call, &[1], 4).is_ok());
    }
    assert!(refused > 1000);
}

/// Output sizes that do not follow from the input sizes: every access must stay within the buffers all the same, which
/// end at unmapped pages.
#[test]
fn contradicting_geometries_stay_within_their_buffers() {
    let stream = rng::stream(6, 0, 0);
    let mut draw = 0_u32;
    let mut threads = Pool::new(1).expect("threads");
    for _ in 0..300 {
        let mut pick = |list: &[u32]| {
            draw += 1;
            list[rng::bits(stream, draw) as usize % list.len()]
        };
        let mut three = |list: &[u32]| [pick(list), pick(list), pick(list)];
        let sizes = [0, 1, 2, 3, 7];
        let (input, output) = (three(&sizes), three(&sizes));
        let [input, output] = [input, output].map(|v| v.map(|d| Dim::constant(u64::from(d))));
        let (kernel, stride, pad) = (three(&[1, 2, 3, 4]), three(&[1, 2, 3]), three(&[0, 1, 5]));
        let dilation = three(&[1, 2]);
        let [cin, cout, n] = three(&[1, 3, 17]).map(u64::from);
        let batch = Dim::constant(n % 3);
        let conv = ConvGeometry { batch, input, output, kernel, stride, pad, dilation, cin, cout, groups: 1 };
        let pool = PoolGeometry { batch, input, output, window: kernel, stride, pad, channels: cin };
        for call in [
            LibCall::ConvForward(conv),
            LibCall::ConvGradInput(conv),
            LibCall::ConvGradWeight(conv),
            LibCall::MaxPool(pool),
            LibCall::MaxPoolGrad(pool),
            LibCall::AvgPool(pool),
            LibCall::AvgPoolGrad(pool),
        ] {
            let lens = buffer_lens(&call, &[1]).expect("small sizes");
            let inputs: Vec<Vec<f32>> = lens[..lens.len() - 1].iter().map(|l| values(*l, 1)).collect();
            let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
            for level in Level::available() {
                let y = run(&call, &[1], level, &mut threads, &inputs);
                let cells = matches!(call, LibCall::MaxPool(_)) || y.iter().all(|v| v.is_finite());
                assert!(cells, "{call:?} leaves an output unwritten");
            }
        }
    }
}

#[test]
fn workspace_covers_every_level() {
    let n = |x: u64| Dim::constant(x);
    let call = LibCall::MatMul { batch: n(1), m: n(300), n: n(300), k: n(300), ta: false, tb: true };
    for threads in 1..4 {
        let needs = Level::ALL.map(|level| {
            let scratch = prepare(&call, &[1], level).expect("valid").scratch();
            scratch.shared + threads * scratch.local
        });
        // Both operands are packed by panels, so that no level does without memory.
        assert!(needs.iter().all(|bytes| *bytes > 0), "{needs:?}");
        assert_eq!(workspace_bytes(&call, &[1], threads).expect("valid"), *needs.iter().max().expect("levels"));
    }
}
