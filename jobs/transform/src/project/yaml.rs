//! YAML as a tree in which every value knows its place, and a reader that notes faults instead of stopping.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Number, Value as Json};
use tidemill_project::error::nearest;
use tidemill_project::{Fault, Location};

use crate::error::codes;

/// Where a value stands. Many share one file's name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) file: Arc<Path>,
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    pub(super) fn start_of(file: &Path) -> Self {
        Self { file: Arc::from(file), line: 1, column: 1 }
    }

    pub(super) fn location(&self) -> Location {
        Location::new(&*self.file, self.line, self.column)
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) data: Data,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    /// Null, boolean, number or text.
    Scalar(Json),
    /// In the file's order.
    List(Vec<Node>),
    /// In the file's order; keys are unique.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) value: Node,
}

impl Node {
    /// Parses the first document of a file; an empty file gives a null.
    pub(super) fn parse(file: &Path, text: &str) -> Result<Self, Fault> {
        tidemill_project::yaml::check_size(file, text).map_err(|fault| fault.code(codes::YAML))?;
        let file: Arc<Path> = Arc::from(file);
        let documents = MarkedYaml::load_from_str(text).map_err(|error| {
            let mark = error.marker();
            Fault::new(format!("file is not YAML, because=`{}`", error.info()))
                .at(Location::new(&*file, mark.line(), mark.col() + 1))
                .code(codes::YAML)
        })?;
        match documents.into_iter().next() {
            Some(document) => Self::convert(&file, document),
            None => Ok(Self { place: Place { file, line: 1, column: 1 }, data: Data::Scalar(Json::Null) }),
        }
    }

    fn convert(file: &Arc<Path>, yaml: MarkedYaml<'_>) -> Result<Self, Fault> {
        let place = Place { file: Arc::clone(file), line: yaml.span.start.line(), column: yaml.span.start.col() + 1 };
        let data = match yaml.data {
            YamlData::Value(scalar) => Data::Scalar(match scalar {
                Scalar::Null => Json::Null,
                Scalar::Boolean(value) => Json::Bool(value),
                Scalar::Integer(value) => Json::from(value),
                Scalar::FloatingPoint(value) => {
                    Number::from_f64(*value).map_or_else(|| Json::String(value.to_string()), Json::Number)
                }
                Scalar::String(text) => Json::String(text.into_owned()),
            }),
            YamlData::Sequence(items) => {
                Data::List(items.into_iter().map(|item| Self::convert(file, item)).collect::<Result<_, _>>()?)
            }
            YamlData::Mapping(entries) => {
                let mut converted = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let key = Self::convert(file, key)?;
                    let Some(name) = key.scalar_text() else {
                        return Err(Fault::new("key is no text")
                            .at(key.place.location())
                            .code(codes::YAML)
                            .hint("quote values that begin with {{"));
                    };
                    converted.push(Entry { key: name, key_place: key.place, value: Self::convert(file, value)? });
                }
                Data::Map(with_merges(converted))
            }
            YamlData::Tagged(_, inner) => return Self::convert(file, *inner),
            YamlData::Representation(text, ..) => Data::Scalar(Json::String(text.into_owned())),
            YamlData::Alias(_) | YamlData::BadValue => {
                return Err(Fault::new("value cannot be read").at(place.location()).code(codes::YAML));
            }
        };
        Ok(Self { place, data })
    }

    /// A value from elsewhere (`config(...)` in SQL, a command line), as if it stood at `place`.
    pub(super) fn from_json(place: &Place, value: &Json) -> Self {
        let data = match value {
            Json::Array(items) => Data::List(items.iter().map(|item| Self::from_json(place, item)).collect()),
            Json::Object(entries) => Data::Map(
                entries
                    .iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        key_place: place.clone(),
                        value: Self::from_json(place, value),
                    })
                    .collect(),
            ),
            scalar => Data::Scalar(scalar.clone()),
        };
        Self { place: place.clone(), data }
    }

    pub(super) fn to_json(&self) -> Json {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Data::Map(entries) => {
                Json::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect())
            }
        }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match &self.data {
            Data::List(items) => items,
            _ => &[],
        }
    }

    /// The value of a key, nulls excepted.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value).filter(|value| !value.is_null())
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.data, Data::Scalar(Json::Null))
    }

    /// The text of a scalar, whatever its type.
    pub(super) fn scalar_text(&self) -> Option<String> {
        match &self.data {
            Data::Scalar(Json::String(text)) => Some(text.clone()),
            Data::Scalar(Json::Null) | Data::List(_) | Data::Map(_) => None,
            Data::Scalar(value) => Some(value.to_string()),
        }
    }

    /// Applies `change` to each text below.
    pub(super) fn change_texts(&mut self, change: &mut impl FnMut(&Place, &str) -> Option<Json>) {
        match &mut self.data {
            Data::Scalar(Json::String(text)) => {
                if let Some(value) = change(&self.place, text) {
                    *self = Self::from_json(&self.place, &value);
                }
            }
            Data::Scalar(_) => {}
            Data::List(items) => items.iter_mut().for_each(|item| item.change_texts(change)),
            Data::Map(entries) => entries.iter_mut().for_each(|entry| entry.value.change_texts(change)),
        }
    }
}

/// Takes in what YAML's merge key `<<` names; a key of the mapping itself wins.
fn with_merges(entries: Vec<Entry>) -> Vec<Entry> {
    if !entries.iter().any(|entry| entry.key == "<<") {
        return entries;
    }
    let (merges, mut own): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.key == "<<");
    for merge in merges {
        let maps = match merge.value.data {
            Data::List(items) => items,
            _ => vec![merge.value],
        };
        for entry in maps.iter().flat_map(Node::entries) {
            if !own.iter().any(|known| known.key == entry.key) {
                own.push(entry.clone());
            }
        }
    }
    own
}

/// Collects faults while values are taken out of trees. Each taker answers `None` after noting a fault.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) faults: Vec<Fault>,
    /// What changes nothing and may still be a slip.
    pub(super) notes: Vec<Fault>,
    /// Whether what dbt passes over is a fault.
    pub(super) strict: bool,
}

impl Reader {
    pub(super) fn fault(&mut self, place: &Place, code: u16, message: impl Into<String>) {
        self.faults.push(Fault::new(message).at(place.location()).code(code));
    }

    pub(super) fn fault_hint(&mut self, place: &Place, code: u16, message: impl Into<String>, hint: impl Into<String>) {
        self.faults.push(Fault::new(message).at(place.location()).code(code).hint(hint));
    }

    /// Notes a value of another type than the key's.
    pub(super) fn wrong_type(&mut self, node: &Node, key: &str, wanted: &str) {
        let found = match &node.data {
            Data::Scalar(Json::Null) => "nothing",
            Data::Scalar(Json::Bool(_)) => "boolean",
            Data::Scalar(Json::Number(_)) => "number",
            Data::Scalar(_) => "text",
            Data::List(_) => "list",
            Data::Map(_) => "mapping",
        };
        self.fault(
            &node.place,
            codes::WRONG_TYPE,
            format!("value has the wrong type, key=`{key}`, wanted=`{wanted}`, found=`{found}`"),
        );
    }

    /// Notes every key that is not in `known`, with the nearest one.
    pub(super) fn check_keys(&mut self, node: &Node, what: &str, known: &[&str]) {
        for entry in node.entries().iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let hint = nearest(&entry.key, known.iter().copied())
                .map_or_else(|| format!("known here: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
            self.fault_hint(
                &entry.key_place,
                codes::UNKNOWN_KEY,
                format!("unknown key, key=`{}`, in=`{what}`", entry.key),
                hint,
            );
        }
    }

    /// The same where other tools keep keys of their own in the file: what is near a known key is a slip, the rest is passed
    /// over with a note.
    pub(super) fn check_open_keys(&mut self, node: &Node, what: &str, known: &[&str]) {
        for entry in node.entries().iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let message = format!("unknown key, key=`{}`, in=`{what}`", entry.key);
            match nearest(&entry.key, known.iter().copied()) {
                Some(near) => {
                    self.fault_hint(&entry.key_place, codes::UNKNOWN_KEY, message, format!("did you mean `{near}`?"));
                }
                None => self.note(&entry.key_place, message),
            }
        }
    }

    /// Notes something that changes nothing.
    pub(super) fn note(&mut self, place: &Place, message: impl Into<String>) {
        self.notes.push(Fault::new(message).at(place.location()));
    }

    pub(super) fn text(&mut self, node: &Node, key: &str) -> Option<String> {
        let text = node.scalar_text();
        if text.is_none() {
            self.wrong_type(node, key, "text");
        }
        text
    }

    pub(super) fn boolean(&mut self, node: &Node, key: &str) -> Option<bool> {
        match &node.data {
            Data::Scalar(Json::Bool(value)) => Some(*value),
            // dbt reads YAML 1.1, which has more words for the two.
            Data::Scalar(Json::String(text)) => match text.to_lowercase().as_str() {
                "true" | "yes" | "on" => Some(true),
                "false" | "no" | "off" => Some(false),
                _ => {
                    self.wrong_type(node, key, "boolean");
                    None
                }
            },
            _ => {
                self.wrong_type(node, key, "boolean");
                None
            }
        }
    }

    pub(super) fn count(&mut self, node: &Node, key: &str) -> Option<u64> {
        let count = node.scalar_text().and_then(|text| text.parse().ok());
        if count.is_none() {
            self.wrong_type(node, key, "whole number, at least 0");
        }
        count
    }

    /// A text or a list of texts.
    pub(super) fn texts(&mut self, node: &Node, key: &str) -> Option<Vec<String>> {
        match &node.data {
            Data::List(items) => items.iter().map(|item| self.text(item, key)).collect(),
            Data::Scalar(Json::Null) => Some(Vec::new()),
            Data::Scalar(_) => self.text(node, key).map(|text| vec![text]),
            Data::Map(_) => {
                self.wrong_type(node, key, "text or list of texts");
                None
            }
        }
    }

    pub(super) fn object(&mut self, node: &Node, key: &str) -> Option<Map<String, Json>> {
        match node.to_json() {
            Json::Object(map) => Some(map),
            Json::Null => Some(Map::new()),
            _ => {
                self.wrong_type(node, key, "mapping");
                None
            }
        }
    }

    /// A duration: `90` (seconds), `90s`, `1h30m`, `500ms`, `14 h`, `7d`.
    pub(super) fn duration(&mut self, node: &Node, key: &str) -> Option<Duration> {
        let duration = node.scalar_text().and_then(|text| parse_duration(&text));
        if duration.is_none() {
            self.wrong_type(node, key, "duration such as 14h, 1h30m or a number of seconds");
        }
        duration
    }

    /// One of a closed set of words.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, key)?;
        let lower = text.to_lowercase();
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == lower) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = nearest(&lower, known.iter().copied())
            .map_or_else(|| format!("known: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
        self.fault_hint(
            &node.place,
            codes::UNKNOWN_VALUE,
            format!("value is not known, key=`{key}`, value=`{text}`"),
            hint,
        );
        None
    }
}

/// The first document of a text as JSON (`fromyaml`); `None` when it is not YAML.
pub(crate) fn yaml_to_json(text: &str) -> Option<Json> {
    Node::parse(Path::new("text"), text).ok().map(|node| node.to_json())
}

/// Reads a duration; `None` when the text is none.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let after = rest[digits..].trim_start();
        let end = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let millis: u64 = match &after[..end] {
            "ms" => 1,
            "s" | "sec" | "second" | "seconds" => 1_000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            "w" | "week" | "weeks" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(count.checked_mul(millis)?))?;
        rest = after[end..].trim_start();
    }
    Some(total)
}
