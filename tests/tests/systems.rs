//! The page on the five systems: every requirement has its row, every row leads somewhere.
//!
//! `docs/systems.md` says for each requirement where it lives and which test proves it. Here the page is held against the
//! list of ids, the tree and the tests: no id missing, no path dead, no test that is not there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Chapters of requirements: the letter of their ids and how many there are.
const REQUIREMENTS: &[(&str, u32)] = &[
    ("X", 38),
    ("Z", 29),
    ("A", 27),
    ("C", 31),
    ("L", 24),
    ("E", 30),
    ("S", 9),
    ("GX", 6),
    ("GZ", 13),
    ("GA", 9),
    ("GC", 11),
    ("GL", 8),
    ("GE", 10),
    ("R", 45),
];

/// Requirements that wait for the work on dashboards, alert rules, deploy files and the warehouse's set-up.
const LATER: &[&str] = &[
    "X32", "X35", "X36", "Z23", "Z26", "Z27", "Z28", "A20", "A24", "A25", "A26", "C27", "C28", "L16", "L19", "L20",
    "L23", "E25", "E28", "E29", "GC10",
];

/// What the systems keep outside an ELT: the row says what they get.
const OUTSIDE: &[&str] = &["Z29", "A27", "C31", "L24", "E30"];

struct Row {
    id: String,
    place: String,
    proof: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the repository").to_path_buf()
}

/// Rows of the page's tables, in order.
fn rows() -> Vec<Row> {
    let page = fs::read_to_string(root().join("docs/systems.md")).expect("the page is there");
    page.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").map(str::trim).collect();
            let [id, _, place, proof] = cells[..] else { return None };
            let is_id = id.starts_with(|letter: char| letter.is_ascii_uppercase())
                && id.ends_with(|letter: char| letter.is_ascii_digit());
            is_id.then(|| Row { id: id.to_owned(), place: place.to_owned(), proof: proof.to_owned() })
        })
        .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is there").filter_map(Result::ok) {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                files(&path, found);
            }
        } else if ["rs", "py", "yml"].iter().any(|extension| path.extension().is_some_and(|own| own == *extension)) {
            found.push(path);
        }
    }
}

/// Names of all tests: functions of Rust and Python, unit tests and stories of models, data tests with a name.
fn tests() -> BTreeSet<String> {
    let mut found = Vec::new();
    files(&root(), &mut found);
    let mut names = BTreeSet::new();
    for path in found {
        let text = fs::read_to_string(&path).expect("sources are text");
        for line in text.lines().map(str::trim_start) {
            let name =
                ["fn ", "async fn ", "def ", "- name: ", "name: "].iter().find_map(|lead| line.strip_prefix(lead));
            let Some(name) = name else { continue };
            names.insert(name.split(['(', '<', '#']).next().unwrap_or_default().trim().to_owned());
        }
    }
    names
}

#[test]
fn every_requirement_has_one_row_in_order() {
    let wanted: Vec<String> = REQUIREMENTS
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |number| format!("{letter}{number}")))
        .collect();
    let found: Vec<String> = rows().into_iter().map(|row| row.id).collect();
    let missing: Vec<&String> = wanted.iter().filter(|id| !found.contains(id)).collect();
    assert!(missing.is_empty(), "docs/systems.md has no row for {missing:?}");
    assert_eq!(found, wanted, "rows of docs/systems.md stand in another order, or twice");
}

#[test]
fn every_row_leads_to_what_is_there() {
    let tests = tests();
    let ids: BTreeSet<String> = rows().into_iter().map(|row| row.id).collect();
    let mut faults = String::new();
    for Row { id, place, proof } in rows() {
        for path in quoted(&place) {
            if !root().join(path).exists() {
                let _ = writeln!(faults, "{id}: `{path}` is not there");
            }
        }
        for test in quoted(&proof) {
            if !tests.contains(test) {
                let _ = writeln!(faults, "{id}: no test `{test}`");
            }
        }
        let settled = match proof.split(' ').next() {
            Some("later:") => LATER.contains(&id.as_str()),
            Some("outside:") => OUTSIDE.contains(&id.as_str()),
            // Not done yet, and said so.
            Some("open:") => true,
            Some("as") => {
                let named: Vec<&str> = proof["as ".len()..].split(", ").collect();
                for other in named.iter().filter(|other| !ids.contains(**other)) {
                    let _ = writeln!(faults, "{id}: leads to {other}, which has no row");
                }
                !named.is_empty()
            }
            _ => !quoted(&proof).is_empty(),
        };
        if !settled {
            let _ = writeln!(faults, "{id}: no proof");
        }
    }
    assert!(faults.is_empty(), "docs/systems.md:\n{faults}");
}
