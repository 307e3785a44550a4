//! Takes typed values out of a tree and collects what is wrong with it.

use std::path::Path;
use std::time::Duration;

use super::{Data, Key, Node, Place, Scalar, ScalarKind, codes, parse_bytes, parse_duration};
use crate::error::{Fault, Location, nearest};

/// Reads one file. Methods that answer `None` have noted a fault, unless the value waits for a variable.
pub(crate) struct Reader<'f> {
    file: &'f Path,
    faults: Vec<Fault>,
}

/// A table whose keys were checked against the list of known ones.
#[derive(Clone, Copy)]
pub(crate) struct Section<'n> {
    /// Dotted path of the table in its file; empty at the top.
    name: &'n str,
    node: &'n Node,
}

impl<'n> Section<'n> {
    /// The value of a key, when it is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        self.node.get(key)
    }

    /// The place of the table.
    pub(crate) fn place(&self) -> Place {
        self.node.place
    }

    /// The dotted path of a key of the table, for texts.
    pub(crate) fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

impl<'f> Reader<'f> {
    pub(crate) fn new(file: &'f Path) -> Self {
        Self { file, faults: Vec::new() }
    }

    /// The folder of the file.
    pub(crate) fn folder(&self) -> &'f Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// All faults, in the order of the file, each once: what several tables inherit is read several times.
    pub(crate) fn into_faults(self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = Vec::with_capacity(self.faults.len());
        for fault in self.faults {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        faults.sort_by_key(|fault| fault.location.as_ref().map(|location| (location.line, location.column)));
        faults
    }

    /// A place as a location in this file.
    pub(crate) fn location(&self, place: Place) -> Location {
        Location::new(self.file, place.line, place.column)
    }

    /// Notes a fault that has no place in this file, or brings its own.
    pub(crate) fn push(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Notes a fault.
    pub(crate) fn fault(&mut self, place: Place, code: u16, message: impl Into<String>) {
        self.faults.push(Fault::new(message).code(code).at(self.location(place)));
    }

    /// Notes a fault with its way out.
    pub(crate) fn fault_hint(&mut self, place: Place, code: u16, message: impl Into<String>, hint: impl Into<String>) {
        self.faults.push(Fault::new(message).code(code).at(self.location(place)).hint(hint));
    }

    /// Takes a table and refuses the keys that are not known.
    pub(crate) fn section<'n>(&mut self, name: &'n str, node: &'n Node, known: &[&'static str]) -> Option<Section<'n>> {
        let Data::Map(entries) = &node.data else {
            self.wrong_type(name, node, "table");
            return None;
        };
        for (key, _) in entries {
            if !known.contains(&key.name.as_str()) {
                self.unknown_key(name, key, known);
            }
        }
        Some(Section { name, node })
    }

    /// Notes a key that nobody knows, with the nearest one that somebody does.
    pub(crate) fn unknown_key(&mut self, section: &str, key: &Key, known: &[&'static str]) {
        let message = if section.is_empty() {
            format!("key is not known, key=`{}`", key.name)
        } else {
            format!("key is not known, section=`{section}`, key=`{}`", key.name)
        };
        let hint = match nearest(&key.name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys: {}", known.join(", ")),
        };
        self.fault_hint(key.place, codes::UNKNOWN_KEY, message, hint);
    }

    /// Notes a value of another type than the key's. Never quotes the value, which may be a secret.
    pub(crate) fn wrong_type(&mut self, key: &str, node: &Node, expected: &str) {
        if node.is_unresolved() {
            return;
        }
        let message =
            format!("value has the wrong type, key=`{key}`, expected=`{expected}`, found=`{}`", node.kind_name());
        if node.data == Data::Braces {
            self.fault_hint(node.place, codes::WRONG_TYPE, message, "put the expression in quotes: \"{{ … }}\"");
        } else {
            self.fault(node.place, codes::WRONG_TYPE, message);
        }
    }

    /// Notes a value that the key does not take, as the file spells it. Not for keys that hold secrets.
    pub(crate) fn bad_value(&mut self, key: &str, node: &Node, hint: impl Into<String>) {
        let value = match &node.data {
            Data::Scalar(Scalar { spelled: Some(spelled), .. }) => spelled,
            _ => node.text().unwrap_or_default(),
        };
        let message = format!("value is not usable, key=`{key}`, value=`{value}`");
        self.fault_hint(node.place, codes::BAD_VALUE, message, hint);
    }

    /// Notes a key that must be there.
    pub(crate) fn missing(&mut self, place: Place, key: &str, hint: impl Into<String>) {
        self.fault_hint(place, codes::MISSING_KEY, format!("key is missing, key=`{key}`"), hint);
    }

    fn scalar<'n>(&mut self, key: &str, node: &'n Node, expected: &str) -> Option<&'n Scalar> {
        match &node.data {
            Data::Scalar(Scalar { kind: ScalarKind::Unresolved, .. }) => None,
            Data::Scalar(scalar) if scalar.kind != ScalarKind::Null => Some(scalar),
            _ => {
                self.wrong_type(key, node, expected);
                None
            }
        }
    }

    /// A text; numbers and booleans are not.
    pub(crate) fn text(&mut self, key: &str, node: &Node) -> Option<String> {
        let scalar = self.scalar(key, node, "text")?;
        if scalar.kind != ScalarKind::Text {
            self.wrong_type(key, node, "text");
            return None;
        }
        Some(scalar.text.clone())
    }

    /// Any single value by its spelling: `unknown`, `0`, `2.50`, `true`.
    pub(crate) fn spelling(&mut self, key: &str, node: &Node) -> Option<String> {
        self.scalar(key, node, "text").map(|scalar| scalar.text.clone())
    }

    /// `true` or `false`, also as a text (a variable's value).
    pub(crate) fn flag(&mut self, key: &str, node: &Node) -> Option<bool> {
        match self.scalar(key, node, "boolean")?.text.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.wrong_type(key, node, "boolean");
                None
            }
        }
    }

    /// An integer of at least `min`, also as a text (a variable's value).
    pub(crate) fn integer(&mut self, key: &str, node: &Node, min: u64) -> Option<u64> {
        let scalar = self.scalar(key, node, "integer")?;
        let Ok(number) = scalar.text.replace('_', "").parse::<i128>() else {
            self.wrong_type(key, node, "integer");
            return None;
        };
        match u64::try_from(number) {
            Ok(number) if number >= min => Some(number),
            _ => {
                self.bad_value(key, node, format!("the least is {min}"));
                None
            }
        }
    }

    /// An integer that fits a `usize`.
    pub(crate) fn count(&mut self, key: &str, node: &Node, min: usize) -> Option<usize> {
        let number = self.integer(key, node, min as u64)?;
        self.fit(key, node, number)
    }

    /// A finite number.
    pub(crate) fn number(&mut self, key: &str, node: &Node) -> Option<f64> {
        match self.scalar(key, node, "number")?.text.parse::<f64>() {
            Ok(number) if number.is_finite() => Some(number),
            _ => {
                self.wrong_type(key, node, "number");
                None
            }
        }
    }

    /// Bytes: an integer or a text such as `64 MiB`.
    pub(crate) fn bytes(&mut self, key: &str, node: &Node) -> Option<u64> {
        let scalar = self.scalar(key, node, "size")?;
        let bytes = parse_bytes(&scalar.text).filter(|bytes| *bytes > 0);
        if bytes.is_none() {
            self.bad_value(key, node, "write a number of bytes or a text such as \"64 MiB\"");
        }
        bytes
    }

    /// Bytes that fit a `usize`.
    pub(crate) fn bytes_in_memory(&mut self, key: &str, node: &Node) -> Option<usize> {
        let number = self.bytes(key, node)?;
        self.fit(key, node, number)
    }

    fn fit(&mut self, key: &str, node: &Node, number: u64) -> Option<usize> {
        let fitting = usize::try_from(number).ok();
        if fitting.is_none() {
            self.bad_value(key, node, "the number is too large for this machine");
        }
        fitting
    }

    /// A duration with its unit, such as `250ms`.
    pub(crate) fn duration(&mut self, key: &str, node: &Node) -> Option<Duration> {
        let scalar = self.scalar(key, node, "duration")?;
        let duration = parse_duration(&scalar.text);
        if duration.is_none() {
            self.bad_value(key, node, "write a number with its unit: \"250ms\", \"10s\", \"15m\", \"24h\", \"7d\"");
        }
        duration
    }

    /// A duration with its unit, or a bare number of seconds (dbt's variables count so).
    pub(crate) fn seconds(&mut self, key: &str, node: &Node) -> Option<Duration> {
        let scalar = self.scalar(key, node, "duration")?;
        if let Ok(seconds) = scalar.text.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        let duration = parse_duration(&scalar.text);
        if duration.is_none() {
            self.bad_value(key, node, "write seconds, or a number with its unit: 900, \"15m\", \"24h\"");
        }
        duration
    }

    /// A text, or a list of texts.
    pub(crate) fn texts(&mut self, key: &str, node: &Node) -> Option<Vec<String>> {
        match &node.data {
            Data::List(items) => {
                let texts: Vec<_> = items.iter().map(|item| self.spelling(key, item)).collect();
                texts.into_iter().collect()
            }
            _ => self.spelling(key, node).map(|text| vec![text]),
        }
    }

    /// One of a closed set of words.
    pub(crate) fn word<T: Copy>(&mut self, key: &str, node: &Node, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.scalar(key, node, "text")?.text.clone();
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let hint = match nearest(&text, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("one of: {}", known.join(", ")),
            };
            self.bad_value(key, node, hint);
        }
        found
    }
}
