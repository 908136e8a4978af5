//! Weight files written, read back, damaged and confused.

use super::*;
use crate::dim::SymbolTable;
use crate::plan::{Init, Plan};
use crate::spec::RunSpec;

pub(crate) fn program(states: &[(&str, &[u64], StateRole)]) -> Program {
    let state = states
        .iter()
        .map(|(name, shape, role)| StateSpec {
            name: (*name).to_owned(),
            shape: shape.to_vec(),
            role: *role,
            init: Init::Constant(0.0),
            offset: 0,
        })
        .collect();
    Program {
        compiler: "0".into(),
        symbols: SymbolTable::default(),
        state,
        state_bytes: 0,
        train: None,
        test: None,
        infer: Plan { inputs: vec![], results: vec![], arena: vec![], launches: vec![] },
        kernels: vec![],
        layers: vec![],
        run: RunSpec {
            name: "m".into(),
            seed: 0,
            inputs: vec![],
            outputs: vec![],
            train: None,
            validate: None,
            test: None,
            evaluate: None,
            epochs: None,
            train_weights: Default::default(),
            unbuilt: Vec::new(),
            validate_best: None,
            test_weights: None,
            evaluate_weights: None,
            destination: None,
            rate: Default::default(),
        },
    }
}

fn sample() -> (Program, Vec<Vec<f32>>) {
    let program = program(&[
        ("a/kernel", &[2, 2], StateRole::Param),
        ("a/kernel:adam.m", &[2, 2], StateRole::Optimizer),
        ("b/mean", &[1], StateRole::Running),
        ("a/scale", &[], StateRole::Param),
    ]);
    (program, vec![vec![1.0, -0.0, f32::MIN_POSITIVE, 0.1], vec![5.0; 4], vec![7.0], vec![9.0]])
}

fn refs(values: &[Vec<f32>]) -> Vec<&[f32]> {
    values.iter().map(Vec::as_slice).collect()
}

#[test]
fn files_read_back_to_the_same_bits() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("sub/w");
    let (program, values) = sample();
    let progress = Progress { updates: 3, best_train: Some(0.1 + 0.2), ..Progress::default() };
    save(&path, &program, &refs(&values), in_weights, &progress).expect("save");
    let first = fs::read(&path).expect("read");
    save(&path, &program, &refs(&values), in_weights, &progress).expect("save");
    assert_eq!(fs::read(&path).expect("read"), first, "equal content, equal bytes");
    let loaded: Loaded<Progress> = load(&path, &program, in_weights).expect("load");
    assert_eq!(loaded.meta, Some(progress));
    assert_eq!(loaded.tensors.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0, 2, 3]);
    for (index, tensor) in &loaded.tensors {
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(tensor), bits(&values[*index]));
    }
    assert_eq!(fs::read_dir(dir.path().join("sub")).expect("list").count(), 1, "no temporary file stays");
}

#[test]
fn another_model_is_told_by_its_differences() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("w");
    let (one, values) = sample();
    save(&path, &one, &refs(&values), in_weights, &Progress::default()).expect("save");
    let other = program(&[
        ("a/kernel", &[4, 1], StateRole::Param),
        ("b/mean", &[1], StateRole::Running),
        ("c/kernel", &[3], StateRole::Param),
    ]);
    let error = load::<Progress>(&path, &other, in_weights).expect_err("other model");
    assert_eq!(
        error.to_string().replace(&dir.path().display().to_string(), "DIR"),
        "error[other-model]: `DIR/w` holds the weights of another model\n  \
         = help: `a/kernel` is 2x2 in the file, 4x1 in the model\n          \
         `c/kernel` is missing in the file\n          \
         `a/scale` is not in the model\n  \
         = help: name other weights with `--weights FILE`, or start anew with `train --fresh`"
    );
    assert_ne!(fingerprint(&one), fingerprint(&other));
    let (again, _) = sample();
    assert_eq!(fingerprint(&one), fingerprint(&again));
}

#[test]
fn damage_is_told_and_never_panics() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("w");
    let (program, values) = sample();
    save(&path, &program, &refs(&values), in_weights, &Progress::default()).expect("save");
    let good = fs::read(&path).expect("read");
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).expect("write");
        let error = load::<Progress>(&path, &program, in_weights).expect_err("truncated");
        assert_eq!(error.id(), "weights-damaged", "{length}");
    }
    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 0x41;
        fs::write(&path, &bad).expect("write");
        // A flipped bit in the numbers is a number still; everything else has to be an error.
        let _ = load::<Progress>(&path, &program, in_weights);
    }
    assert_eq!(load::<Progress>(dir.path(), &program, in_weights).expect_err("folder").id(), "weight-folder");
    assert_eq!(
        load::<Progress>(Path::new("/dev/full"), &program, in_weights).expect_err("device").id(),
        "load-weights"
    );
}

#[test]
fn a_full_disk_and_a_closed_directory_are_told() {
    let (program, values) = sample();
    let error = save(Path::new("/dev/full"), &program, &refs(&values), in_weights, &Progress::default());
    assert_eq!(
        error.expect_err("full").to_string(),
        "error[save-weights]: cannot write `/dev/full`: no space left on device\n  = help: free some space or choose another place"
    );
    assert_eq!(check_writable(Path::new("/proc/w")).expect_err("unwritable").id(), "save-weights");
}
