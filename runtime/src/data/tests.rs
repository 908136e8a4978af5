//! Data sets read end to end, and the exact text of every complaint about them.

use std::path::PathBuf;

use super::*;
use crate::spec::{ColumnGroup, Missing, Normalize, ProviderSpec};

struct Case {
    dir: tempfile::TempDir,
    inputs: Vec<String>,
    targets: Vec<TargetHint>,
}

impl Case {
    fn new(softmax_width: Option<u64>) -> Case {
        Case {
            dir: tempfile::tempdir().expect("temporary directory"),
            inputs: vec!["x".into()],
            targets: vec![TargetHint { name: "y".into(), aliases: vec!["label".into()], softmax_width }],
        }
    }

    fn file(&self, bytes: impl AsRef<[u8]>) -> CsvSpec {
        let path: PathBuf = self.dir.path().join("data.csv");
        std::fs::write(&path, bytes).expect("write");
        let file = FileSpec { path: path.display().to_string(), checksum: None };
        CsvSpec { file, header: true, ..CsvSpec::default() }
    }

    fn load(&self, spec: CsvSpec, truth: Truth, learned: Option<&Learned>) -> Result<(Dataset, Learned)> {
        let section = SectionSpec { data: vec![SupplierSpec::Csv(spec)], provider: ProviderSpec::default() };
        load(&section, &Wanted { inputs: &self.inputs, targets: &self.targets, truth }, learned)
    }

    fn train(&self, bytes: impl AsRef<[u8]>) -> Result<(Dataset, Learned)> {
        self.load(self.file(bytes), Truth::Required, None)
    }

    fn text(&self, error: &crate::error::Error) -> String {
        error.to_string().replace(&format!("{}/", self.dir.path().display()), "")
    }
}

fn rows(data: &Dataset, name: &str) -> Vec<Vec<f32>> {
    let source = data.get(name).unwrap_or_else(|| panic!("no source {name}"));
    (0..data.rows)
        .map(|r| {
            let mut row = vec![0.0; source.width()];
            source.write_row(r, &mut row);
            row
        })
        .collect()
}

fn group(name: &str, from: &[&str]) -> ColumnGroup {
    ColumnGroup {
        name: name.into(),
        from: from.iter().map(|f| (*f).to_owned()).collect(),
        normalize: None,
        missing: None,
        one_hot: None,
    }
}

#[test]
fn the_last_column_is_the_target_and_the_rest_is_the_input() {
    let case = Case::new(Some(2));
    let (data, learned) = case.train("\u{feff}a,b,kind\r\n1,2,dog\r\n3,4,cat\r\n").expect("data");
    assert_eq!(rows(&data, "x"), [[1.0, 2.0], [3.0, 4.0]]);
    assert_eq!(rows(&data, "y"), [[0.0, 1.0], [1.0, 0.0]]);
    assert_eq!(learned.classes("y"), Some(&["cat".to_owned(), "dog".to_owned()][..]));
    assert_eq!(learned.header, ["a", "b", "kind"]);
    let back: Learned = serde_json::from_str(&serde_json::to_string(&learned).expect("json")).expect("json");
    assert_eq!(back, learned);
}

#[test]
fn columns_named_like_the_model_win_also_by_alias() {
    let case = Case::new(None);
    let (data, _) = case.train("label,a,b\n5,1,2\n6,3,4\n").expect("data");
    assert_eq!(rows(&data, "x"), [[1.0, 2.0], [3.0, 4.0]]);
    assert_eq!(rows(&data, "y"), [[5.0], [6.0]]);
    let (data, _) = case.train("x,a,y\n5,1,2\n").expect("data");
    assert_eq!(rows(&data, "x"), [[5.0]]);
    assert_eq!(rows(&data, "y"), [[2.0]]);
}

#[test]
fn files_without_header_have_numbered_columns() {
    let case = Case::new(Some(3));
    let mut spec = case.file("1;2;0\n3;4;2\n");
    spec.header = false;
    let (data, learned) = case.load(spec, Truth::Required, None).expect("data");
    assert_eq!(data.rows, 2);
    assert_eq!(learned.header, ["column_0", "column_1", "column_2"]);
    assert_eq!(rows(&data, "y")[1], [0.0, 0.0, 1.0]);
    let mut spec = case.file("7;8\n");
    spec.header = false;
    let (data, _) = case.load(spec, Truth::Ignored, Some(&learned)).expect("data without labels");
    assert_eq!(rows(&data, "x"), [[7.0, 8.0]]);
}

#[test]
fn prediction_needs_no_label_column_and_uses_training_statistics() {
    let case = Case::new(Some(2));
    let mut spec = case.file("a,b,kind\n0,10,u\n2,10,v\n");
    spec.normalize = Normalize::Standard;
    let (data, learned) = case.load(spec, Truth::Required, None).expect("data");
    assert_eq!(rows(&data, "x"), [[-1.0, 0.0], [1.0, 0.0]]);
    let (data, same) = case.load(case.file("extra,b,a\n9,11,3\n"), Truth::Ignored, Some(&learned)).expect("data");
    assert_eq!(rows(&data, "x"), [[2.0, 1.0]], "columns are found by name and scaled as in training");
    assert_eq!(same, learned);
    let (data, _) = case.load(case.file("a,b\n1,10\n"), Truth::Optional, Some(&learned)).expect("data");
    assert!(data.get("y").is_none());
}

#[test]
fn groups_globs_and_one_hot_columns() {
    let case = Case::new(None);
    let mut spec = case.file("id,c1,c2,city,price\n1,2,3,Rome,10\n2,4,6,Oslo,20\n3,6,9,Rome,30\n");
    spec.columns = vec![
        ColumnGroup { normalize: Some(Normalize::MinMax), one_hot: None, ..group("x", &["c*"]) },
        ColumnGroup { normalize: Some(Normalize::Standard), ..group("y", &["price"]) },
        group("city", &["city"]),
    ];
    let mut case = case;
    case.inputs.push("city".into());
    spec.columns[2].one_hot = Some(true);
    let (data, learned) = case.load(spec.clone(), Truth::Required, None).expect("data");
    assert_eq!(rows(&data, "x"), [[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]], "`city` is taken by another group");
    assert_eq!(rows(&data, "city"), [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]);
    let y = learned.source("y").expect("target");
    assert!(y.is_scaled());
    assert!((y.columns[0].encoding.unscale(rows(&data, "y")[2][0]) - 30.0).abs() < 1e-5);
    let section = SectionSpec { data: vec![SupplierSpec::Csv(spec)], provider: ProviderSpec::default() };
    let probe = probe(&section, &case.inputs, &case.targets).expect("probe");
    for source in &data.sources {
        assert_eq!(probe.get(&source.name).map(|p| &p.shape), Some(&source.shape), "{}", source.name);
    }
}

#[test]
fn missing_cells_follow_their_policy() {
    let text = "a,b,y\n1,,1\nNA,4,2\n3,8,3\n";
    let case = Case::new(None);
    for (missing, x, y, dropped) in [
        (Missing::Mean, vec![[1.0, 6.0], [2.0, 4.0], [3.0, 8.0]], vec![[1.0], [2.0], [3.0]], vec![]),
        (Missing::Zero, vec![[1.0, 0.0], [0.0, 4.0], [3.0, 8.0]], vec![[1.0], [2.0], [3.0]], vec![]),
        (Missing::Drop, vec![[3.0, 8.0]], vec![[3.0]], vec![0, 1]),
    ] {
        let mut spec = case.file(text);
        spec.missing = missing;
        let (data, _) = case.load(spec, Truth::Required, None).expect("data");
        assert_eq!(rows(&data, "x"), x);
        assert_eq!(rows(&data, "y"), y);
        assert_eq!(data.dropped, dropped);
        let notes: Vec<String> =
            data.notes.iter().map(|n| n.replace(&format!("{}/", case.dir.path().display()), "")).collect();
        let told = match missing {
            Missing::Mean => "`data.csv`: 2 missing cells of `x` became the column's training mean",
            Missing::Zero => "`data.csv`: 2 missing cells of `x` became zero",
            _ => "`data.csv`: 2 of 3 rows are left out for 2 missing values: 1 in column `a`, 1 in column `b`",
        };
        assert_eq!(notes, [told]);
    }
}

#[test]
fn rows_of_each_file_are_left_out_by_name() {
    let case = Case::new(None);
    let one = CsvSpec { missing: Missing::Drop, ..case.file("a,b,y\n1,,\n2,1,3\n") };
    let path = case.dir.path().join("two.csv").display().to_string();
    std::fs::write(&path, "a,b,y\n1,1,1\n").expect("write");
    let two = CsvSpec { file: FileSpec { path, checksum: None }, ..one.clone() };
    let section =
        SectionSpec { data: vec![SupplierSpec::Csv(one), SupplierSpec::Csv(two)], provider: ProviderSpec::default() };
    let wanted = Wanted { inputs: &case.inputs, targets: &case.targets, truth: Truth::Required };
    let (data, _) = load(&section, &wanted, None).expect("data");
    let [note] = data.notes.as_slice() else { panic!("{:?}", data.notes) };
    assert!(
        note.ends_with("data.csv`: 1 of 2 rows is left out for 2 missing values: 1 in column `b`, 1 in column `y`")
    );
}

/// What every row lacks is to blame, not the columns that lose their values with it.
#[test]
fn where_all_rows_are_left_out_the_right_column_is_named() {
    let case = Case::new(None);
    let error = |text: &str| {
        let spec = CsvSpec { missing: Missing::Drop, ..case.file(text) };
        let section = SectionSpec { data: vec![SupplierSpec::Csv(spec.clone())], provider: ProviderSpec::default() };
        let probed = probe(&section, &case.inputs, &case.targets).expect_err("nothing is left");
        let loaded = case.load(spec, Truth::Required, None).expect_err("nothing is left");
        assert_eq!(probed, loaded);
        case.text(&loaded)
    };
    assert_eq!(
        error("a,kind,y\n1,,1\n2,cat,2\n3,dog,3\n"),
        "error[csv-text-column]: column `kind` holds no number\n  --> data.csv:3 (row 2, column `kind`)\n  = help: `cat` is a word; for a column of words write `columns: {NAME: {column: kind, one_hot: yes}}`, or leave it out"
    );
    assert_eq!(
        error("a,b,y\n1,,1\n2,,2\n"),
        "error[csv-text-column]: column `b` holds no number\n  --> data.csv (column `b`)\n  = help: all its cells are empty: leave the column out, or fill it"
    );
    assert_eq!(
        error("a,b,y\n1,,1\n,2,2\n"),
        "error[csv-no-rows]: every row of `data.csv` lacks a value, so `missing: drop` leaves none\n  --> data.csv\n  = help: fill gaps with `missing: mean` or `zero`, or leave out the columns that have most of them"
    );
}

/// Scaling is learned once; a Kurfile that asks for another one afterwards is told so.
#[test]
fn another_scaling_than_that_of_training_is_told() {
    let case = Case::new(None);
    // The second column is constant, which no scaling shows in.
    let text = "a,b,y\n1,4,1\n2,4,2\n6,4,3\n";
    let spec = |normalize| CsvSpec { normalize, ..case.file(text) };
    let all = [Normalize::None, Normalize::Standard, Normalize::MinMax];
    for (i, before) in all.into_iter().enumerate() {
        let (data, learned) = case.load(spec(before), Truth::Required, None).expect("data");
        assert!(data.notes.is_empty(), "{:?}", data.notes);
        for (j, now) in all.into_iter().enumerate() {
            let (again, _) = case.load(spec(now), Truth::Required, Some(&learned)).expect("data");
            assert_eq!(again.sources, data.sources);
            assert_eq!(again.notes.len(), usize::from(i != j && j > 0), "{before:?} {now:?} {:?}", again.notes);
            if (i, j) == (0, 1) {
                let note = "`x` is scaled as training has learned it (`normalize: none`) and not by `normalize: standard`, \
                            which takes another training: `train --fresh`";
                assert!(again.notes[0].ends_with(note), "{:?}", again.notes);
            }
        }
    }
}

#[test]
fn scaling_that_changes_nothing_is_no_other_scaling() {
    let case = Case::new(None);
    let columns = [(Normalize::MinMax, "0,1,1\n1,0,2\n"), (Normalize::Standard, "-1,1,1\n1,-1,2\n")];
    for (normalize, rows) in columns.into_iter().chain([(Normalize::Standard, "0,0,1\n0,0,2\n")]) {
        let text = format!("a,b,y\n{rows}");
        let spec = || CsvSpec { normalize, ..case.file(&text) };
        let (_, learned) = case.load(spec(), Truth::Required, None).expect("data");
        let (again, _) = case.load(spec(), Truth::Required, Some(&learned)).expect("data");
        assert!(again.notes.is_empty(), "{text}: {:?}", again.notes);
    }
}

/// What the supplier says holds for groups that say nothing else; a target is never scaled or invented that way.
#[test]
fn groups_follow_their_supplier() {
    let case = Case::new(None);
    let text = "a,y\n1,1\n,2\n3,\n";
    let spec = |missing, own: Option<Missing>| CsvSpec {
        missing,
        normalize: Normalize::MinMax,
        columns: vec![ColumnGroup { missing: own, ..group("x", &["a"]) }, group("y", &["y"])],
        ..case.file(text)
    };
    let (data, learned) = case.load(spec(Missing::Drop, None), Truth::Required, None).expect("data");
    assert_eq!((data.dropped, learned.sources[1].is_scaled()), (vec![1, 2], false));
    let error = case.load(spec(Missing::Zero, None), Truth::Required, None).expect_err("a target is not zero");
    assert_eq!((error.id(), error.place().and_then(|p| p.row)), ("csv-missing-cell", Some(3)));
    let error = case.load(spec(Missing::Drop, Some(Missing::Error)), Truth::Required, None).expect_err("its own word");
    assert_eq!((error.id(), error.place().and_then(|p| p.row)), ("csv-missing-cell", Some(2)));
    let mut lasting = spec(Missing::Drop, None);
    lasting.file.path = case.dir.path().join("more.csv").display().to_string();
    std::fs::write(&lasting.file.path, "a,y\n1,1\n3,2\n").expect("write");
    let (data, learned) = case.load(lasting, Truth::Required, None).expect("data");
    assert_eq!((rows(&data, "x"), rows(&data, "y")), (vec![vec![0.0], vec![1.0]], vec![vec![1.0], vec![2.0]]));
    // Also where the encoding is known already.
    let again = case.load(spec(Missing::Drop, None), Truth::Required, Some(&learned)).expect("data").0;
    assert_eq!(again.dropped, [1, 2]);
}

#[test]
fn several_files_are_stacked() {
    let case = Case::new(Some(2));
    let one = case.file("a,k\n1,u\n");
    let path = case.dir.path().join("two.csv");
    std::fs::write(&path, "a,k\n2,v\n3,u\n").expect("write");
    let two = CsvSpec { file: FileSpec { path: path.display().to_string(), checksum: None }, ..one.clone() };
    let section =
        SectionSpec { data: vec![SupplierSpec::Csv(one), SupplierSpec::Csv(two)], provider: ProviderSpec::default() };
    let wanted = Wanted { inputs: &case.inputs, targets: &case.targets, truth: Truth::Required };
    let (data, _) = load(&section, &wanted, None).expect("data");
    assert_eq!(rows(&data, "x"), [[1.0], [2.0], [3.0]]);
    assert_eq!(rows(&data, "y"), [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]);
}

#[test]
fn a_probe_sees_what_is_loaded_later() {
    let case = Case::new(Some(3));
    let spec = case.file("a,b,k\n1,2,u\n3,4,v\n5,6,w\n");
    let section = SectionSpec { data: vec![SupplierSpec::Csv(spec)], provider: ProviderSpec::default() };
    let found = probe(&section, &case.inputs, &case.targets).expect("probe");
    assert_eq!(found.get("x").map(|s| s.shape.clone()), Some(vec![2]));
    assert_eq!(found.get("y").and_then(|s| s.classes.clone()).map(|c| c.len()), Some(3));
    assert_eq!(found.offered, ["a", "b", "k"]);
    let numbers = SectionSpec {
        data: vec![SupplierSpec::Csv(case.file("a,b\n1,2\nnot read,at build time\n"))],
        provider: ProviderSpec::default(),
    };
    let found = probe(&numbers, &case.inputs, &Case::new(None).targets).expect("probe");
    assert_eq!(found.get("y").map(|s| (s.shape.clone(), s.classes.clone())), Some((vec![1], None)));
}

#[test]
fn a_file_of_the_command_line_keeps_the_columns() {
    let case = Case::new(None);
    let mut spec = case.file("");
    spec.columns = vec![group("x", &["a"])];
    let train = SectionSpec { data: vec![SupplierSpec::Csv(spec.clone())], provider: ProviderSpec::default() };
    let replaced = with_file(None, &[Some(&train)], "other.csv");
    let SupplierSpec::Csv(csv) = &replaced.data[0] else { panic!("csv") };
    assert_eq!((csv.file.path.as_str(), &csv.columns), ("other.csv", &spec.columns));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    /// Whatever the bytes are, reading them ends with data or with an error.
    #[test]
    fn no_file_makes_it_panic(bytes in proptest::collection::vec(
        proptest::sample::select(b"a1,;\"'\t|.\n\r-e \xff\xefNn".to_vec()), 0..80,
    ), softmax in proptest::option::of(0u64..4), header: bool) {
        let case = Case::new(softmax);
        let mut spec = case.file(&bytes);
        spec.header = header;
        spec.normalize = Normalize::Standard;
        for missing in [Missing::Error, Missing::Mean, Missing::Drop] {
            spec.missing = missing;
            let section = SectionSpec { data: vec![SupplierSpec::Csv(spec.clone())], provider: ProviderSpec::default() };
            let probed = probe(&section, &case.inputs, &case.targets);
            if let Ok((data, learned)) = case.load(spec.clone(), Truth::Required, None) {
                let probed = probed.expect("what loads can be probed");
                for source in &data.sources {
                    assert_eq!(probed.get(&source.name).map(|p| &p.shape), Some(&source.shape));
                    for row in 0..data.rows {
                        source.write_row(row, &mut vec![0.0; source.width()]);
                    }
                }
                let again = case.load(spec.clone(), Truth::Required, Some(&learned)).expect("known data loads again");
                assert_eq!(again.0.rows, data.rows);
            }
        }
    }
}

/// Golden texts. Each case: softmax width, what the file holds, the exact rendering.
#[test]
fn every_defect_has_its_text() {
    let cases: &[(&str, Option<u64>, &[u8], &str)] = &[
        (
            "ragged row",
            None,
            b"a,b,y\n1,2,3\n\n4,5\n",
            "error[csv-ragged]: row has 2 cells, the header has 3 cells\n  --> data.csv:4 (row 2)\n  = help: cells are separated by `,`",
        ),
        (
            "one cell too many",
            None,
            b"a,y\r\n1,2,3\r\n",
            "error[csv-ragged]: row has 3 cells, the header has 2 cells\n  --> data.csv:2 (row 1)\n  = help: a cell that contains `,` needs quotes; a column of row names needs a name in the header",
        ),
        (
            "quote that is never closed",
            None,
            b"a,b,y\n1,\"2,3\n4,5,6\n7,8,9\n",
            "error[csv-ragged]: row has 2 cells, the header has 3 cells\n  --> data.csv:2 (row 1)\n  = help: the row spans several lines: look for a quote that is never closed",
        ),
        (
            "quote of a last cell that is never closed",
            Some(2),
            b"a,y\n1,cat\n3,\"dog\n5,cat\n",
            "error[csv-ragged]: the last cell of this row goes on to the end of the file\n  --> data.csv:3 (row 2)\n  = help: look for a quote that is never closed; a quote inside of a quoted cell is written twice",
        ),
        (
            "a single number of a class",
            Some(2),
            b"a,y\n1,1\n3,1.0\n",
            "error[one-class]: column `y` is to be learned, but all its cells are `1`\n  --> data.csv (column `y`)\n  = help: rows of at least two classes are needed to tell them apart",
        ),
        (
            "quote of a header that is never closed",
            Some(2),
            b"a,\"y\n1,cat\n3,dog\n",
            "error[csv-ragged]: the last cell of this row goes on to the end of the file\n  --> data.csv:1\n  = help: look for a quote that is never closed; a quote inside of a quoted cell is written twice",
        ),
        (
            "quote that is never closed behind a doubled one",
            Some(2),
            b"a,y\n1,cat\n3,\"dog\n2,\"\"\n",
            "error[csv-ragged]: the last cell of this row goes on to the end of the file\n  --> data.csv:3 (row 2)\n  = help: look for a quote that is never closed; a quote inside of a quoted cell is written twice",
        ),
        (
            "a single class",
            Some(2),
            b"a,y\n1,cat\n3,\"cat\"\n",
            "error[one-class]: column `y` is to be learned, but all its cells are `cat`\n  --> data.csv (column `y`)\n  = help: rows of at least two classes are needed to tell them apart",
        ),
        (
            "text in a number column",
            None,
            b"a,b,y\n1,2,3\n4,abc,6\n",
            "error[csv-not-a-number]: `abc` in column `b` is not a number\n  --> data.csv:3 (row 2, column `b`)\n  = help: for a column of words write `columns: {NAME: {column: b, one_hot: yes}}`; for gaps in the data add `missing: mean`, `zero` or `drop`",
        ),
        (
            "decimal comma",
            None,
            b"a;y\r\n1,5;2\r\n",
            "error[csv-not-a-number]: `1,5` in column `a` is not a number\n  --> data.csv:2 (row 1, column `a`)\n  = help: numbers use a point: 1.5",
        ),
        (
            "empty cell",
            None,
            b"a,b,y\n1,,3\n",
            "error[csv-missing-cell]: cell in column `b` is empty\n  --> data.csv:2 (row 1, column `b`)\n  = help: `missing: mean`, `zero` or `drop` in the column's group says what an empty cell means",
        ),
        (
            "NaN",
            None,
            b"a,y\n1,2\nNaN,4",
            "error[csv-not-finite]: `NaN` in column `a` is not a finite number\n  --> data.csv:3 (row 2, column `a`)\n  = help: training needs finite numbers; for gaps in the data add `missing: mean`, `zero` or `drop`",
        ),
        (
            "infinity",
            None,
            b"a,y\n1e39,2\n",
            "error[csv-not-finite]: `1e39` in column `a` is not a finite number\n  --> data.csv:2 (row 1, column `a`)\n  = help: training needs finite numbers; for gaps in the data add `missing: mean`, `zero` or `drop`",
        ),
        (
            "empty file",
            None,
            b"",
            "error[csv-empty]: `data.csv` is empty\n  = help: a CSV file needs a header line and at least one row of values",
        ),
        ("header only", None, b"a,b,y\n", "error[csv-no-rows]: `data.csv` has a header but no rows\n  --> data.csv:1"),
        (
            "duplicate header",
            None,
            b"a,b,a\n1,2,3\n",
            "error[csv-duplicate-column]: column name `a` stands twice in the header\n  --> data.csv:1\n  = help: columns 1 and 3 need different names",
        ),
        (
            "latin-1",
            None,
            b"a,y\n1,2\n\xe9,3\n",
            "error[csv-not-utf8]: `data.csv` is not UTF-8 text\n  --> data.csv:3\n  = help: save it as UTF-8, for example `iconv -f LATIN1 -t UTF-8`",
        ),
        (
            "utf-16",
            None,
            b"\xff\xfea\0,\0",
            "error[csv-not-utf8]: `data.csv` is UTF-16 text\n  --> data.csv:1\n  = help: save it as UTF-8, for example `iconv -f UTF-16 -t UTF-8`",
        ),
        (
            "fraction under a softmax",
            Some(2),
            b"a,y\n1,0\n2,0.5\n",
            "error[not-a-class]: `0.5` in column `y` is not a class\n  --> data.csv:3 (row 2, column `y`)\n  = help: the targets of a softmax are words or whole numbers; for other numbers end the model without softmax",
        ),
        (
            "no input left",
            None,
            b"y\n1\n",
            "error[no-data-for]: the data has nothing for input `x`\n  = help: it offers `y`\n  = help: name the input like a source of the data, or group columns under `x`",
        ),
        (
            "damaged gzip",
            None,
            b"\x1f\x8b\x08\x00garbage",
            "error[data-file]: the gzip data of `data.csv` is damaged: incomplete deflate stream\n  --> data.csv\n  = help: fetch or compress the file again",
        ),
    ];
    for (what, width, bytes, expected) in cases {
        let case = Case::new(*width);
        let error = case.train(bytes).expect_err(what);
        assert_eq!(case.text(&error), *expected, "{what}");
        assert_eq!(error.exit().code(), 4, "{what}");
    }
}

#[test]
fn defects_against_the_kurfile_and_training_have_their_text() {
    let case = Case::new(Some(2));
    let (_, learned) = case.train("width,height,kind\n1,2,cat\n3,4,dog\n").expect("data");
    let test = |bytes: &str| {
        let error = case.load(case.file(bytes), Truth::Required, Some(&learned)).expect_err(bytes);
        case.text(&error)
    };
    assert_eq!(
        test("width,heigth,kind\n1,2,cat\n"),
        "error[csv-missing-column]: `data.csv` has no column `height`\n  --> data.csv:1\n  = help: its columns are `width`, `heigth`, `kind`\n  = help: did you mean `heigth`?"
    );
    assert_eq!(
        test("width,height,kind\n1,2,cat\n1,2,bird\n"),
        "error[unseen-class]: class `bird` in column `kind` did not occur in training\n  --> data.csv:3 (row 2, column `kind`)\n  = help: the model knows `cat`, `dog`"
    );
    assert_eq!(
        test("width,height\n1,2\n"),
        "error[csv-missing-column]: `data.csv` has no column `kind`\n  --> data.csv:1\n  = help: its columns are `width`, `height`"
    );

    let with_groups = |groups: Vec<ColumnGroup>| {
        let mut spec = case.file("width,height,kind\n1,2,cat\n");
        spec.columns = groups;
        case.text(&case.load(spec, Truth::Required, None).expect_err("groups"))
    };
    assert_eq!(
        with_groups(vec![group("x", &["widht"])]),
        "error[csv-missing-column]: `data.csv` has no column `widht`\n  --> data.csv:1\n  = help: its columns are `width`, `height`, `kind`\n  = help: did you mean `width`?"
    );
    assert_eq!(
        with_groups(vec![group("x", &["q*"])]),
        "error[csv-missing-column]: pattern `q*` of group `x` matches no column of `data.csv`\n  --> data.csv:1\n  = help: its columns are `width`, `height`, `kind`"
    );
    assert_eq!(
        with_groups(vec![group("z", &["width"])]),
        "error[unknown-column-group]: column group `z` is no input or output of the model\n  = help: inputs: `x`; outputs with a loss: `y`"
    );
    assert_eq!(
        with_groups(vec![group("x", &["width"])]),
        "error[no-data-for]: the data has nothing for output `y`\n  --> data.csv\n  = help: it offers `width`, `height`, `kind`\n  = help: name the output like a source of the data, or group columns under `y`"
    );

    let mut idx = learned.clone();
    idx.sources.iter_mut().for_each(|s| s.columns_of_csv = false);
    let error = case.load(case.file("width,height,kind\n1,2,cat\n"), Truth::Ignored, Some(&idx)).expect_err("kinds");
    assert_eq!(
        case.text(&error),
        "error[other-data-kind]: `x` was trained on IDX files or arrays, and the data is a CSV file\n  = help: values would be scaled in another way; give IDX files or arrays, or train anew with `train --fresh`"
    );

    let mut two = Case::new(Some(2));
    two.inputs = vec!["left".into(), "right".into()];
    let error = two.train("a,b,c,kind\n1,2,3,cat\n").expect_err("ambiguous");
    assert_eq!(
        two.text(&error),
        "error[ambiguous-columns]: the columns of `data.csv` cannot be divided among 2 inputs: `left`, `right`\n  = help: write which columns belong to which, for example\n          columns:\n            left: [a, b]\n            right: [c, kind]"
    );

    let error = case.load(
        CsvSpec { file: FileSpec { path: "none.csv".into(), checksum: None }, ..CsvSpec::default() },
        Truth::Required,
        None,
    );
    assert_eq!(
        error.expect_err("missing file").to_string(),
        "error[data-file]: the data file `none.csv` does not exist\n  = help: a relative path starts at the working directory"
    );
}
