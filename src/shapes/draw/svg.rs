//! The model as an SVG picture.

use std::fmt::Write as _;

use super::layout::{Layout, Point, layout};
use super::{Card, MARK, boxes};
use crate::model::types::Kurfile;
use crate::shapes::Shapes;

/// Width of a character of the 12 px monospace font, with some room, and height of a line.
const CHARACTER: f64 = 7.4;
const LINE: f64 = 16.0;

/// Space around the text of a box.
const PADDING: f64 = 10.0;

/// Space between the layers of a `parallel`.
const STEP: f64 = 22.0;

/// The model as SVG text.
#[must_use]
pub fn svg(kurfile: &Kurfile, shapes: &Shapes) -> String {
    let boxes = boxes(kurfile, shapes);
    let sizes: Vec<(f64, f64)> = boxes.iter().map(size).collect();
    let from: Vec<&[usize]> = boxes.iter().map(|b| b.from.as_slice()).collect();
    let Layout { corners, arrows, width, height } = layout(&sizes, &from);
    let (w, h) = (width.ceil(), height.ceil());
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\">\n<!-- {MARK} -->\n"
    );
    // Writing to a String cannot fail.
    let _ = writeln!(out, "<title>{}</title>", escaped(&kurfile.name));
    out.push_str(
        "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"#555\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"12\" text-anchor=\"middle\">\n",
    );
    for points in &arrows {
        line(&mut out, points);
    }
    for ((b, corner), size) in boxes.iter().zip(&corners).zip(&sizes) {
        draw(&mut out, b, *corner, *size);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// Width and height of a box with what is inside it.
fn size(b: &Card) -> (f64, f64) {
    let longest = b.lines.iter().map(|l| columns(l)).max().unwrap_or(0);
    let (mut width, mut height) = (longest as f64 * CHARACTER, b.lines.len() as f64 * LINE);
    for child in &b.inside {
        let (w, h) = size(child);
        width = width.max(w);
        height += h + STEP;
    }
    (width + 2.0 * PADDING, height + 2.0 * PADDING)
}

/// Columns of a text; characters of East Asian scripts take two.
fn columns(text: &str) -> usize {
    text.chars().map(|c| if ('\u{1100}'..='\u{FFFF}').contains(&c) || c > '\u{1F000}' { 2 } else { 1 }).sum()
}

fn draw(out: &mut String, b: &Card, at: Point, (width, height): (f64, f64)) {
    let fill = if b.input {
        "#e3f1e3"
    } else if b.output {
        "#e2ecf8"
    } else if b.inside.is_empty() {
        "#f6f6f6"
    } else {
        "#fdf8e8"
    };
    let stroke = if b.input || b.output { 2 } else { 1 };
    let _ = writeln!(
        out,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"5\" fill=\"{fill}\" stroke=\"#555\" \
         stroke-width=\"{stroke}\"/>",
        at.x, at.y
    );
    let middle = at.x + width / 2.0;
    for (i, text) in b.lines.iter().enumerate() {
        let y = at.y + PADDING + (i as f64 + 0.75) * LINE;
        let weight = if i == 0 { " font-weight=\"bold\"" } else { "" };
        let _ = writeln!(out, "<text x=\"{middle:.1}\" y=\"{y:.1}\"{weight}>{}</text>", escaped(text));
    }
    let mut y = at.y + PADDING + b.lines.len() as f64 * LINE;
    for (i, child) in b.inside.iter().enumerate() {
        let inner = size(child);
        if i > 0 {
            line(out, &[Point { x: middle, y }, Point { x: middle, y: y + STEP }]);
        }
        draw(out, child, Point { x: middle - inner.0 / 2.0, y: y + STEP }, inner);
        y += STEP + inner.1;
    }
}

fn line(out: &mut String, points: &[Point]) {
    let points: Vec<String> = points.iter().map(|p| format!("{:.1},{:.1}", p.x, p.y)).collect();
    let points = points.join(" ");
    let _ = writeln!(out, "<polyline points=\"{points}\" fill=\"none\" stroke=\"#555\" marker-end=\"url(#tip)\"/>");
}

/// Text for XML. Control characters, which XML does not know, become a replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}
