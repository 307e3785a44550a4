//! Rows that tests make up: dicts, CSV and SQL, in the YAML or in files under `tests/fixtures/`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use tidemill_project::Location;
use tidemill_project::error::nearest;

use super::files::{files, read_text, stem};
use super::yaml::{Data, Node, Place, Reader};
use crate::error::codes;

/// Keys of a fixture, beside those of whatever it stands in.
pub(super) const FIXTURE_KEYS: [&str; 3] = ["format", "rows", "fixture"];

/// Rows that a test makes up.
#[derive(Clone, Debug, PartialEq)]
pub enum Fixture {
    /// `format: dict` and `format: csv`.
    Rows(Vec<FixtureRow>),
    /// `format: sql`: a query, Jinja and all.
    Sql {
        /// The query.
        text: String,
        /// Where it stands.
        location: Location,
    },
}

/// One row. Which columns it leaves out, and what that means, is the reader's business.
#[derive(Clone, Debug, PartialEq)]
pub struct FixtureRow {
    /// Column and value in the order of writing; values of CSV are texts, empty ones null.
    pub cells: Vec<(String, Json)>,
    /// Whether its values are texts because CSV knows nothing else.
    pub is_csv: bool,
    /// Its line in a file; the start of the whole text for CSV inside of YAML.
    pub location: Location,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Dict,
    Csv,
    Sql,
}

/// Reads `format`, `rows` and `fixture` of a mapping; `None` when it has neither rows nor a file, or after noting a fault.
pub(super) fn read_fixture(reader: &mut Reader, node: &Node, folders: &[PathBuf]) -> Option<Fixture> {
    let words = [("dict", Format::Dict), ("csv", Format::Csv), ("sql", Format::Sql)];
    let format = match node.get("format") {
        Some(value) => Some(reader.word(value, "format", &words)?),
        None => None,
    };
    if let Some(file) = node.get("fixture") {
        return read_file(reader, file, format, folders);
    }
    // A key without value is an empty list here: `rows:`.
    let rows = node.entries().iter().find(|entry| entry.key == "rows").map(|entry| &entry.value)?;
    match (format.unwrap_or(Format::Dict), &rows.data) {
        (_, Data::Scalar(Json::Null)) => Some(Fixture::Rows(Vec::new())),
        (Format::Csv, Data::Scalar(_)) => {
            let text = reader.text(rows, "rows")?;
            read_csv(reader, &text, &|_| rows.place.clone())
        }
        (Format::Sql, Data::Scalar(_)) => {
            Some(Fixture::Sql { text: reader.text(rows, "rows")?, location: rows.place.location() })
        }
        (Format::Dict, Data::List(_)) => read_rows(reader, rows).map(Fixture::Rows),
        (Format::Dict, _) => {
            reader.wrong_type(rows, "rows", "list of mappings, or a text with `format: csv` or `format: sql`");
            None
        }
        (Format::Csv | Format::Sql, _) => {
            reader.wrong_type(rows, "rows", "text");
            None
        }
    }
}

/// Rows as a list of mappings, one a row.
pub(super) fn read_rows(reader: &mut Reader, list: &Node) -> Option<Vec<FixtureRow>> {
    if !matches!(list.data, Data::List(_) | Data::Scalar(Json::Null)) {
        reader.wrong_type(list, "rows", "list of mappings");
        return None;
    }
    list.items()
        .iter()
        .map(|item| {
            if !matches!(item.data, Data::Map(_)) {
                reader.wrong_type(item, "rows", "mapping of columns to values");
                return None;
            }
            let cells = item.entries().iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect();
            Some(FixtureRow { cells, is_csv: false, location: item.place.location() })
        })
        .collect()
}

fn read_file(reader: &mut Reader, name: &Node, format: Option<Format>, folders: &[PathBuf]) -> Option<Fixture> {
    let wanted = reader.text(name, "fixture")?;
    let endings: &[&str] = match format {
        Some(Format::Csv) => &["csv"],
        Some(Format::Sql) => &["sql"],
        Some(Format::Dict) | None => &["csv", "sql"],
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in folders {
        found.extend(files(reader, folder, endings));
    }
    let bare = wanted.rsplit('/').next().unwrap_or(&wanted);
    let bare = bare.strip_suffix(".csv").or_else(|| bare.strip_suffix(".sql")).unwrap_or(bare);
    let Some(path) = found.iter().find(|path| stem(path) == bare) else {
        let names: Vec<String> = found.iter().map(|path| stem(path)).collect();
        let hint = nearest(bare, names.iter().map(String::as_str)).map_or_else(
            || format!("put it into a folder `fixtures` below the test paths, as `{bare}.{}`", endings[0]),
            |near| format!("did you mean `{near}`?"),
        );
        let message = format!("fixture has no file, fixture=`{wanted}`");
        reader.fault_hint(&name.place, codes::FIXTURE, message, hint);
        return None;
    };
    let text = read_text(reader, path)?;
    if is_sql(path) {
        return Some(Fixture::Sql { text, location: Location::new(path, 1, 1) });
    }
    let start = Place::start_of(path);
    read_csv(reader, &text, &|line| Place { line, ..start.clone() })
}

fn is_sql(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "sql")
}

/// `at` tells where a line of the text stands.
fn read_csv(reader: &mut Reader, text: &str, at: &dyn Fn(usize) -> Place) -> Option<Fixture> {
    let mut lines = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let headers: Vec<String> = match lines.headers() {
        Ok(headers) => headers.iter().map(ToOwned::to_owned).collect(),
        Err(error) => {
            reader.fault(&at(1), codes::FIXTURE, format!("CSV has no heading, because=`{error}`"));
            return None;
        }
    };
    let mut rows = Vec::new();
    let mut is_sound = true;
    for record in lines.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(1, |position| usize::try_from(position.line()).unwrap_or(1));
                reader.fault(&at(line), codes::FIXTURE, format!("CSV cannot be read, because=`{error}`"));
                return None;
            }
        };
        let line = record.position().map_or(1, |position| usize::try_from(position.line()).unwrap_or(1));
        if record.len() != headers.len() {
            is_sound = false;
            reader.fault(
                &at(line),
                codes::FIXTURE,
                format!(
                    "CSV row has another number of fields than the heading, row=`{}`, fields=`{}`, columns=`{}`",
                    rows.len() + 1,
                    record.len(),
                    headers.len()
                ),
            );
            continue;
        }
        let value = |text: &str| if text.is_empty() { Json::Null } else { Json::String(text.to_owned()) };
        let cells = headers.iter().cloned().zip(record.iter().map(value)).collect();
        rows.push(FixtureRow { cells, is_csv: true, location: at(line).location() });
    }
    is_sound.then_some(Fixture::Rows(rows))
}

/// A mapping of names to anything; empty when the key is not there.
pub(super) fn read_map(reader: &mut Reader, node: &Node, key: &str) -> Map<String, Json> {
    node.get(key).and_then(|value| reader.object(value, key)).unwrap_or_default()
}
