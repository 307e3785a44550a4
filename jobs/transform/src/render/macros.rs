//! All macros of a project, and the shipped ones, as one template that models import.
//!
//! dbt's macros see each other across files. Jinja's imports cannot express that without circles, so the files are laid one
//! behind the other; a table leads from a line of the whole back to the file. At the end each macro is handed to
//! [`WRAP`], which gives it dbt's `return`, a frame in the macro stack of an error, and makes it visible to all.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use regex::Regex;
use tidemill_project::{Fault, Location};

use crate::error::codes;
use crate::project::MacroFile;

/// Name of the template that holds all macros.
pub(super) const PRELUDE: &str = "macros";

/// The function that each macro passes through.
pub(super) const WRAP: &str = "__wrap_macro";

/// What is put in front of a template so that it sees the macros. It stays on the template's first line.
pub(super) const IMPORT: &str = "{% import 'macros' as __macros %}";

/// Macros that come with the engine; a project's macro of the same name wins.
const SHIPPED: [(&str, &str); 3] = [
    ("tidemill/time.sql", include_str!("shipped/time.sql")),
    ("tidemill/tests.sql", include_str!("shipped/tests.sql")),
    ("tidemill/utils.sql", include_str!("shipped/utils.sql")),
];

static MACRO: LazyLock<Regex> = LazyLock::new(|| compile(r"\{%-?\s*macro\s+([A-Za-z_]\w*)\s*\("));
static TEST: LazyLock<Regex> = LazyLock::new(|| compile(r"\{%(-?)\s*(?:data_)?test\s+([A-Za-z_]\w*)\s*\("));
static END_TEST: LazyLock<Regex> = LazyLock::new(|| compile(r"\{%(-?)\s*end(?:data_)?test\s*(-?)%\}"));
static FOREIGN: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"(?s)\{%-?\s*materialization\b.*?\{%-?\s*endmaterialization\s*-?%\}|\{%-?\s*docs\b.*?\{%-?\s*enddocs\s*-?%\}|\{%-?\s*snapshot\b.*?\{%-?\s*endsnapshot\s*-?%\}",
    )
});
static COMMENT: LazyLock<Regex> = LazyLock::new(|| compile(r"(?s)\{#.*?#\}"));

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the expression is a constant")
}

/// The template of all macros and the way back from its lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Prelude {
    pub(super) text: String,
    /// Names, in the order of definition, without repetitions.
    pub(super) names: Vec<String>,
    files: Vec<Part>,
    definitions: Vec<Definition>,
}

#[derive(Clone, Debug)]
struct Part {
    path: PathBuf,
    first_line: usize,
}

#[derive(Clone, Debug)]
struct Definition {
    name: String,
    line: usize,
    part: usize,
}

impl Prelude {
    /// Lays the shipped macros and those of the project one behind the other.
    ///
    /// Each of `files` must have been found to be valid by itself; two macros of one name in them are faults.
    pub(super) fn build(files: &[MacroFile]) -> (Self, Vec<Fault>) {
        let mut prelude = Self::default();
        for (name, text) in SHIPPED {
            prelude.add(PathBuf::from(name), text);
        }
        for file in files {
            prelude.add(file.path.clone(), &file.text);
        }
        let mut faults = Vec::new();
        for (index, definition) in prelude.definitions.iter().enumerate() {
            if definition.part < SHIPPED.len() {
                continue;
            }
            let earlier = prelude.definitions[..index]
                .iter()
                .find(|other| other.part >= SHIPPED.len() && other.name == definition.name);
            if let Some(other) = earlier {
                let first = prelude.location(other.line);
                faults.push(
                    Fault::new(format!("two macros have one name, name=`{}`, first=`{first}`", definition.name))
                        .at(prelude.location(definition.line))
                        .code(codes::REPEATED),
                );
            }
        }
        for definition in &prelude.definitions {
            if !prelude.names.contains(&definition.name) {
                prelude.names.push(definition.name.clone());
            }
        }
        for name in &prelude.names {
            // Writing to a string cannot fail.
            let _ = write!(prelude.text, "{{% set {name} = {WRAP}('{name}', {name}) %}}");
        }
        (prelude, faults)
    }

    fn add(&mut self, path: PathBuf, text: &str) {
        let text = translate(text);
        let first_line = self.text.lines().count() + 1;
        let part = self.files.len();
        let bare = blank_out(&COMMENT, &text);
        for found in MACRO.captures_iter(&bare) {
            let start = found.get(0).map_or(0, |whole| whole.start());
            let line = first_line + bare[..start].matches('\n').count();
            self.definitions.push(Definition { name: found[1].to_owned(), line, part });
        }
        self.files.push(Part { path, first_line });
        self.text.push_str(&text);
        if !text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// The file and line of a line of the whole.
    pub(super) fn location(&self, line: usize) -> Location {
        match self.files.iter().rev().find(|part| part.first_line <= line) {
            Some(part) => Location::new(&part.path, line - part.first_line + 1, 1),
            None => Location::new("", 0, 0),
        }
    }

    /// The macro that a line of the whole lies in.
    pub(super) fn macro_at(&self, line: usize) -> Option<&str> {
        self.definitions
            .iter()
            .rev()
            .find(|definition| definition.line <= line)
            .map(|definition| definition.name.as_str())
    }

    /// Whether a macro is the one that comes with the engine.
    pub(super) fn is_shipped(&self, name: &str) -> bool {
        self.definitions.iter().rev().find(|found| found.name == name).is_some_and(|found| found.part < SHIPPED.len())
    }

    /// Names of the generic tests: macros `test_…` without their prefix.
    pub(super) fn tests(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(|name| name.strip_prefix("test_"))
    }
}

/// dbt's blocks in words that minijinja knows, line by line the same: `{% test x(…) %}` is the macro `test_x`.
/// Materializations, docs and snapshots are not macros and leave blank lines.
pub(super) fn translate(text: &str) -> String {
    let text = blank_out(&FOREIGN, text);
    let text = TEST.replace_all(&text, "{%$1 macro test_$2(");
    END_TEST.replace_all(&text, "{%$1 endmacro $2%}").into_owned()
}

/// Takes out what matches and leaves its line breaks.
fn blank_out(pattern: &Regex, text: &str) -> String {
    pattern.replace_all(text, |found: &regex::Captures<'_>| "\n".repeat(found[0].matches('\n').count())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> MacroFile {
        MacroFile { path: PathBuf::from(path), text: text.to_owned() }
    }

    #[test]
    fn lines_lead_back_to_their_files() {
        let files = [
            file("macros/a.sql", "{# {% macro gone() %} #}\n{% macro a() %}\n1\n{% endmacro %}"),
            file("macros/b.sql", "{% test b(model) %}\nselect 1\n{% endtest %}\n"),
        ];
        let (prelude, faults) = Prelude::build(&files);
        assert_eq!(faults, []);
        let line = prelude.definitions.iter().find(|found| found.name == "test_b").unwrap().line;
        assert_eq!(prelude.location(line + 1), Location::new("macros/b.sql", 2, 1));
        assert_eq!(prelude.macro_at(line - 2), Some("a"));
        assert!(prelude.tests().any(|name| name == "b"));
        assert!(!prelude.names.iter().any(|name| name == "gone"));
    }

    #[test]
    fn a_second_macro_of_one_name_is_a_fault_unless_it_replaces_a_shipped_one() {
        let text = "{% macro tumble_start() %}{% endmacro %}";
        let (_, faults) = Prelude::build(&[file("macros/a.sql", text)]);
        assert_eq!(faults, []);
        let (_, faults) = Prelude::build(&[file("macros/a.sql", text), file("macros/b.sql", text)]);
        assert_eq!(faults[0].message, "two macros have one name, name=`tumble_start`, first=`macros/a.sql:1:1`");
    }
}
