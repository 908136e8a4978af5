//! Weight folders of every back end, made here, and what is said of those that do not fit.

use std::fs;

use super::*;
use crate::plan::StateRole;
use crate::weights::tests::program;

/// Writes a folder of IDX files of f32.
fn folder(files: &[(&str, &[u32], &[f32])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, shape, values) in files {
        let mut bytes = vec![0, 0, 0x0d, u8::try_from(shape.len()).expect("few axes")];
        shape.iter().for_each(|s| bytes.extend(s.to_be_bytes()));
        values.iter().for_each(|v| bytes.extend(v.to_be_bytes()));
        fs::write(dir.path().join(name), bytes).expect("writes");
    }
    dir
}

const P: StateRole = StateRole::Param;

/// The values of every state, in the order of the program.
fn values(states: &[(&str, &[u64], StateRole)], files: &[(&str, &[u32], &[f32])]) -> Vec<Vec<f32>> {
    let dir = folder(files);
    let loaded = load(dir.path(), &program(states)).expect("weights");
    assert_eq!(loaded.meta, None);
    let indices: Vec<usize> = loaded.tensors.iter().map(|(i, _)| *i).collect();
    assert_eq!(indices, (0..states.len()).filter(|i| states[*i].2 != StateRole::Optimizer).collect::<Vec<_>>());
    loaded.tensors.into_iter().map(|(_, v)| v).collect()
}

fn refused(states: &[(&str, &[u64], StateRole)], files: &[(&str, &[u32], &[f32])]) -> Error {
    let dir = folder(files);
    load(dir.path(), &program(states)).expect_err("does not fit")
}

#[test]
fn keras_names_are_found() {
    let states: &[(&str, &[u64], StateRole)] = &[
        ("..dense.0/kernel", &[2, 1], P),
        ("..dense.0/bias", &[1], P),
        ("n_kernel/gamma", &[1], P),
        ("n_kernel/moving_variance", &[1], StateRole::Running),
        ("m/kernel", &[1], StateRole::Optimizer),
    ];
    let expected = vec![vec![1.0, 2.0], vec![3.0], vec![4.0], vec![5.0]];
    let two: &[(&str, &[u32], &[f32])] = &[
        ("..dense.0+..dense.0_1_kernel:0.kur", &[2, 1], &[1.0, 2.0]),
        ("..dense.0+..dense.0_1_bias:0.kur", &[1], &[3.0]),
        ("n_kernel+n_kernel_gamma:0.kur", &[1], &[4.0]),
        ("n_kernel+n_kernel_moving_variance:0.kur", &[1], &[5.0]),
    ];
    assert_eq!(values(states, two), expected);
    let one: &[(&str, &[u32], &[f32])] = &[
        ("..dense.0+..dense.0_W.kur", &[2, 1], &[1.0, 2.0]),
        ("..dense.0+..dense.0_b.kur", &[1], &[3.0]),
        ("n_kernel+n_kernel_gamma.kur", &[1], &[4.0]),
        ("n_kernel+n_kernel_running_std.kur", &[1], &[5.0]),
    ];
    assert_eq!(values(states, one), expected);
}

#[test]
fn kernels_of_every_back_end_become_those_of_keras_2() {
    // Two taps, one channel in, two out.
    let states: &[(&str, &[u64], StateRole)] = &[("c/kernel", &[2, 1, 2], P)];
    let expected = vec![vec![1.0, 2.0, 3.0, 4.0]];
    assert_eq!(values(states, &[("c+c_kernel:0.kur", &[2, 1, 2], &[1.0, 2.0, 3.0, 4.0])]), expected);
    assert_eq!(values(states, &[("c+c_W:0.kur", &[2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0])]), expected);
    // Theano flips.
    assert_eq!(values(states, &[("c+c_kernel.kur", &[2, 1, 2], &[3.0, 4.0, 1.0, 2.0])]), expected);
    assert_eq!(values(states, &[("layer_c+weight.kur", &[2, 1, 2], &[1.0, 3.0, 2.0, 4.0])]), expected);
    let dense: &[(&str, &[u64], StateRole)] = &[("..d.0/kernel", &[2, 1], P), ("e/embeddings", &[2, 1], P)];
    let torch: &[(&str, &[u32], &[f32])] = &[
        ("layer___d_0+weight.kur", &[1, 2], &[1.0, 2.0]),
        ("layer_e+weight.kur", &[2, 1], &[3.0, 4.0]),
        ("layer_e+num_batches_tracked.kur", &[1], &[0.0]),
    ];
    assert_eq!(values(dense, torch), [[1.0, 2.0], [3.0, 4.0]]);
}

#[test]
fn recurrent_layers_are_packed() {
    let states: &[(&str, &[u64], StateRole)] =
        &[("r/kernel", &[2, 3], P), ("r/recurrent_kernel", &[1, 3], P), ("r/bias", &[3], P)];
    let expected = vec![vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0], vec![7.0, 8.0, 9.0], vec![10.0, 11.0, 12.0]];
    let gates: &[(&str, &[u32], &[f32])] = &[
        ("r+r_W_z:0.kur", &[2, 1], &[1.0, 2.0]),
        ("r+r_W_r:0.kur", &[2, 1], &[3.0, 4.0]),
        ("r+r_W_h:0.kur", &[2, 1], &[5.0, 6.0]),
        ("r+r_U_z:0.kur", &[1, 1], &[7.0]),
        ("r+r_U_r:0.kur", &[1, 1], &[8.0]),
        ("r+r_U_h:0.kur", &[1, 1], &[9.0]),
        ("r+r_b_z:0.kur", &[1], &[10.0]),
        ("r+r_b_r:0.kur", &[1], &[11.0]),
        ("r+r_b_h:0.kur", &[1], &[12.0]),
    ];
    assert_eq!(values(states, gates), expected);
    let packed: &[(&str, &[u32], &[f32])] = &[
        ("r+r_kernel:0.kur", &[2, 3], &expected[0]),
        ("r+r_recurrent_kernel:0.kur", &[1, 3], &expected[1]),
        ("r+r_bias:0.kur", &[3], &expected[2]),
    ];
    assert_eq!(values(states, packed), expected);
    // Both directions of PyTorch lie in one layer.
    let both: &[(&str, &[u64], StateRole)] = &[("r_fwd/kernel", &[1, 2], P), ("r_rev/recurrent_bias", &[2], P)];
    let torch: &[(&str, &[u32], &[f32])] =
        &[("layer_r+weight_ih_l0.kur", &[2, 1], &[1.0, 2.0]), ("layer_r+bias_hh_l0_reverse.kur", &[2], &[3.0, 4.0])];
    assert_eq!(values(both, torch), [[1.0, 2.0], [3.0, 4.0]]);
    let error = refused(&both[..1], torch);
    assert!(error.helps().iter().any(|h| h.contains("`cell: torch`")), "{error}");
}

#[test]
fn lists_parallels_and_highways_are_found() {
    let list: &[(&str, &[u64], StateRole)] = &[("d.0/bias", &[1], P), ("d.1/bias", &[1], P), ("d/bias", &[1], P)];
    let counted: &[(&str, &[u32], &[f32])] = &[
        ("dense_10+dense_10_bias:0.kur", &[1], &[2.0]),
        ("dense_9+dense_9_bias:0.kur", &[1], &[1.0]),
        ("d+d_bias:0.kur", &[1], &[3.0]),
    ];
    assert_eq!(values(list, counted), [[1.0], [2.0], [3.0]]);
    let inside: &[(&str, &[u64], StateRole)] = &[("p/bias", &[1], P)];
    for name in ["..parallel.0_p_0_0+..parallel.0_p_0_0_bias:0.kur", "..parallel.0_p_0_0+p_b:0.kur"] {
        // A reuse inside another parallel writes the same tensor again.
        let again = "q_r_1_0+p_b:0.kur";
        assert_eq!(values(inside, &[(name, &[1], &[1.0]), (again, &[1], &[1.0])]), [[1.0]]);
    }
    let highway: &[(&str, &[u64], StateRole)] = &[("h/kernel", &[1, 1], P), ("h/gate_kernel", &[1, 1], P)];
    let torch: &[(&str, &[u32], &[f32])] =
        &[("layer_h_H+weight.kur", &[1, 1], &[1.0]), ("layer_h_T+weight.kur", &[1, 1], &[2.0])];
    assert_eq!(values(highway, torch), [[1.0], [2.0]]);
}

#[test]
fn what_does_not_fit_is_told() {
    let states: &[(&str, &[u64], StateRole)] = &[("a/kernel", &[2, 1], P), ("hidden/bias", &[1], P)];
    let error =
        refused(states, &[("a+a_kernel:0.kur", &[1, 2], &[1.0, 2.0]), ("hiden+hiden_bias:0.kur", &[1], &[1.0])]);
    assert_eq!((error.id(), error.exit().code()), ("other-model", 1));
    assert_eq!(
        error.helps(),
        [
            "`a/kernel` is 1x2 in the folder (`a+a_kernel:0.kur`), 2x1 in the model\n\
             `hidden/bias` is missing in the folder; is it the layer `hiden` there?\n\
             `hiden+hiden_bias:0.kur` is not in the model",
            "it was written by Kur on Keras with TensorFlow, with the layers `a`, `hiden`"
        ]
    );
    let gates = refused(
        &[("r/bias", &[3], P)],
        &[("r+r_b_z.kur", &[1], &[1.0]), ("r+r_b_r.kur", &[1], &[1.0]), ("r+r_b_h.kur", &[2], &[1.0, 2.0])],
    );
    assert_eq!(gates.helps()[0], "the gates of `r/bias` have different shapes in the folder");
    assert_eq!(refused(states, &[]).id(), "weight-folder");
    assert_eq!(refused(&[("a/b", &[1], P)], &[("a+a_bias:0.kur", &[1], &[f32::NAN])]).id(), "other-model");
    let diverged = refused(&[("a/bias", &[1], P)], &[("a+a_bias:0.kur", &[1], &[f32::NAN])]);
    assert_eq!(diverged.id(), "weights-damaged");
}

#[test]
fn damaged_files_are_told() {
    let states: &[(&str, &[u64], StateRole)] = &[("a/bias", &[2], P)];
    for (bytes, text) in [
        (&b"\0\0\x0d"[..], "it does not start as one"),
        (b"PK\x03\x04", "it does not start as one"),
        (b"\0\0\x0d\x02\0\0\0\x01", "it is cut off"),
        (b"\0\0\x0d\x01\0\0\0\x02\0\0\0\0", "its header promises 8 bytes of values, 4 are there"),
        (b"\0\0\x07\x01\0\0\0\x01\0", "it holds values of the unknown type 0x07"),
        (
            b"\0\0\x0e\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            "its header promises more bytes than there are of values, 0 are there",
        ),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a+a_bias:0.kur");
        fs::write(&file, bytes).expect("writes");
        let error = load(dir.path(), &program(states)).expect_err("damaged");
        assert_eq!(error.id(), "weights-damaged");
        assert_eq!(error.message(), format!("`{}` is no intact IDX file: {text}", file.display()));
    }
    // Any type of IDX will do, also one folder further down.
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("inner")).expect("a folder");
    fs::write(dir.path().join("inner/a+a_bias:0.kur"), b"\0\0\x0b\x01\0\0\0\x02\0\x05\xff\xff").expect("writes");
    assert_eq!(load(dir.path(), &program(states)).expect("weights").tensors, [(0, vec![5.0, -1.0])]);
}
