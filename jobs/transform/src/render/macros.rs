//! The macros of a project, of its packages, and the shipped ones: one template a file, imported by those that need it.
//!
//! dbt's macros see each other across files and packages, whatever the order. So a name is never bound where a macro is
//! written: it is looked up when it is called, first in the caller's package, then in the project, then among the shipped
//! ones. Each macro is defined under a hidden name and handed to [`WRAP`], which registers it and gives it dbt's `return`,
//! `varargs` and `kwargs`, and a frame in the macro stack of an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tidemill_project::{Fault, Location};

use super::scan::{Kind, Piece, first_word, is_word, pieces, words};
use super::translate::translate;
use crate::error::codes;
use crate::project::MacroFile;

/// The function that each macro passes through.
pub(super) const WRAP: &str = "__wrap_macro";
/// What stands in front of a macro's name where it is defined.
const HIDDEN: &str = "__macro_";

/// Macros that come with the engine, by package; those of a project win over `dbt` and `tidemill`.
const SHIPPED: [(&str, &str, &str); 11] = [
    ("tidemill", "tidemill/time.sql", include_str!("shipped/time.sql")),
    ("tidemill", "tidemill/tests.sql", include_str!("shipped/tests.sql")),
    ("dbt", "dbt/dates.sql", include_str!("shipped/dbt_dates.sql")),
    ("dbt", "dbt/types.sql", include_str!("shipped/dbt_types.sql")),
    ("dbt", "dbt/texts.sql", include_str!("shipped/dbt_texts.sql")),
    ("dbt", "dbt/project.sql", include_str!("shipped/dbt_project.sql")),
    ("dbt_utils", "dbt_utils/keys.sql", include_str!("shipped/utils_keys.sql")),
    ("dbt_utils", "dbt_utils/relations.sql", include_str!("shipped/utils_relations.sql")),
    ("dbt_utils", "dbt_utils/series.sql", include_str!("shipped/utils_series.sql")),
    ("dbt_utils", "dbt_utils/tests.sql", include_str!("shipped/utils_tests.sql")),
    ("dbt_date", "dbt_date/dates.sql", include_str!("shipped/date_dates.sql")),
];

/// Packages of others that come with the engine; one that the project brings along replaces ours.
pub(super) const STAND_INS: [&str; 2] = ["dbt_utils", "dbt_date"];

/// Packages that come with the engine, in the order in which an unqualified name is looked up.
pub(super) const SHIPPED_PACKAGES: [&str; 3] = ["tidemill", "dbt", "dbt_utils"];

/// All macro files, translated.
#[derive(Clone, Debug, Default)]
pub(super) struct Macros {
    pub(super) files: Vec<MacroSource>,
    definitions: Vec<Definition>,
    /// Name, and name without what dispatch puts in front of it -> files.
    by_word: BTreeMap<String, Vec<usize>>,
}

/// One file as a template.
#[derive(Clone, Debug)]
pub(super) struct MacroSource {
    /// The template's name.
    pub(super) name: String,
    path: PathBuf,
    /// The translation, registrations at the end of the last line.
    pub(super) text: String,
    /// Files whose macros it may call, itself among them.
    needs: BTreeSet<usize>,
    /// Whether a macro in it asks about tables.
    asks: bool,
}

#[derive(Clone, Debug)]
struct Definition {
    name: String,
    package: String,
    line: usize,
    file: usize,
    shipped: bool,
}

/// What a macro takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Parameters {
    names: Vec<String>,
    /// It reads `varargs`.
    varargs: bool,
    /// It reads `kwargs`.
    kwargs: bool,
}

impl Macros {
    /// Reads all macros. Two of one name in one package are faults.
    pub(super) fn build(files: &[MacroFile]) -> (Self, Vec<Fault>) {
        let mut macros = Self::default();
        let brought: BTreeSet<&str> = files.iter().map(|file| file.package.as_str()).collect();
        for (package, path, text) in SHIPPED {
            // A project may be called like one of ours; its macros then stand beside them, and win.
            if !STAND_INS.contains(&package) || !brought.contains(package) {
                macros.add(package, Path::new(path), text, true);
            }
        }
        for file in files {
            macros.add(&file.package, &file.path, &file.text, false);
        }
        let mut faults = Vec::new();
        let mut first: BTreeMap<(&str, &str), &Definition> = BTreeMap::new();
        for definition in macros.definitions.iter().filter(|found| !found.shipped) {
            if let Some(other) = first.insert((&definition.package, &definition.name), definition) {
                let message = format!(
                    "two macros have one name, name=`{}`, first=`{}`",
                    definition.name,
                    macros.location(other.file, other.line)
                );
                faults.push(
                    Fault::new(message).at(macros.location(definition.file, definition.line)).code(codes::REPEATED),
                );
            }
        }
        macros.link();
        (macros, faults)
    }

    fn add(&mut self, package: &str, path: &Path, text: &str, shipped: bool) {
        let file = self.files.len();
        let (bare, found) = define(text);
        let mut text = translate(&bare).text;
        let text_end = text.trim_end_matches(['\n', '\r']).len();
        text.truncate(text_end);
        for (name, line, parameters) in found {
            // Only a macro that reads them is told what it was given beyond its parameters.
            let open = if parameters.varargs || parameters.kwargs {
                let names: Vec<String> = parameters.names.iter().map(|name| format!("'{name}'")).collect();
                format!(", [[{}], {}, {}]", names.join(", "), parameters.varargs, parameters.kwargs)
            } else {
                String::new()
            };
            text.push_str(&format!("{{% set _w = {WRAP}('{package}', '{name}', {HIDDEN}{name}{open}) %}}"));
            self.definitions.push(Definition { name, package: package.to_owned(), line, file, shipped });
        }
        let name = path.display().to_string();
        let asks = asks(&text);
        self.files.push(MacroSource { name, path: path.to_path_buf(), text, needs: BTreeSet::new(), asks });
    }

    fn link(&mut self) {
        for definition in &self.definitions {
            let mut words = vec![definition.name.as_str()];
            if let Some((_, rest)) = definition.name.split_once("__") {
                words.push(rest);
            }
            for word in words {
                let files = self.by_word.entry(word.to_owned()).or_default();
                if !files.contains(&definition.file) {
                    files.push(definition.file);
                }
            }
        }
        let direct: Vec<BTreeSet<usize>> = self.files.iter().map(|file| self.files_for(&file.text)).collect();
        for file in 0..self.files.len() {
            let mut needs = BTreeSet::from([file]);
            let mut waiting = vec![file];
            while let Some(at) = waiting.pop() {
                waiting.extend(direct[at].iter().filter(|next| needs.insert(**next)));
            }
            self.files[file].needs = needs;
        }
    }

    fn files_for(&self, text: &str) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        words(text, |word| {
            if let Some(files) = self.by_word.get(word) {
                found.extend(files);
            }
        });
        found
    }

    /// What is put in front of a template so that the macros which it may call are registered; it stays on one line.
    pub(super) fn imports(&self, text: &str) -> String {
        let mut needs = BTreeSet::new();
        for file in self.files_for(text) {
            needs.extend(&self.files[file].needs);
        }
        self.import(needs)
    }

    /// The same for all macros, for names that are put together while a template runs.
    pub(super) fn import_all(&self) -> String {
        self.import(0..self.files.len())
    }

    fn import(&self, files: impl IntoIterator<Item = usize>) -> String {
        let imports =
            files.into_iter().map(|file| format!("{{% import '{}' as _m %}}", escaped(&self.files[file].name)));
        imports.collect::<Vec<_>>().concat()
    }

    /// Whether a template, or a file that it may need, asks about tables.
    pub(super) fn asks(&self, text: &str) -> bool {
        let needed = || self.files_for(text).into_iter().flat_map(|file| self.files[file].needs.iter());
        asks(text) || needed().any(|file| self.files[*file].asks)
    }

    /// All names, with repetitions.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.definitions.iter().map(|definition| definition.name.as_str())
    }

    /// Packages and names.
    pub(super) fn qualified(&self) -> impl Iterator<Item = (&str, &str)> {
        self.definitions.iter().map(|definition| (definition.package.as_str(), definition.name.as_str()))
    }

    /// The package of a macro that is looked for from the project: its own, then packages, then the shipped ones.
    pub(super) fn package_of(&self, name: &str, project: &str) -> Option<&str> {
        let mut found: Vec<&Definition> =
            self.definitions.iter().filter(|definition| definition.name == name).collect();
        found.sort_by_key(|definition| (definition.package != project, definition.shipped));
        found.first().map(|definition| definition.package.as_str())
    }

    /// Whether a package has a macro of that name.
    pub(super) fn has(&self, package: &str, name: &str) -> bool {
        self.qualified().any(|known| known == (package, name))
    }

    /// The text that defines a macro, and its name there.
    pub(super) fn definition_of(&self, package: &str, name: &str) -> Option<(&str, String)> {
        let found = self.definitions.iter().rev().find(|found| found.package == package && found.name == name)?;
        Some((self.files[found.file].text.as_str(), format!("{HIDDEN}{name}")))
    }

    /// Whether a macro is the one that comes with the engine.
    pub(super) fn is_shipped(&self, package: &str, name: &str) -> bool {
        self.definitions.iter().any(|found| found.package == package && found.name == name && found.shipped)
    }

    /// Names of the generic tests: macros `test_…` without their prefix.
    pub(super) fn tests(&self) -> impl Iterator<Item = &str> {
        self.names().filter_map(|name| name.strip_prefix("test_"))
    }

    /// The file of a template's name, and the macro that one of its lines lies in.
    pub(super) fn place(&self, template: &str, line: usize) -> Option<(Location, Option<&str>)> {
        let file = self.files.iter().position(|file| file.name == template)?;
        let inside = self.definitions.iter().rev().find(|found| found.file == file && found.line <= line);
        Some((self.location(file, line), inside.map(|found| found.name.as_str())))
    }

    /// The text of a template's name, as it is rendered.
    pub(super) fn text_of(&self, template: &str) -> Option<&str> {
        self.files.iter().find(|file| file.name == template).map(|file| file.text.as_str())
    }

    fn location(&self, file: usize, line: usize) -> Location {
        Location::new(&self.files[file].path, line, 1)
    }
}

/// Whether a text asks about tables by itself.
fn asks(text: &str) -> bool {
    const QUESTIONS: [&str; 7] = [
        "run_query",
        "statement",
        "get_columns_in_relation",
        "get_relation",
        "load_relation",
        "load_cached_relation",
        "get_columns_in_query",
    ];
    let mut found = false;
    words(text, |word| found |= QUESTIONS.contains(&word));
    found
}

fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('\'', "\\'")
}

/// A macro's name, the line that it begins in, what it takes.
type Found = (String, usize, Parameters);

/// dbt's blocks in words that Jinja knows, line by line the same: `{% test x(…) %}` is the macro `test_x`. What is no macro
/// (materializations, docs, snapshots) leaves blank lines.
fn define(text: &str) -> (String, Vec<Found>) {
    let pieces = pieces(text);
    let mut bare = String::with_capacity(text.len() + 128);
    let mut found = Vec::new();
    let mut blank_until: Option<&str> = None;
    for (index, piece) in pieces.iter().enumerate() {
        let part = &text[piece.start..piece.end];
        let word = if piece.kind == Kind::Block { first_word(part) } else { "" };
        if let Some(end) = blank_until {
            bare.push_str(&"\n".repeat(part.matches('\n').count()));
            if word == end {
                blank_until = None;
            }
            continue;
        }
        match word {
            "macro" | "test" | "data_test" => {
                let line = text[..piece.start].matches('\n').count() + 1;
                match definition(part, word, &pieces[index + 1..], text) {
                    Some((rewritten, name, parameters)) => {
                        bare.push_str(&rewritten);
                        found.push((name, line, parameters));
                    }
                    None => bare.push_str(part),
                }
            }
            "endtest" | "enddata_test" => bare.push_str(&part.replacen(word, "endmacro", 1)),
            "materialization" | "docs" | "snapshot" => {
                blank_until = Some(match word {
                    "materialization" => "endmaterialization",
                    "docs" => "enddocs",
                    _ => "endsnapshot",
                });
                bare.push_str(&"\n".repeat(part.matches('\n').count()));
            }
            _ => bare.push_str(part),
        }
    }
    (bare, found)
}

fn definition(tag: &str, word: &str, rest: &[Piece], text: &str) -> Option<(String, String, Parameters)> {
    let word_at = tag.find(word)?;
    let after = &tag[word_at + word.len()..];
    let name_at = after.find(is_word)?;
    let name_end = name_at + after[name_at..].find(|letter| !is_word(letter))?;
    let open = name_end + after[name_end..].find('(')?;
    let close = open + matching(&after[open..])?;
    let given = &after[name_at..name_end];
    let name = if word == "macro" { given.to_owned() } else { format!("test_{given}") };
    let inner = &after[open + 1..close];
    let mut parameters = Parameters { names: parameter_names(inner), ..Parameters::default() };
    for piece in rest {
        let part = &text[piece.start..piece.end];
        match piece.kind {
            Kind::Block if matches!(first_word(part), "endmacro" | "endtest" | "enddata_test") => break,
            Kind::Block | Kind::Output => part.split(|letter| !is_word(letter)).for_each(|word| {
                parameters.varargs |= word == "varargs";
                parameters.kwargs |= word == "kwargs";
            }),
            _ => {}
        }
    }
    let mut list = inner.trim_end().trim_end_matches(',').to_owned();
    for (wanted, extra) in [(parameters.varargs, "varargs=[]"), (parameters.kwargs, "kwargs={}")] {
        if wanted && !parameters.names.iter().any(|name| extra.starts_with(name.as_str())) {
            list = if list.trim().is_empty() { extra.to_owned() } else { format!("{list}, {extra}") };
        }
    }
    let rewritten = format!("{}macro {HIDDEN}{name}({list}){}", &tag[..word_at], &after[close + 1..]);
    // Whatever stood between the words was spacing, whose line breaks count.
    let lost = tag.matches('\n').count().saturating_sub(rewritten.matches('\n').count());
    Some((format!("{rewritten}{}", "\n".repeat(lost)), name, parameters))
}

/// The closing bracket that belongs to the first letter.
fn matching(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    for (index, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), _) => {
                if letter == open {
                    quote = None;
                }
            }
            (None, '\'' | '"') => quote = Some(letter),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => {
                depth -= 1;
                if depth == 0 {
                    return Some(index);
                }
            }
            (None, _) => {}
        }
    }
    None
}

fn parameter_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0_usize;
    let mut quote = None;
    let mut start = 0;
    let ends = list.char_indices().chain(std::iter::once((list.len(), ',')));
    for (index, letter) in ends {
        match (quote, letter) {
            (Some(open), _) => {
                if letter == open {
                    quote = None;
                }
            }
            (None, '\'' | '"') => quote = Some(letter),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                let name = list[start..index].split('=').next().unwrap_or_default().trim();
                if !name.is_empty() {
                    names.push(name.to_owned());
                }
                start = index + 1;
            }
            (None, _) => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> MacroFile {
        MacroFile { path: PathBuf::from(path), text: text.to_owned(), package: "shop".to_owned() }
    }

    #[test]
    fn lines_lead_back_to_their_files_and_macros() {
        let files = [
            file("macros/a.sql", "{# {% macro gone() %} #}\n{% macro a() %}\n1\n{% endmacro %}"),
            file("macros/b.sql", "{% docs x %}\n{% enddocs %}{% test b(model) %}\nselect 1\n{% endtest %}\n"),
        ];
        let (macros, faults) = Macros::build(&files);
        assert_eq!(faults, []);
        assert_eq!(macros.place("macros/b.sql", 3), Some((Location::new("macros/b.sql", 3, 1), Some("test_b"))));
        assert_eq!(macros.place("macros/a.sql", 3).unwrap().1, Some("a"));
        assert!(macros.tests().any(|name| name == "b"));
        assert!(!macros.names().any(|name| name == "gone"));
    }

    #[test]
    fn a_second_macro_of_one_name_is_a_fault_unless_it_replaces_a_shipped_one() {
        let text = "{% macro tumble_start() %}{% endmacro %}";
        let (_, faults) = Macros::build(&[file("macros/a.sql", text)]);
        assert_eq!(faults, []);
        let (_, faults) = Macros::build(&[file("macros/a.sql", text), file("macros/b.sql", text)]);
        assert_eq!(faults[0].message, "two macros have one name, name=`tumble_start`, first=`macros/a.sql:1:1`");
        let other = MacroFile { package: "other".to_owned(), ..file("macros/b.sql", text) };
        let (macros, faults) = Macros::build(&[file("macros/a.sql", text), other]);
        assert_eq!(faults, []);
        assert_eq!(macros.package_of("tumble_start", "shop"), Some("shop"));
    }

    #[test]
    fn only_the_files_that_a_template_may_need_are_imported() {
        let files = [
            file("a.sql", "{% macro a() %}{{ adapter.dispatch('b')() }}{% endmacro %}"),
            file("b.sql", "{% macro default__b() %}{% endmacro %}"),
            file("c.sql", "{% macro c() %}{% endmacro %}"),
        ];
        let (macros, _) = Macros::build(&files);
        assert_eq!(macros.imports("select c {{ a() }}"), "{% import 'a.sql' as _m %}{% import 'b.sql' as _m %}");
    }

    #[test]
    fn parameters_are_read_with_their_defaults() {
        let text = "{% macro m(a, b=['x, y', f(1, 2)],\n c=none) %}{{ varargs }}{% endmacro %}";
        let (bare, found) = define(text);
        assert_eq!(
            found[0].2,
            Parameters { names: vec!["a".into(), "b".into(), "c".into()], varargs: true, kwargs: false }
        );
        assert!(bare.starts_with("{% macro __macro_m(a, b=['x, y', f(1, 2)],\n c=none, varargs=[]) %}"), "{bare}");
    }
}
