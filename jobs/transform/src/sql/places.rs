//! What is wrong with SQL, in a person's words, and where it stands.

use datafusion::common::{DataFusionError, SchemaError};
use tidemill_project::error::nearest;

/// A fault of planning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// In lower case, variables last.
    pub message: String,
    /// The way out, when there is one to see.
    pub hint: Option<String>,
    /// Line and column in the SQL, both from 1.
    pub at: Option<(usize, usize)>,
    /// The word that it is about, for finding the place where the planner does not tell it.
    pub word: Option<String>,
    /// The table that is not there, as it was named.
    pub table: Option<String>,
}

/// Names of types, for suggestions.
const TYPES: [&str; 17] = [
    "bigint",
    "boolean",
    "char",
    "date",
    "decimal",
    "double",
    "float",
    "int",
    "integer",
    "interval",
    "numeric",
    "real",
    "smallint",
    "string",
    "text",
    "timestamp",
    "varchar",
];

/// Explains an error of the planner.
pub(crate) fn trouble(error: &DataFusionError) -> Trouble {
    let span = error
        .diagnostic()
        .and_then(|diagnostic| diagnostic.span.or_else(|| diagnostic.notes.iter().find_map(|note| note.span)));
    let at =
        span.and_then(|span| Some((usize::try_from(span.start.line).ok()?, usize::try_from(span.start.column).ok()?)));
    match error.find_root() {
        DataFusionError::SchemaError(schema, _) => {
            let mut found = schema_trouble(schema);
            found.at = found.at.or(at);
            found
        }
        DataFusionError::SQL(error, _) => {
            let text = error.to_string();
            let text = text.trim_start_matches("sql parser error: ");
            let (message, place) = match text.rsplit_once(" at Line: ") {
                Some((message, place)) => (message, place_of(place)),
                None => (text, None),
            };
            let message = format!("SQL cannot be parsed: {}", lower_first(message));
            Trouble { message, at: place.or(at), ..Trouble::default() }
        }
        root => {
            let text = plain(&root.to_string());
            let word = quoted(&text);
            let mut found = Trouble { message: lower_first(&text), at, word, ..Trouble::default() };
            if let Some(table) = text.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found")) {
                let table = table.trim_start_matches("datafusion.").trim_start_matches("public.");
                found.message = format!("no table of that name, table=`{table}`");
                found.word = Some(table.to_owned());
                found.table = Some(table.to_owned());
            } else if let Some((message, rest)) = found.message.clone().split_once(" No function matches") {
                message.trim().clone_into(&mut found.message);
                found.hint = rest.split("Candidate functions:").nth(1).map(|known| {
                    let known: Vec<&str> = known.split_whitespace().collect();
                    format!("it takes: {}", known.join(" "))
                });
            } else if let Some((message, near)) = found.message.clone().split_once("Did you mean '") {
                message.trim().trim_end_matches(['.', '\n']).clone_into(&mut found.message);
                // The planner names the nearest of all functions, however far it is.
                let near = near
                    .split('\'')
                    .next()
                    .filter(|near| found.word.as_deref().is_some_and(|word| nearest(word, [*near]).is_some()));
                found.hint = near.map(|near| format!("did you mean `{near}`?"));
            } else if let Some(data_type) = text.strip_prefix("Unsupported SQL type ") {
                let data_type = data_type.trim().to_ascii_lowercase();
                found.hint = nearest(&data_type, TYPES).map(|near| format!("did you mean `{near}`?"));
                found.message = format!("no type of that name, type=`{data_type}`");
                found.word = Some(data_type);
            }
            found
        }
    }
}

fn schema_trouble(error: &SchemaError) -> Trouble {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut names: Vec<&str> = Vec::new();
            for valid in valid_fields {
                let same_table = field.relation.is_none() || valid.relation == field.relation;
                if same_table && !names.contains(&valid.name.as_str()) {
                    names.push(&valid.name);
                }
            }
            let hint = match nearest(&field.name, names.iter().copied()) {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None if names.is_empty() => None,
                None => Some(format!("there are: {}", names.join(", "))),
            };
            let table = field.relation.as_ref().map(|table| format!(", table=`{table}`")).unwrap_or_default();
            Trouble {
                message: format!("no column of that name, column=`{}`{table}", field.name),
                hint,
                at: start_of(field.spans()),
                word: Some(field.name.clone()),
                ..Trouble::default()
            }
        }
        SchemaError::AmbiguousReference { field } => Trouble {
            message: format!("the column stands in more than one table, column=`{}`", field.name),
            hint: Some(format!("put the table's name in front: `….{}`", field.name)),
            at: start_of(field.spans()),
            word: Some(field.name.clone()),
            ..Trouble::default()
        },
        SchemaError::DuplicateQualifiedField { qualifier, name } => Trouble {
            message: format!("two columns have one name, column=`{name}`, table=`{qualifier}`"),
            hint: Some("give one of them another alias".to_owned()),
            word: Some(name.clone()),
            ..Trouble::default()
        },
        SchemaError::DuplicateUnqualifiedField { name } => Trouble {
            message: format!("two columns have one name, column=`{name}`"),
            hint: Some("give one of them another alias".to_owned()),
            word: Some(name.clone()),
            ..Trouble::default()
        },
    }
}

fn start_of(spans: &datafusion::common::Spans) -> Option<(usize, usize)> {
    let start = spans.first()?.start;
    Some((usize::try_from(start.line).ok()?, usize::try_from(start.column).ok()?))
}

/// `3, Column: 7`.
fn place_of(text: &str) -> Option<(usize, usize)> {
    let (line, column) = text.split_once(", Column: ")?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((digits(line)?, digits(column)?))
}

/// Without the words that DataFusion puts around everything.
fn plain(text: &str) -> String {
    let mut text = text.trim();
    // Of a function that fits nothing it tells one error for each way to call it, and takes that for a fault of its own.
    if let Some((_, errors)) = text.split_once("failed to match any signature, errors: ") {
        let (errors, candidates) = errors.split_once(" No function matches").unwrap_or((errors, ""));
        let first = errors.trim_start_matches("Error during planning: ").split(",Error during planning").next();
        let first = first.unwrap_or_default().split("\nThis issue").next().unwrap_or_default();
        let rest = if candidates.is_empty() { String::new() } else { format!(" No function matches{candidates}") };
        return format!("{}{rest}", first.trim());
    }
    for prefix in [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Schema error: ",
        "External error: ",
        "Invalid function '",
    ] {
        if let Some(rest) = text.strip_prefix(prefix) {
            if prefix.starts_with("Invalid function") {
                let name = rest.split('\'').next().unwrap_or_default();
                let tail = rest.split_once('\'').map_or("", |(_, tail)| tail).trim_start_matches('.');
                return format!("no function of that name, function=`{name}`{tail}");
            }
            text = rest;
        }
    }
    text.to_owned()
}

/// What stands in the first pair of quotes.
fn quoted(text: &str) -> Option<String> {
    let open = text.find(['\'', '`'])?;
    let quote = text[open..].chars().next()?;
    let inside = &text[open + 1..];
    Some(inside[..inside.find(quote)?].to_owned()).filter(|word| !word.is_empty())
}

fn lower_first(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let mut letters = text.chars();
    match letters.next() {
        // An acronym, or a quoted name, stays.
        Some(first) if first.is_uppercase() && letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().collect::<String>() + letters.as_str()
        }
        _ => text.to_owned(),
    }
}
