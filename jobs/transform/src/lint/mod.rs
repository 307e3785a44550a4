//! The house's rules for names, layers and descriptions, as far as a program can check them (`tidemill lint`).
//!
//! Each rule has an id, a name and one sentence that says what it wants. A rule is left out by `--off`, for a project by
//! `vars: {lint_off: [TL012]}`, and for one file by a comment in it: `lint: off TL007`.

mod layers;
mod properties;
mod style;
mod text;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value as Json;
use tidemill_project::error::nearest;
use tidemill_project::{Fault, Location};

use crate::error::{Error, Result, codes};
use crate::graph::{Graph, Selection};
use crate::project::{Model, NodeId, Project};

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// `TL007`.
    pub id: &'static str,
    /// `select-star`.
    pub name: &'static str,
    /// What it wants.
    pub wants: &'static str,
}

macro_rules! rules {
    ($($constant:ident = $id:literal $name:literal $wants:literal;)*) => {
        $(pub(crate) const $constant: Rule = Rule { id: $id, name: $name, wants: $wants };)*
        /// All rules, by id.
        pub const RULES: &[Rule] = &[$($constant),*];
    };
}

rules! {
    SOURCE_IN_STAGING = "TL001" "source-in-staging" "only staging models read sources";
    STAGING_READS_ONE = "TL002" "staging-reads-one" "a staging model reads one source and joins nothing";
    MARTS_ARE_PUBLISHED = "TL003" "marts-are-published" "only marts are published";
    LAYER_NAME = "TL004" "layer-name" "names say the layer: stg_<source>__<entities>, base_<source>__<entities>, int_<entities>_<verbed>";
    MART_NAME = "TL005" "mart-name" "marts are named fct_<events> or dim_<entities>";
    SNAKE_CASE = "TL006" "snake-case" "names are lower case, with underscores";
    SELECT_STAR = "TL007" "select-star" "select * stands in front of `final`, and in a staging model's import of its source, nowhere else";
    MODEL_DESCRIPTION = "TL008" "model-description" "every model is described";
    COLUMN_DESCRIPTION = "TL009" "column-description" "every column that YAML names is described";
    KEY_TEST = "TL010" "key-test" "every mart has a test of its key: unique, or unique_combination";
    YAML_BESIDE = "TL011" "yaml-beside" "a model's YAML lies in the model's folder";
    GRAIN = "TL012" "grain" "the description of a mart says its grain: one row per …";
    LOWER_CASE = "TL013" "lower-case" "keywords are lower case";
    LINE_LENGTH = "TL014" "line-length" "lines have at most 80 columns";
    RIGHT_JOIN = "TL015" "right-join" "no right joins";
    UNION_ALL = "TL016" "union-all" "`union` says `all` or `distinct`";
    JOIN_KIND = "TL017" "join-kind" "joins say their kind: inner join, left join, cross join";
    GROUP_BY_NAMES = "TL018" "group-by-names" "`group by` names its columns";
    CASE_ELSE = "TL019" "case-else" "a `case` has an `else`";
    SOURCE_DESCRIPTION = "TL020" "source-description" "every source table is described";
    MODEL_LENGTH = "TL021" "model-length" "a model has at most 80 lines of SQL";
    HARD_CODED = "TL022" "hard-coded-relation" "models name their inputs with ref and source";
    UNUSED = "TL023" "unused-model" "a model that is neither a mart nor published is read by somebody";
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Where.
    pub location: Location,
    /// What is there.
    pub message: String,
}

/// A layer of models, by the folder below the model path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Staging,
    Intermediate,
    Marts,
    Other,
}

impl Layer {
    fn of(graph: &Graph, model: &Model) -> Self {
        let node = graph.get(&NodeId::Model(model.name.clone()));
        let folders = node.map(|node| node.traits.fqn.clone()).unwrap_or_default();
        folders
            .iter()
            .find_map(|folder| match folder.as_str() {
                "staging" => Some(Self::Staging),
                "intermediate" => Some(Self::Intermediate),
                "marts" => Some(Self::Marts),
                _ => None,
            })
            .unwrap_or(Self::Other)
    }
}

/// What rules look at, and where they put what they find.
pub(crate) struct Linter<'a> {
    pub(crate) project: &'a Project,
    pub(crate) graph: &'a Graph,
    findings: Vec<Finding>,
}

impl Linter<'_> {
    pub(crate) fn find(&mut self, rule: Rule, location: Location, message: impl Into<String>) {
        self.findings.push(Finding { rule, location, message: message.into() });
    }
}

/// Checks the selected models and sources. Findings stand by file and line.
///
/// # Errors
/// The selection; a rule in `off` or in the project's `lint_off` that does not exist.
pub fn lint(project: &Project, graph: &Graph, selection: &Selection, off: &[String]) -> Result<Vec<Finding>> {
    let off = rules_off(project, off)?;
    let selected: BTreeSet<NodeId> = graph.select(selection)?.into_iter().collect();
    let mut linter = Linter { project, graph, findings: Vec::new() };
    for model in project.models.values().filter(|model| selected.contains(&NodeId::Model(model.name.clone()))) {
        let layer = Layer::of(graph, model);
        layers::check(&mut linter, model, layer);
        properties::check_model(&mut linter, model, layer);
        style::check(&mut linter, model, layer);
    }
    for source in project.sources.values().filter(|source| selected.contains(&NodeId::Source(source.name.clone()))) {
        properties::check_source(&mut linter, source);
    }
    let mut findings = linter.findings;
    findings.retain(|finding| !off.contains(finding.rule.id));
    let mut quiet = text::FileSwitches::default();
    findings.retain(|finding| !quiet.is_off(&finding.location.file, finding.rule));
    for finding in &mut findings {
        finding.location.file = project.relative(&finding.location.file).to_path_buf();
    }
    findings.sort_by(|left, right| (&left.location, left.rule.id).cmp(&(&right.location, right.rule.id)));
    Ok(findings)
}

fn rules_off(project: &Project, off: &[String]) -> Result<BTreeSet<&'static str>> {
    let declared = project.vars.get("lint_off").and_then(Json::as_array).cloned().unwrap_or_default();
    let declared = declared.iter().filter_map(Json::as_str).map(str::to_owned);
    let mut ids = BTreeSet::new();
    let mut faults = Vec::new();
    for wanted in off.iter().flat_map(|text| text.split([',', ' '])).map(str::to_owned).chain(declared) {
        if wanted.is_empty() {
            continue;
        }
        if let Some(rule) = RULES.iter().find(|rule| rule.id.eq_ignore_ascii_case(&wanted) || rule.name == wanted) {
            ids.insert(rule.id);
        } else {
            let known = RULES.iter().flat_map(|rule| [rule.id, rule.name]);
            let fault = Fault::new(format!("no lint rule of that name, rule=`{wanted}`")).code(codes::UNKNOWN_VALUE);
            faults.push(match nearest(&wanted, known) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault.hint("`tidemill lint --rules` lists them"),
            });
        }
    }
    if faults.is_empty() { Ok(ids) } else { Err(Error::from_faults(faults)) }
}

#[cfg(test)]
mod tests;
