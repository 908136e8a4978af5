//! `kurc opt`: passes over graph IR text, for looking inside and for tests.

use std::io::Read as _;

use super::{INTERNAL, KURFILE, internal_error, out};
use crate::ir::text::{parse_graphs, print_graph};
use crate::ir::verify::{annotate, verify};
use crate::model::types::Optimizer;
use crate::passes::{PassCx, find, run_pass};

pub(super) fn opt(file: &str, passes: &[String]) -> u8 {
    let mut text = String::new();
    let read = if file == "-" {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(file).map(|t| text = t)
    };
    if let Err(e) = read {
        say!("error[missing-file]: cannot read `{file}`: {e}");
        return 1;
    }
    let graphs = match parse_graphs(&text) {
        Ok(g) => g,
        Err(e) => {
            say!("error[ir-syntax]: {file}:{e}");
            return KURFILE;
        }
    };
    // Text carries no optimizer; the pass of that name runs with the default one.
    let cx = PassCx { optimizer: Some(Optimizer::default()) };
    let mut result = Vec::new();
    for mut g in graphs {
        let findings = verify(&g);
        if !findings.is_empty() {
            say!("error[ir-invalid]: the graph breaks its own rules\n{}", annotate(&g, &findings));
            return KURFILE;
        }
        for name in passes {
            let Some(pass) = find(name) else { continue };
            let start = std::time::Instant::now();
            if let Err(e) = run_pass(pass, &cx, &mut g, &|| start.elapsed()) {
                internal_error(&format!("{e}\n{}", e.dump));
                return INTERNAL;
            }
        }
        result.push(print_graph(&g));
    }
    out(&result.join("\n"))
}
