//! Every key of `tidemill.toml` and every option of a contract, in one table each: the readers take their lists of known
//! keys from here, and so does the reference page. A key that is not here does not exist.

mod contract;
mod settings;

use contract::CONTRACT;
use settings::SETTINGS;

/// What there is to say about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// Dotted path. `<name>` stands for a name of the user's choice, `[]` for an item of a list.
    pub key: &'static str,
    /// What the value may be.
    pub type_name: &'static str,
    /// What holds when the key is not there; `required` when it must be.
    pub default: &'static str,
    /// What it does, and its price.
    pub description: &'static str,
    /// The key with a value, as a line of its file.
    pub example: &'static str,
}

const fn doc(
    key: &'static str,
    type_name: &'static str,
    default: &'static str,
    example: &'static str,
    description: &'static str,
) -> KeyDoc {
    KeyDoc { key, type_name, default, description, example }
}

/// The keys of `tidemill.toml`, in the order of the page.
#[must_use]
pub fn settings_reference() -> &'static [KeyDoc] {
    SETTINGS
}

/// The options of a contract: `config.meta.tidemill` of a source or a table, and of a column (`columns[].…`).
#[must_use]
pub fn contract_reference() -> &'static [KeyDoc] {
    CONTRACT
}

/// The keys that may stand in a section of `tidemill.toml`; the empty name is the top of the file.
pub(crate) fn settings_keys(section: &str) -> Vec<&'static str> {
    known_keys(SETTINGS, section)
}

/// The keys that may stand in a part of a contract's options; the empty name is the table's own.
pub(crate) fn contract_keys(section: &str) -> Vec<&'static str> {
    known_keys(CONTRACT, section)
}

fn known_keys(table: &'static [KeyDoc], section: &str) -> Vec<&'static str> {
    let mut keys: Vec<&'static str> = Vec::new();
    for doc in table {
        let inside = if section.is_empty() {
            Some(doc.key)
        } else {
            doc.key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'))
        };
        let Some(key) = inside.and_then(|rest| rest.split('.').next()) else { continue };
        // `topics[].name` declares what is inside of `topics`, which has a line of its own; `<name>` is no key.
        if !key.ends_with("[]") && !key.starts_with('<') && !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Renders the reference page, `docs/configuration.md`.
#[must_use]
pub fn render_markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n## Keys of `tidemill.toml`\n\n");
    push_table(&mut page, SETTINGS);
    page.push_str(CONTRACT_INTRODUCTION);
    page.push_str("\n### Options of a source or a table\n\n");
    let (columns, tables): (Vec<KeyDoc>, Vec<KeyDoc>) =
        CONTRACT.iter().partition(|doc| doc.key.starts_with("columns[]"));
    push_table(&mut page, &tables);
    page.push_str("\n### Options of a column\n\n");
    push_table(&mut page, &columns);
    page.push_str(DATA_TYPES);
    page
}

/// Whether a default is what one would write into the file.
fn is_value(default: &str) -> bool {
    default.starts_with(|first: char| first.is_ascii_digit()) || VALUES.contains(&default)
}

fn push_table(page: &mut String, docs: &[KeyDoc]) {
    page.push_str("| key | type | default | what it does | example |\n| --- | --- | --- | --- | --- |\n");
    let cell = |text: &str| text.replace('|', "\\|");
    for doc in docs {
        // A value stands as code, a sentence does not.
        let default = if is_value(doc.default) { format!("`{}`", doc.default) } else { doc.default.to_owned() };
        let cells = [
            format!("`{}`", doc.key),
            cell(doc.type_name),
            cell(&default),
            cell(doc.description),
            format!("`{}`", cell(doc.example)),
        ];
        page.push_str("| ");
        page.push_str(&cells.join(" | "));
        page.push_str(" |\n");
    }
}

/// Defaults that are words of the file's own.
const VALUES: [&str; 9] = ["earliest", "stop", "local", "target/tidemill/lake", "true", "false", "json", "day", "keep"];

const INTRODUCTION: &str = include_str!("reference/introduction.md");
const CONTRACT_INTRODUCTION: &str = include_str!("reference/contracts.md");
const DATA_TYPES: &str = include_str!("reference/data_types.md");

#[cfg(test)]
mod tests;
