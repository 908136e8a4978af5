//! From the value tree to the typed Kurfile: sections, layers, names, connections. No tensors here.
//!
//! [`load`] is the way in. It evaluates section by section in Kur's order (kur-reference 1.3), because later sections
//! see earlier ones in their templates, and it reports as many mistakes as it can find in one run.

mod blame;
mod containers;
mod convert;
mod cx;
mod data;
mod dump;
mod evaluate;
mod explain;
mod fields;
mod graph;
pub mod help;
mod lint;
mod overrides;
mod report;
mod resolved;
mod schema;
mod sections;
mod table;
pub mod types;

pub use data::{Data, data, merged};
pub use dump::dump;
pub use explain::explain;
pub use overrides::Overrides;
pub(crate) use overrides::VARIABLE as OVERRIDES_VARIABLE;
pub use schema::schema;

use std::sync::Arc;

use kur_runtime::spec::{CsvSpec, SupplierSpec};

use crate::diag::{Diagnostic, FileId, Reported, Sink, SourceMap, Span, did_you_mean};
use crate::frontend::template::{Engine, LiveTree, Undefined};
use crate::frontend::value::{Entry, Kind};
use crate::frontend::world::expand_path;
use crate::frontend::{Value, World};

use containers::{Expander, Templates};
use cx::Cx;
use graph::Graph;
use sections::evaluation::Evaluation;
use sections::settings::Settings;
use types::{Kurfile, Loss, Spanned, TrainSection};

/// Reads, evaluates and types a Kurfile.
///
/// `overrides` are the arguments of `--set`. Every file read goes into `sources`, every finding into `sink`.
///
/// # Errors
/// Any diagnostic of `frontend` and `model`; when there is one, nothing is returned.
pub fn load(
    world: &dyn World,
    path: &str,
    overrides: &[String],
    sources: &mut SourceMap,
    sink: &mut Sink,
) -> Result<Kurfile, Reported> {
    let (file, root) = merged(world, path, overrides, sources, sink)?;
    let engine = engine(world, path, &root);
    let cx = Cx::new(world, sources, sink, &engine);
    let kurfile = Loader::new(cx, root.clone(), file, path).run();
    blame::note(&engine, &root, sources, sink);
    kurfile
}

/// The template engine of a Kurfile. Whether undefined names are errors must be known before anything is evaluated.
fn engine<'w>(world: &'w dyn World, path: &str, root: &Value) -> Engine<'w> {
    let compat = root.get("settings").and_then(|s| s.get("compat")).and_then(Value::as_str);
    let undefined = if compat == Some("kur") { Undefined::Empty } else { Undefined::Error };
    Engine::new(world, &expand_path(world, path), undefined)
}

struct Loader<'a> {
    cx: Cx<'a>,
    root: Value,
    /// `root` as templates see it.
    parsed: LiveTree,
    file: FileId,
    path: String,
    /// Evaluated sections by canonical name, for `Kurfile::resolved`.
    printed: Vec<(&'static str, Value)>,
    /// Where the entry of `model` stands that each item of the expanded model comes from.
    places: Vec<Span>,
}

impl<'a> Loader<'a> {
    fn new(cx: Cx<'a>, root: Value, file: FileId, path: &str) -> Loader<'a> {
        let path = expand_path(cx.world, path);
        Loader { cx, parsed: LiveTree::new(&root), root, file, path, printed: Vec::new(), places: Vec::new() }
    }

    fn run(&mut self) -> Result<Kurfile, Reported> {
        let root = self.root.clone();
        let Some(entries) = root.as_map() else {
            return Err(match root.kind {
                Kind::Null => self.cx.fail(empty_file(self.file)),
                _ => self.cx.fail(report::values::wrong_type(&root, "a Kurfile", "a mapping of sections")),
            });
        };
        sections::check_names(&mut self.cx, entries);
        lint::check_includes(&mut self.cx, &root);
        let expander = Expander::default();
        self.base_scope(&expander, &root);
        let settings = self.settings(&root);
        let sections = self.data_sections(&root);
        let graph = self.model(&root, expander);
        let (losses, loss_span) = self.loss(&root, graph.as_ref().ok());
        // Every part that failed has reported; nothing half-read may go on.
        self.cx.sink.check()?;
        let (settings, graph, sections, losses) = (settings?, graph?, sections?, losses?);
        let DataSections { train, validate, test, evaluate } = sections;
        let spanned = |e: &Option<(Span, Evaluation)>| {
            e.as_ref().map(|(span, e)| Spanned { value: e.section.clone(), span: *span })
        };
        let weights = |e: &Option<(Span, Evaluation)>| e.as_ref().and_then(|(_, e)| e.weights.clone());
        let kurfile = Kurfile {
            name: stem(&self.path),
            seed: settings.seed,
            compat_kur: settings.compat_kur,
            layers: graph.layers,
            outputs: graph.outputs,
            losses,
            loss_span,
            train,
            validate: spanned(&validate),
            validate_best: weights(&validate),
            test: spanned(&test),
            test_weights: weights(&test),
            evaluate_weights: weights(&evaluate),
            destination: evaluate.as_ref().and_then(|(_, e)| e.destination.clone()),
            evaluate: spanned(&evaluate),
            unbuilt: std::mem::take(&mut self.cx.unbuilt),
            messages: std::mem::take(&mut self.cx.messages),
            resolved: resolved::print(&self.printed),
        };
        lint::check(&mut self.cx, &root, &kurfile);
        Ok(kurfile)
    }

    /// The outermost names (kur-reference 1.4, items 5 and 6).
    fn base_scope(&mut self, expander: &Expander, root: &Value) {
        expander.declare(&mut self.cx);
        let host = self.cx.world.hostname();
        self.cx.scope.push_tree("parsed", &self.parsed);
        self.cx.scope.push("raw", root);
        self.cx.scope.push_text("filename", Some(&self.path));
        self.cx.scope.push_text("host", Some(&host));
    }

    fn settings(&mut self, root: &Value) -> Result<Settings, Reported> {
        let Some(entry) = sections::find(&mut self.cx, root, "settings") else { return Ok(Settings::default()) };
        let (value, state) = evaluate::section(&mut self.cx, entry, true);
        let settings = sections::settings::read(&mut self.cx, &value);
        for e in value.as_map().unwrap_or_default() {
            if let Some(name) = e.key.as_str() {
                self.cx.scope.push(name, &e.value);
            }
        }
        self.done("settings", entry, value);
        state.and(settings)
    }

    /// Evaluates one of the data sections and brings it into scope.
    fn section(&mut self, root: &Value, name: &'static str) -> Option<(Span, Value, Result<(), Reported>)> {
        let entry = sections::find(&mut self.cx, root, name)?;
        let (value, state) = evaluate::section(&mut self.cx, entry, false);
        self.done(name, entry, value.clone());
        Some((entry.key.span, value, state))
    }

    fn data_sections(&mut self, root: &Value) -> Result<DataSections, Reported> {
        let train = self.section(root, "train");
        let validate = self.section(root, "validate");
        let test = self.section(root, "test");
        let evaluate = self.section(root, "evaluate");
        let saves = validate.as_ref().is_some_and(|(_, v, _)| v.get("weights").is_some_and(|w| !w.is_null()));
        let train = match train {
            Some((span, value, state)) => {
                Some(state.and(sections::train::read(&mut self.cx, span, &value, saves))).transpose()
            }
            None => Ok(None),
        };
        let inherited = inherited_csv(train.as_ref().ok().and_then(Option::as_ref));
        let mut other = |name: &str, section: Option<(Span, Value, Result<(), Reported>)>| match section {
            Some((span, value, state)) => {
                let read = sections::evaluation::read(&mut self.cx, name, &value, &inherited);
                state.and(read).map(|e| Some((span, e)))
            }
            None => Ok(None),
        };
        let (validate, test, evaluate) =
            (other("validate", validate), other("test", test), other("evaluate", evaluate));
        Ok(DataSections { train: train?, validate: validate?, test: test?, evaluate: evaluate? })
    }

    fn model(&mut self, root: &Value, expander: Expander) -> Result<Graph, Reported> {
        let Some(entry) = root.entry("model") else {
            // A misspelled `model` was reported as an unknown section; that is the mistake to mend.
            let names = root.as_map().unwrap_or_default().iter().filter_map(|e| e.key.as_str());
            for name in names {
                if did_you_mean(name, ["model"]).is_some() {
                    self.cx.sink.check()?;
                }
            }
            return Err(self.cx.fail(report::keys::missing_model(root)));
        };
        let before = self.cx.sink.error_count();
        let value = self.cx.eval(&entry.value)?;
        if value.is_null() || value.as_list().is_some_and(<[Value]>::is_empty) {
            return Err(self.cx.fail(report::keys::empty_model(&entry.key)));
        }
        if let Some(d) = report::keys::missing_blank(&value) {
            return Err(self.cx.fail(d));
        }
        let items = convert::list(&mut self.cx, &value, "`model`", "a list of layers (`- dense: 10`)")?;
        let templates = root.get("templates").map(|v| Templates::read(&mut self.cx, v)).unwrap_or_default();
        let mut expander = expander.with_templates(Arc::new(templates));
        let outer = self.cx.scope.clone();
        expander.model(&mut self.cx, items);
        self.cx.scope = outer;
        let nodes = containers::resolve_reuse(&mut self.cx, expander);
        let list = Value::new(Kind::List(resolved::entries(&nodes)), entry.key.span);
        self.printed.push(("model", list));
        self.places = nodes.iter().map(explain::entry_of).collect();
        graph::connect(&mut self.cx, nodes, before)
    }

    fn loss(&mut self, root: &Value, graph: Option<&Graph>) -> (Result<Vec<Loss>, Reported>, Option<Span>) {
        let Some(entry) = root.entry("loss") else { return (Ok(Vec::new()), None) };
        let span = Some(entry.key.span);
        let value = match self.cx.deep(&entry.value) {
            Ok(value) => value,
            Err(r) => return (Err(r), span),
        };
        let losses = sections::loss::read(&mut self.cx, &value, graph);
        self.record("loss", entry, &value);
        self.printed.push(("loss", value));
        (losses, span)
    }

    /// Puts an evaluated section into the tree, under both of its names as Kur does.
    fn record(&mut self, name: &'static str, entry: &Entry, value: &Value) {
        let Kind::Map(map) = &mut self.root.kind else { return };
        for spelling in sections::spellings(name) {
            self.parsed.set(&Value::text(spelling, entry.key.span), value);
            match map.iter_mut().find(|e| e.key.as_str() == Some(spelling)) {
                Some(e) => e.value = value.clone(),
                None => map.push(Entry { key: Value::text(spelling, entry.key.span), value: value.clone() }),
            }
        }
    }

    /// Brings an evaluated section into scope under the name it is written with, and into `parsed` under both.
    fn done(&mut self, name: &'static str, entry: &Entry, value: Value) {
        self.cx.scope.push(entry.key.as_str().unwrap_or(name), &value);
        self.record(name, entry, &value);
        self.printed.push((name, value));
    }
}

/// The four sections with data.
struct DataSections {
    train: Option<TrainSection>,
    validate: Option<(Span, Evaluation)>,
    test: Option<(Span, Evaluation)>,
    evaluate: Option<(Span, Evaluation)>,
}

/// What CSV files of other sections take over from `train`: everything but the file.
fn inherited_csv(train: Option<&TrainSection>) -> CsvSpec {
    let csv = train.and_then(|t| {
        t.section.data.iter().find_map(|s| match s {
            SupplierSpec::Csv(c) => Some(c.clone()),
            SupplierSpec::Mnist { .. } | SupplierSpec::Arrays { .. } | SupplierSpec::Unbuilt { .. } => None,
        })
    });
    let base = csv.unwrap_or(CsvSpec { header: true, ..CsvSpec::default() });
    CsvSpec { file: kur_runtime::spec::FileSpec::default(), ..base }
}

/// File name without folder and extension.
fn stem(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
}

fn empty_file(file: FileId) -> Diagnostic {
    Diagnostic::error("empty-kurfile", "this Kurfile is empty")
        .at(Span::new(file, 0, 0), "nothing here")
        .help("a Kurfile needs at least a `model` section: `model:` with a list of layers")
}
