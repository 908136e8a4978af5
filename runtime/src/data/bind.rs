//! Decides which columns of a CSV file make which model input or loss target.
//!
//! In: the column names, the Kurfile's groups, the names that the model wants, what training learned. Out: one
//! [`Bound`] per source. The rules are those of the design, "CSV and shapes": groups first, then columns named like an
//! input or target, then the default (the last column is the target, all others are the input).

use super::csv::CsvFile;
use super::learned::{Encoding, Learned, LearnedSource};
use super::{Role, Source, TargetHint, Truth, errors};
use crate::error::Result;
use crate::spec::{ColumnGroup, CsvSpec, Missing, Normalize, SectionSpec, SupplierSpec};

/// What the model wants from a section.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Names of the model inputs.
    pub inputs: &'a [String],
    /// The loss targets.
    pub targets: &'a [TargetHint],
    /// Whether targets have to be there.
    pub truth: Truth,
}

impl Wanted<'_> {
    /// The input or target that data under `name` belongs to: role, model name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(Role, String)> {
        if self.inputs.iter().any(|i| i == name) {
            return Some((Role::Input, name.to_owned()));
        }
        self.targets.iter().find(|t| t.is_called(name)).map(|t| (Role::Target, t.name.clone()))
    }

    fn hint(&self, target: &str) -> Option<&TargetHint> {
        self.targets.iter().find(|t| t.name == target)
    }
}

/// Columns of one file that make one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// Name of the model input, or primary name of the output.
    pub name: String,
    /// Which of the two.
    pub role: Role,
    /// The columns in order.
    pub columns: Vec<BoundColumn>,
    /// Scaling to learn.
    pub normalize: Normalize,
    /// What an empty cell means.
    pub missing: Missing,
    /// Softmax units of the output, for targets.
    pub softmax_width: Option<u64>,
}

/// One column of a [`Bound`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundColumn {
    /// Position in the file.
    pub index: usize,
    /// Name that the column is known by; that of training where the two differ.
    pub name: String,
    /// How its cells are read.
    pub kind: ColumnKind,
}

/// How cells are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Numbers; anything else is an error.
    Number,
    /// Class names.
    Class,
    /// A target without softmax: the first cell decides.
    Decide,
}

/// Finds the columns of every source that the model wants and this file has.
///
/// # Errors
/// `csv-missing-column`, `unknown-column-group`, `ambiguous-columns`.
pub fn bind(file: &CsvFile, spec: &CsvSpec, wanted: &Wanted<'_>, learned: Option<&Learned>) -> Result<Vec<Bound>> {
    let mut bound = match learned {
        Some(learned) if learned.sources.iter().any(|s| s.columns_of_csv) => {
            let mut known = bind_as_learned(file, spec, wanted, learned)?;
            // A run may read a column that the one before did not, to scale its learning rate.
            let new = |name: &str| !learned.sources.iter().any(|s| s.name == name);
            for (role, name, index) in named_like_columns(file, wanted) {
                if role == Role::Input && new(&name) {
                    known.push(simple(file, spec, name, role, &[index], None));
                }
            }
            known
        }
        _ if spec.columns.is_empty() => bind_by_default(file, spec, wanted)?,
        _ => bind_groups(file, spec, wanted)?,
    };
    bound.retain(|b| b.role == Role::Input || wanted.truth != Truth::Ignored);
    Ok(bound)
}

/// Complains about inputs, and targets where they are required, that nothing feeds.
///
/// # Errors
/// `no-data-for`.
pub fn check_complete(
    section: &SectionSpec,
    wanted: &Wanted<'_>,
    sources: &[Source],
    offered: &[String],
) -> Result<()> {
    let has = |role: Role, name: &str| sources.iter().any(|s| s.role == role && s.name == name);
    if let Some(name) = wanted.inputs.iter().find(|n| !has(Role::Input, n)) {
        return Err(no_source(section, "input", name, offered));
    }
    if wanted.truth == Truth::Required
        && let Some(target) = wanted.targets.iter().find(|t| !has(Role::Target, &t.name))
    {
        return Err(no_source(section, "output", &target.name, offered));
    }
    Ok(())
}

fn no_source(section: &SectionSpec, role: &str, name: &str, offered: &[String]) -> crate::error::Error {
    let error = errors::no_source(role, name, offered);
    match section.data.as_slice() {
        [SupplierSpec::Csv(csv)] => error.at(crate::error::Place::file(&csv.file.path)),
        _ => error,
    }
}

fn bind_as_learned(file: &CsvFile, spec: &CsvSpec, wanted: &Wanted<'_>, learned: &Learned) -> Result<Vec<Bound>> {
    let mut all = Vec::new();
    for source in learned.sources.iter().filter(|s| s.columns_of_csv) {
        let wants = match source.role() {
            Role::Input => wanted.inputs.contains(&source.name),
            Role::Target => wanted.truth != Truth::Ignored && wanted.hint(&source.name).is_some(),
        };
        if !wants {
            continue;
        }
        let by_name: Vec<Option<usize>> = source.columns.iter().map(|c| file.column(&c.name)).collect();
        let group = spec.columns.iter().find(|g| wanted.find(&g.name).is_some_and(|(_, n)| n == source.name));
        let indices: Vec<usize> = if by_name.iter().all(Option::is_some) {
            by_name.into_iter().flatten().collect()
        } else if let Some(columns) = own_columns(file, spec, group, source) {
            columns
        } else if source.target && wanted.truth == Truth::Optional && by_name.iter().all(Option::is_none) {
            continue;
        } else {
            let lacking = source.columns.iter().zip(&by_name).find(|(_, i)| i.is_none());
            let name = lacking.map_or("", |(c, _)| c.name.as_str());
            return Err(errors::missing_column(file.path(), name, file.names()));
        };
        let columns = source
            .columns
            .iter()
            .zip(indices)
            .map(|(c, index)| BoundColumn {
                index,
                name: c.name.clone(),
                kind: match c.encoding {
                    Encoding::Number { .. } => ColumnKind::Number,
                    Encoding::Classes { .. } => ColumnKind::Class,
                },
            })
            .collect();
        all.push(Bound {
            name: source.name.clone(),
            role: source.role(),
            columns,
            normalize: policy(spec, group, source.role()).0,
            missing: policy(spec, group, source.role()).1,
            softmax_width: wanted.hint(&source.name).and_then(|t| t.softmax_width),
        });
    }
    Ok(all)
}

/// The columns of a section that groups them under other header names than training did.
fn own_columns(
    file: &CsvFile,
    spec: &CsvSpec,
    group: Option<&ColumnGroup>,
    source: &LearnedSource,
) -> Option<Vec<usize>> {
    let columns = resolve(file, spec, group?).ok()?;
    (columns.len() == source.columns.len()).then_some(columns)
}

fn bind_groups(file: &CsvFile, spec: &CsvSpec, wanted: &Wanted<'_>) -> Result<Vec<Bound>> {
    let mut all = Vec::new();
    for group in &spec.columns {
        let Some((role, name)) = wanted.find(&group.name) else {
            let inputs: Vec<&str> = wanted.inputs.iter().map(String::as_str).collect();
            let outputs: Vec<&str> = wanted.targets.iter().map(|t| t.name.as_str()).collect();
            return Err(errors::unknown_group(&group.name, &inputs, &outputs));
        };
        let indices = match resolve(file, spec, group) {
            Ok(indices) => indices,
            Err(_) if role == Role::Target && wanted.truth != Truth::Required => continue,
            Err(e) => return Err(e),
        };
        let hint = wanted.hint(&name);
        let policy = policy(spec, Some(group), role);
        all.push(make(file, name, role, &indices, hint, policy, group.one_hot));
    }
    for (role, name, header) in named_like_columns(file, wanted) {
        if !all.iter().any(|b| b.name == name) {
            let index = [header];
            all.push(simple(file, spec, name.clone(), role, &index, wanted.hint(&name)));
        }
    }
    Ok(all)
}

fn bind_by_default(file: &CsvFile, spec: &CsvSpec, wanted: &Wanted<'_>) -> Result<Vec<Bound>> {
    let mut all = Vec::new();
    let mut used = vec![false; file.names().len()];
    for (role, name, index) in named_like_columns(file, wanted) {
        used[index] = true;
        let hint = wanted.hint(&name);
        all.push(simple(file, spec, name.clone(), role, &[index], hint));
    }
    let unbound_targets: Vec<&TargetHint> =
        wanted.targets.iter().filter(|t| !all.iter().any(|b| b.name == t.name)).collect();
    let unbound_inputs: Vec<&str> =
        wanted.inputs.iter().map(String::as_str).filter(|i| !all.iter().any(|b| b.name == *i)).collect();
    let free = |used: &[bool]| -> Vec<usize> { (0..used.len()).filter(|i| !used[*i]).collect() };
    // Without labels in the file, the last column is one of the inputs; only training can tell, so a prediction without
    // anything learned takes all columns.
    if wanted.truth != Truth::Ignored {
        match unbound_targets.as_slice() {
            [] => {}
            [target] => {
                if let Some(last) = free(&used).last().copied() {
                    used[last] = true;
                    all.push(simple(file, spec, target.name.clone(), Role::Target, &[last], Some(target)));
                }
            }
            many => {
                let names: Vec<&str> =
                    unbound_inputs.iter().copied().chain(many.iter().map(|t| t.name.as_str())).collect();
                return Err(errors::ambiguous_columns(file.path(), "inputs and outputs", &names, file.names()));
            }
        }
    }
    let rest = free(&used);
    match unbound_inputs.as_slice() {
        [] => {}
        [name] if rest.is_empty() => return Err(errors::no_source("input", name, file.names())),
        [name] => all.push(simple(file, spec, (*name).to_owned(), Role::Input, &rest, None)),
        many => return Err(errors::ambiguous_columns(file.path(), "inputs", many, file.names())),
    }
    Ok(all)
}

/// Inputs and targets that a column is named after.
fn named_like_columns(file: &CsvFile, wanted: &Wanted<'_>) -> Vec<(Role, String, usize)> {
    let mut found: Vec<(Role, String, usize)> = Vec::new();
    for (index, column) in file.names().iter().enumerate() {
        if let Some((role, name)) = wanted.find(column)
            && !found.iter().any(|(_, n, _)| *n == name)
        {
            found.push((role, name, index));
        }
    }
    found
}

fn simple(
    file: &CsvFile,
    spec: &CsvSpec,
    name: String,
    role: Role,
    columns: &[usize],
    hint: Option<&TargetHint>,
) -> Bound {
    make(file, name, role, columns, hint, policy(spec, None, role), None)
}

/// Scaling of a source, and what an empty cell of it means: what its group says, else what the supplier says. The
/// supplier describes its inputs; a target is never scaled or invented that way, but its row may be dropped.
fn policy(spec: &CsvSpec, group: Option<&ColumnGroup>, role: Role) -> (Normalize, Missing) {
    let (normalize, missing) = match (role, spec.missing) {
        (Role::Input, missing) => (spec.normalize, missing),
        (Role::Target, Missing::Drop) => (Normalize::None, Missing::Drop),
        (Role::Target, _) => (Normalize::None, Missing::Error),
    };
    (group.and_then(|g| g.normalize).unwrap_or(normalize), group.and_then(|g| g.missing).unwrap_or(missing))
}

fn make(
    file: &CsvFile,
    name: String,
    role: Role,
    indices: &[usize],
    hint: Option<&TargetHint>,
    (normalize, missing): (Normalize, Missing),
    one_hot: Option<bool>,
) -> Bound {
    let softmax_width = hint.and_then(|t| t.softmax_width);
    let kind = match (one_hot, role) {
        (Some(true), _) => ColumnKind::Class,
        (None, Role::Target) if indices.len() == 1 => {
            if softmax_width.is_some_and(|w| w >= 2) {
                ColumnKind::Class
            } else {
                ColumnKind::Decide
            }
        }
        _ => ColumnKind::Number,
    };
    let columns = indices.iter().map(|&index| BoundColumn { index, name: file.names()[index].clone(), kind }).collect();
    Bound { name, role, columns, normalize, missing, softmax_width }
}

/// Column positions of a group: names exactly, globs in file order without the columns that another group names
/// literally, each column once.
fn resolve(file: &CsvFile, spec: &CsvSpec, group: &ColumnGroup) -> Result<Vec<usize>> {
    let mut columns = Vec::new();
    for pattern in &group.from {
        if let Some(index) = file.column(pattern) {
            columns.push(index);
            continue;
        }
        if !is_glob(pattern) {
            return Err(errors::missing_column(file.path(), pattern, file.names()));
        }
        let taken = |name: &String| spec.columns.iter().any(|g| g.name != group.name && g.from.contains(name));
        let before = columns.len();
        columns.extend(
            file.names()
                .iter()
                .enumerate()
                .filter(|(_, n)| matches(pattern, n) && !taken(n))
                .map(|(i, _)| i)
                .filter(|i| !columns.contains(i))
                .collect::<Vec<_>>(),
        );
        if columns.len() == before && !file.names().iter().any(|n| matches(pattern, n)) {
            return Err(errors::empty_glob(file.path(), &group.name, pattern, file.names()));
        }
    }
    let mut seen = vec![false; file.names().len()];
    columns.retain(|&i| !std::mem::replace(&mut seen[i], true));
    Ok(columns)
}

fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// Shell-like matching: `*`, `?`, `[abc]`, `[a-z]`, `[!x]`.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Positions after the last `*` and of the text it has swallowed so far: linear backtracking.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => match class(&pattern[p..], name[n]) {
                Some((true, len)) => Some(p + len),
                Some((false, _)) => None,
                None => (name[n] == '[').then_some(p + 1),
            },
            Some(c) => (*c == name[n]).then_some(p + 1),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => {
                p = next;
                n += 1;
            }
            (None, Some((after, swallowed))) => {
                p = after;
                n = swallowed + 1;
                star = Some((after, n));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Whether a `[…]` at the start of `pattern` has `c`, and its length; `None` when it is never closed.
fn class(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let start = if negated { 2 } else { 1 };
    let end = (start + 1..pattern.len()).find(|&i| pattern[i] == ']')?;
    let mut found = false;
    let mut i = start;
    while i < end {
        if i + 2 < end && pattern[i + 1] == '-' {
            found |= (pattern[i]..=pattern[i + 2]).contains(&c);
            i += 3;
        } else {
            found |= pattern[i] == c;
            i += 1;
        }
    }
    Some((found != negated, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_like_a_shell() {
        for (pattern, name, expected) in [
            ("c*", "c12", true),
            ("c*", "b", false),
            ("*_mean", "area_mean", true),
            ("*_mean", "area_mean_2", false),
            ("x?", "x1", true),
            ("x?", "x", false),
            ("x[0-3]", "x2", true),
            ("x[0-3]", "x7", false),
            ("x[!a]", "xb", true),
            ("x[", "x[", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
