//! The files in `tests/arrays/`, which numpy wrote (see `make.py` there), and what happens to them when bytes go wrong.

use std::path::PathBuf;

use super::*;
use crate::data::TargetHint;

fn path(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/arrays").join(name).display().to_string()
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).expect("the file")
}

fn spec(path: String) -> FileSpec {
    FileSpec { path, checksum: None }
}

fn read_named(file: &FileSpec, format: ArrayFormat, names: &[&str], depth: Depth) -> Result<(Vec<ArraySource>, Offer)> {
    let inputs: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let wanted = Wanted { inputs: &inputs, targets: &[], truth: Truth::Required };
    let mut out = Vec::new();
    let offer = read(file, format, &wanted, depth, &mut out)?;
    Ok((out, offer))
}

/// Shape, lengths and values of one source of a file.
fn source(name: &str, format: ArrayFormat, array: &str) -> Result<(Vec<u64>, Vec<u64>, Vec<f32>)> {
    let (mut found, _) = read_named(&spec(path(name)), format, &[array], Depth::Values)?;
    let source = found.pop().expect("the file has it").into_source();
    let rows = match &source.store {
        Store::Ragged { starts, .. } => starts.len() - 1,
        Store::Numbers(v) => v.len() / source.width().max(1),
        other => panic!("{other:?}"),
    };
    let lengths = (0..rows).map(|r| source.length(r)).collect();
    Ok((source.shape.clone(), lengths, source.store.into_values()))
}

#[test]
fn pickles_of_all_protocols_hold_the_same() {
    for protocol in 0..6 {
        let file = format!("p{protocol}.pkl");
        let get = |array: &str| source(&file, ArrayFormat::Pickle, array).unwrap_or_else(|e| panic!("{file}: {e}"));
        let plain = |array: &str| {
            let (shape, _, values) = get(array);
            (shape, values)
        };
        assert_eq!(plain("x"), (vec![3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), "{file}");
        assert_eq!(plain("big"), (vec![2], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), "Fortran order, big-endian; {file}");
        assert_eq!(plain("i"), (vec![1], vec![-1.0, 2.0, 1_099_511_627_776.0]), "{file}");
        assert_eq!(plain("u").1, [0.0, 255.0], "{file}");
        assert_eq!(plain("b").1, [1.0, 0.0], "{file}");
        assert_eq!(plain("h").1, [0.5, -2.0], "{file}");
        assert_eq!(plain("nested"), (vec![2], vec![1.0, 2.5, 1.0, -4.0]), "{file}");
        assert_eq!(plain("pair"), (vec![2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), "{file}");
        assert_eq!(plain("scalars"), (vec![1], vec![1.5, -2.0, 1.0]), "{file}");
        assert_eq!(plain("7"), (vec![1], vec![1.0]), "{file}");
        assert_eq!(plain("large").1, [1_180_591_620_717_411_303_424.0, -1_180_591_620_717_411_303_424.0], "{file}");
        for array in ["ragged", "objects"] {
            let (shape, lengths, values) = get(array);
            assert_eq!((shape, lengths), (vec![3, 2], vec![3, 1, 2]), "{file} {array}");
            assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 1.0, 0.0, 1.0, 2.0, 3.0], "{file} {array}");
        }
        assert_eq!(get("lengths"), (vec![3], vec![3, 0, 1], vec![1.0, 2.0, 3.0, 4.0]), "{file}");
        let (_, offer) = read_named(&spec(path(&file)), ArrayFormat::Pickle, &[], Depth::Values).expect("names");
        assert_eq!((offer.names.len(), offer.names[0].as_str()), (21, "x"), "{file}");
    }
}

#[test]
fn what_is_no_number_is_told() {
    for (array, text) in [
        ("words", "holds elements of the type `U2`, which are no numbers"),
        ("text", "is text, where an array or list is needed"),
        ("broken", "has lists of unequal length inside a sample"),
        ("mixed", "has samples of the shapes 2 and 2x1"),
        ("empty", "has no samples"),
        ("one", "is a single number, where samples are needed"),
    ] {
        for file in ["p2.pkl", "p4.pkl"] {
            let error = source(file, ArrayFormat::Pickle, array).expect_err(array);
            assert_eq!((error.id(), error.exit().code()), ("array-values", 4), "{error}");
            assert_eq!(error.message(), format!("`{array}` in `{}` {text}", path(file)));
        }
    }
}

#[test]
fn nothing_is_ever_run() {
    let error = source("foreign.pkl", ArrayFormat::Pickle, "x").expect_err("a function");
    assert_eq!(error.id(), "pickle-format");
    assert!(error.message().contains("wants to run `__builtin__.print`, which is never done"), "{error}");
    for (pickle, name) in [
        (&b"cos\nsystem\n(S'true'\ntR."[..], "os.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.", "posix.system"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"cnumpy.core.multiarray\nfrombuffer\n(tR.", "numpy.core.multiarray.frombuffer"),
    ] {
        let trouble = pickle::read(pickle).expect_err(name);
        assert!(trouble.text.contains(&format!("`{name}`")), "{trouble:?}");
    }
    for pickle in [&b"Pid\n."[..], b"\x80\x02N\x82\x01.", b"\x80\x05\x97.", b"(N]o."] {
        assert!(pickle::read(pickle).is_err());
    }
}

/// As Python 2 writes `{'x': numpy.arange(3, dtype='f4')}`.
#[test]
fn pickles_of_python_2_are_read() {
    let binary = b"\x80\x02}q\x00U\x01xq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04\
        U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x03\x85q\x08cnumpy\ndtype\nq\tU\x02f4q\nK\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\rNNN\
        J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89U\x0c\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@q\x0ftq\x10bs.";
    let text = br"(dp0
S'x'
p1
cnumpy.core.multiarray
_reconstruct
p2
(cnumpy
ndarray
p3
(I0
tp4
S'b'
p5
tp6
Rp7
(I1
(L3L
tp8
cnumpy
dtype
p9
(S'f4'
p10
I0
I1
tp11
Rp12
(I3
S'<'
p13
NNNI-1
I-1
I0
tp14
bI00
S'\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@'
p15
tp16
bs.";
    for pickle in [&binary[..], text] {
        let (heap, top) = pickle::read(pickle).expect("a pickle");
        let Some(Object::Dict(pairs)) = heap.get(top) else { panic!("a dictionary") };
        assert_eq!(heap.text(pairs[0].0), Some("x"));
        let column = column::of_value(&heap, pairs[0].1).expect("an array");
        assert_eq!((column.rows, column.values), (3, vec![0.0, 1.0, 2.0]));
    }
}

#[test]
fn numpy_files_are_read() {
    let (shape, _, values) = source("dict.npy", ArrayFormat::NumpyDict, "x").expect("x");
    assert_eq!((shape, values), (vec![3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    for file in ["stored.npz", "deflated.npz"] {
        let get = |array: &str| source(file, ArrayFormat::Npz, array).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(get("big").2, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(get("u").2, [0.0, 255.0]);
        assert_eq!(get("objects").1, [3, 1, 2]);
        let error = source(file, ArrayFormat::Npz, "words").expect_err("words");
        assert_eq!(error.id(), "array-values");
        // A look at the shapes gives those that loading gives.
        for array in ["x", "big", "i", "b", "objects"] {
            let look = read_named(&spec(path(file)), ArrayFormat::Npz, &[array], Depth::Shapes).expect("shapes").0;
            assert_eq!((&look[0].shape, look[0].variable), (&get(array).0, array == "objects"), "{file} {array}");
        }
    }
    let error = source("dict.npy", ArrayFormat::Npz, "x").expect_err("no archive");
    assert!(error.message().contains("is a `.npy` file"), "{error}");
    let error = source("stored.npz", ArrayFormat::NumpyDict, "x").expect_err("an archive");
    assert_eq!(error.id(), "numpy-format");
}

#[test]
fn archives_that_are_written_read_back() {
    let mut out = Vec::new();
    let members = [("a.npy".to_owned(), numpy::npy(&[2, 1], &[1.0, 2.0])), ("b.npy".to_owned(), numpy::npy(&[0], &[]))];
    zip::write(&members, &mut out).expect("writes");
    let arrays = open_npz("x.npz", &out).expect("an archive");
    let named = |name: &str, shape: &[u64], values: &[f32]| NamedArray {
        name: name.to_owned(),
        shape: shape.to_vec(),
        values: values.to_vec(),
    };
    assert_eq!(arrays, [named("a", &[2, 1], &[1.0, 2.0]), named("b", &[0], &[])]);
}

#[test]
fn json_lines_are_read() {
    let get = |array: &str| source("lines.jsonl", ArrayFormat::JsonLines, array);
    assert_eq!(get("x").expect("x"), (vec![2], vec![2, 2, 2], vec![0.0, 0.5, 1.0, 1.5, 2.0, 2.5]));
    assert_eq!(get("n").expect("n").0, [1]);
    assert_eq!(get("flag").expect("flag").2, [0.0, 1.0, 1.0]);
    assert_eq!(get("ragged").expect("ragged").1, [3, 1, 2]);
    let error = get("word").expect_err("text");
    assert_eq!((error.id(), error.place().and_then(|p| p.line)), ("array-values", Some(1)));
    let dir = tempfile::tempdir().expect("a folder");
    for (text, id, line, message) in [
        ("{\"x\": 1}\n{\"y\": 1}\n", "jsonl-format", Some(2), "lacks the key `x` of its first line"),
        ("{\"x\": 1}\n\n{\"x\": }\n", "jsonl-format", Some(3), "has a line that is no JSON: expected value, column 7"),
        ("\n{\"z\": 1}\n{\"x\": 1, \"z\": 1}\n", "jsonl-format", Some(2), "lacks the key `x`, which line 3 has"),
        ("[1]\n", "jsonl-format", Some(1), "has a line that is no object"),
        ("\n \n", "jsonl-format", None, "has no line"),
        ("{\"x\": [1, [2]]}\n", "array-values", Some(1), "has lists of unequal length inside a sample (key `x`)"),
        ("{\"x\": [[1], [2, 3]]}\n", "array-values", Some(1), "has lists of unequal length inside a sample (key `x`)"),
        ("{\"x\": [[1]]}\n{\"x\": [2]}\n", "array-values", Some(2), "has samples of the shapes 1x1 and 1 (key `x`)"),
    ] {
        let file = dir.path().join("a.jsonl").display().to_string();
        std::fs::write(&file, text).expect("writes");
        let error = read_named(&spec(file.clone()), ArrayFormat::JsonLines, &["x"], Depth::Values).expect_err(text);
        assert_eq!((error.id(), error.place().and_then(|p| p.line)), (id, line), "{error}");
        assert_eq!(error.message(), format!("`{file}` {message}"));
    }
}

/// Samples that are all empty are still so many samples, and take on the shape of those they are stacked with.
#[test]
fn empty_samples_are_samples() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let file = dir.path().join(name).display().to_string();
        std::fs::write(&file, text).expect("writes");
        spec(file)
    };
    let empty = write("empty.jsonl", "{\"x\": []}\n{\"x\": []}\n");
    let full = write("full.jsonl", "{\"x\": [[1, 2], [3, 4]]}\n");
    let inputs = ["x".to_owned()];
    let wanted = Wanted { inputs: &inputs, targets: &[], truth: Truth::Required };
    for (files, shape, lengths) in [
        (vec![&empty], vec![0], vec![0, 0]),
        (vec![&empty, &empty], vec![0], vec![0; 4]),
        (vec![&empty, &full], vec![2, 2], vec![0, 0, 2]),
        (vec![&full, &empty], vec![2, 2], vec![2, 0, 0]),
    ] {
        let mut out = Vec::new();
        for file in &files {
            read(file, ArrayFormat::JsonLines, &wanted, Depth::Values, &mut out).expect("x");
        }
        let source = out.remove(0).into_source();
        let Store::Ragged { starts, .. } = &source.store else { panic!("{:?}", source.store) };
        let found: Vec<u64> = (0..starts.len() - 1).map(|r| source.length(r)).collect();
        assert_eq!((source.shape.clone(), found), (shape, lengths), "{files:?}");
        assert_eq!(source.is_blank(), !files.contains(&&full));
    }
}

#[test]
fn class_numbers_become_classes() {
    let targets = [TargetHint { name: "u".into(), aliases: Vec::new(), softmax_width: Some(256) }];
    let wanted = Wanted { inputs: &[], targets: &targets, truth: Truth::Required };
    let mut out = Vec::new();
    read(&spec(path("p4.pkl")), ArrayFormat::Pickle, &wanted, Depth::Values, &mut out).expect("classes");
    assert_eq!(out[0].shape, [256]);
    let store = out.remove(0).into_source().store;
    assert_eq!(store, Store::Classes(vec![0, 255], 256));
    let targets = [TargetHint { softmax_width: Some(200), ..targets[0].clone() }];
    let wanted = Wanted { targets: &targets, ..wanted };
    let error = read(&spec(path("p4.pkl")), ArrayFormat::Pickle, &wanted, Depth::Values, &mut out).expect_err("255");
    assert_eq!(error.place().and_then(|p| p.row), Some(2), "{error}");
}

#[test]
fn sources_of_one_name_are_stacked() {
    let inputs = ["x".to_owned(), "ragged".to_owned()];
    let wanted = Wanted { inputs: &inputs, targets: &[], truth: Truth::Required };
    let mut out = Vec::new();
    for _ in 0..2 {
        read(&spec(path("p4.pkl")), ArrayFormat::Pickle, &wanted, Depth::Values, &mut out).expect("x and ragged");
    }
    assert_eq!(out.len(), 2);
    let all: Vec<Source> = out.into_iter().map(ArraySource::into_source).collect();
    assert_eq!(all[0].store, Store::Numbers([0.0, 1.0, 2.0, 3.0, 4.0, 5.0].repeat(2)));
    assert_eq!((0..6).map(|r| all[1].length(r)).collect::<Vec<_>>(), [3, 1, 2, 3, 1, 2]);
    let mut padded = [9.0; 8];
    all[1].write_row(4, &mut padded);
    assert_eq!(padded, [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    // x of other files has two columns.
    let mut out = Vec::new();
    let both =
        |file: &str, format, out: &mut Vec<ArraySource>| read(&spec(path(file)), format, &wanted, Depth::Values, out);
    both("p4.pkl", ArrayFormat::Pickle, &mut out).expect("x");
    let error = both("lines.jsonl", ArrayFormat::JsonLines, &mut out).expect_err("another shape");
    assert_eq!(error.id(), "stacked-shapes", "{error}");
}

/// A counter through a mixing function, so that failures repeat.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Damaged files end in an error or in numbers, never in a panic, and take memory in proportion to their size.
#[test]
fn damage_is_survived() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("damaged").display().to_string();
    let names = ["x", "big", "i", "h", "nested", "ragged", "objects", "lengths", "scalars"];
    let mut state = 1;
    for (name, format, rounds) in [
        ("p0.pkl", ArrayFormat::Pickle, 400),
        ("p2.pkl", ArrayFormat::Pickle, 400),
        ("p4.pkl", ArrayFormat::Pickle, 400),
        ("p5.pkl", ArrayFormat::Pickle, 400),
        ("dict.npy", ArrayFormat::NumpyDict, 300),
        ("stored.npz", ArrayFormat::Npz, 300),
        ("deflated.npz", ArrayFormat::Npz, 300),
        ("lines.jsonl", ArrayFormat::JsonLines, 200),
    ] {
        let whole = bytes(name);
        let mut failed = 0;
        for round in 0..rounds {
            let mut damaged = whole.clone();
            let place = |state: &mut u64, len: usize| usize::try_from(random(state) % len as u64).expect("small");
            match round % 4 {
                0 => damaged.truncate(place(&mut state, whole.len())),
                1 => {
                    let at = place(&mut state, whole.len());
                    damaged[at] = random(&mut state) as u8;
                }
                2 => {
                    for _ in 0..4 {
                        let at = place(&mut state, whole.len());
                        damaged[at] ^= 1 << (random(&mut state) % 8);
                    }
                }
                _ => {
                    // A piece again elsewhere: lengths and memo indices that mean something else.
                    let (from, to) = (place(&mut state, whole.len() - 16), place(&mut state, whole.len() - 16));
                    let piece = damaged[from..from + 16].to_vec();
                    damaged.splice(to..to, piece);
                }
            }
            std::fs::write(&file, &damaged).expect("writes");
            for depth in [Depth::Shapes, Depth::Values] {
                match read_named(&spec(file.clone()), format, &names, depth) {
                    Err(e) => {
                        assert_eq!(e.exit().code(), 4, "{e}");
                        failed += 1;
                    }
                    Ok((sources, _)) => {
                        let numbers: usize =
                            sources.into_iter().map(|s| s.into_source().store.into_values().len()).sum();
                        assert!(numbers <= 1 << 16, "{numbers} numbers of {} bytes", damaged.len());
                    }
                }
            }
        }
        assert!(failed > rounds / 4, "{name}: {failed} of {rounds} failed");
    }
}

/// Small files that would unfold to large data, or nest deeper than a stack bears.
#[test]
fn bombs_do_not_go_off() {
    // Ten references to a list of ten references to … a number, thirty levels of it.
    let mut bomb = b"\x80\x02}X\x01\x00\x00\x00x(K\x01l".to_vec();
    for _ in 0..30 {
        bomb.extend(b"q\x000(h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00l");
    }
    bomb.extend(b"s.");
    let mut deep = b"\x80\x02}X\x01\x00\x00\x00x".to_vec();
    deep.extend(std::iter::repeat_n(b']', 200_000));
    deep.extend(std::iter::repeat_n(b'a', 199_999));
    deep.extend(b"s.");
    // A list that contains itself.
    let cycle = b"\x80\x02}X\x01\x00\x00\x00x]q\x00h\x00as.".to_vec();
    // One text, made into bytes again and again.
    let mut copies = b"\x80\x02X\x00\x10\x00\x00".to_vec();
    copies.extend([b'a'; 4096]);
    copies.extend(b"q\x000c_codecs\nencode\nq\x010");
    for _ in 0..20_000 {
        copies.extend(b"h\x01h\x00\x85R0");
    }
    copies.extend(b"N.");
    let dir = tempfile::tempdir().expect("a folder");
    for (name, bytes) in [("bomb", bomb), ("deep", deep), ("cycle", cycle), ("copies", copies)] {
        let file = dir.path().join(name).display().to_string();
        std::fs::write(&file, bytes).expect("writes");
        let error = read_named(&spec(file), ArrayFormat::Pickle, &["x"], Depth::Values).expect_err(name);
        assert_eq!(error.exit().code(), 4, "{error}");
    }
}
