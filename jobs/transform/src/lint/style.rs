//! Rules about SQL text. They see it with comments, strings and Jinja blanked out, so that none of these is taken for SQL.

use std::sync::LazyLock;

use regex::Regex;
use tidemill_project::Location;

use super::text::{blanked, location_at};
use super::{
    CASE_ELSE, GROUP_BY_NAMES, HARD_CODED, JOIN_KIND, LINE_LENGTH, LOWER_CASE, Layer, Linter, MODEL_LENGTH, RIGHT_JOIN,
    SELECT_STAR, UNION_ALL,
};
use crate::project::Model;

const MAX_COLUMNS: usize = 80;
const MAX_LINES: usize = 80;

static STAR: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\bselect\s+(?:distinct\s+)?(?:\w+\.)?\*\s*(from\s+\S+)?"));
static KEYWORD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\b(SELECT|FROM|WHERE|GROUP|ORDER|BY|HAVING|JOIN|LEFT|RIGHT|INNER|OUTER|CROSS|FULL|ON|USING|UNION|ALL|DISTINCT|AS|AND|OR|NOT|NULL|CASE|WHEN|THEN|ELSE|END|WITH|OVER|PARTITION|IN|IS|BETWEEN|LIKE|LIMIT|CAST|FILTER)\b",
    )
});
static RIGHT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\bright\s+(?:outer\s+)?join\b"));
static UNION: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\bunion\b(?:\s+(\w+))?"));
static JOIN: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)(\w+)?\s*\bjoin\b"));
static GROUP: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\bgroup\s+by\s+\d"));
static CASE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\b(case|else|end)\b"));
static RELATION: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\b(?:from|join)\s+(\w+\.\w+)\b"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant that a test has tried")
}

pub(super) fn check(linter: &mut Linter<'_>, model: &Model, layer: Layer) {
    let sql = blanked(&model.raw_sql);
    let at = |byte: usize| location_at(&model.path, &model.raw_sql, byte);
    for found in STAR.captures_iter(&sql) {
        let Some(whole) = found.get(0) else { continue };
        let from = found.get(1).map(|from| from.as_str().split_whitespace().last().unwrap_or_default().to_lowercase());
        let rest = model.raw_sql[whole.start()..].to_lowercase();
        let imports = rest.split_once("from").is_some_and(|(_, rest)| {
            let call = rest.trim_start().trim_start_matches('{').trim_start();
            call.starts_with("source(") || call.starts_with("ref(")
        });
        let allowed = from.as_deref() == Some("final") || (layer == Layer::Staging && imports);
        if !allowed {
            linter.find(SELECT_STAR, at(whole.start()), "select * hides which columns are used");
        }
    }
    if let Some(found) = KEYWORD.find(&sql) {
        linter.find(LOWER_CASE, at(found.start()), format!("keyword {} is not lower case", found.as_str()));
    }
    for (index, line) in model.raw_sql.lines().enumerate() {
        let width = line.chars().count();
        if width > MAX_COLUMNS {
            let place = Location::new(&model.path, index + 1, MAX_COLUMNS + 1);
            linter.find(LINE_LENGTH, place, format!("the line has {width} columns"));
        }
    }
    for found in RIGHT.find_iter(&sql) {
        linter.find(RIGHT_JOIN, at(found.start()), "turn it round: a left join reads from left to right");
    }
    for found in UNION.captures_iter(&sql) {
        let Some(whole) = found.get(0) else { continue };
        let next = found.get(1).map(|word| word.as_str().to_lowercase());
        if !matches!(next.as_deref(), Some("all" | "distinct")) {
            linter.find(UNION_ALL, at(whole.start()), "a bare union drops duplicates silently");
        }
    }
    for found in JOIN.captures_iter(&sql) {
        let Some(whole) = found.get(0) else { continue };
        let kind = found.get(1).map(|word| word.as_str().to_lowercase());
        let kinds = ["inner", "left", "right", "outer", "cross", "full", "semi", "anti", "natural", "lateral", "asof"];
        if !kind.is_some_and(|kind| kinds.contains(&kind.as_str())) {
            let join = whole.end() - "join".len();
            linter.find(JOIN_KIND, at(join), "the join does not say its kind");
        }
    }
    for found in GROUP.find_iter(&sql) {
        linter.find(GROUP_BY_NAMES, at(found.start()), "grouped by position");
    }
    check_cases(linter, model, &sql);
    for found in RELATION.captures_iter(&sql).filter_map(|found| found.get(1)) {
        linter.find(HARD_CODED, at(found.start()), format!("{} is named directly", found.as_str()));
    }
    let num_lines = sql.lines().filter(|line| !line.trim().is_empty()).count();
    if num_lines > MAX_LINES {
        let place = Location::new(&model.path, 1, 1);
        linter.find(
            MODEL_LENGTH,
            place,
            format!("{} has {num_lines} lines of SQL; an intermediate model may help", model.name),
        );
    }
}

/// Walks `case … else … end`, which nest.
fn check_cases(linter: &mut Linter<'_>, model: &Model, sql: &str) {
    let mut open: Vec<(usize, bool)> = Vec::new();
    for found in CASE.find_iter(sql) {
        match found.as_str().to_lowercase().as_str() {
            "case" => open.push((found.start(), false)),
            "else" => {
                if let Some((_, has_else)) = open.last_mut() {
                    *has_else = true;
                }
            }
            _ => {
                if let Some((start, false)) = open.pop() {
                    let place = location_at(&model.path, &model.raw_sql, start);
                    linter.find(CASE_ELSE, place, "rows that no `when` takes become null");
                }
            }
        }
    }
}
