//! The text of `_extra`: fields that the contract does not know, as they stand in the record.
//!
//! A JSON object in the order of the record: keys and values byte for byte, without blanks between them. A field inside an
//! object that paths lead through keeps its place: `data.mood` becomes `{"data":{"mood":"ok"}}`. Of a key that comes twice
//! the last one stays (same spelling; PARSE_JSON of Snowflake refuses objects with doubled keys).

use tidemill_project::contract::OnExtra;

use super::json;
use super::scan::Span;

/// Names of unknown fields that a message shows at most: enough to see what is going on.
const MAX_NAMES: usize = 10;

/// The unknown fields of one record.
#[derive(Debug)]
pub(crate) struct Extra {
    mode: OnExtra,
    /// `{"mood":"ok"`, without the closing brace.
    text: String,
    /// Fields of the objects that are open, outermost first.
    fields: Vec<Field>,
    /// Where the fields of the innermost open object begin.
    base: usize,
    /// Unknown fields, when they matter ([`OnExtra::Quarantine`]).
    unknown: Vec<String>,
    /// Unknown fields that hold NaN or an infinity.
    not_finite: Vec<String>,
}

/// `"key":value` in the text, without the comma before it.
#[derive(Clone, Copy, Debug)]
struct Field {
    start: usize,
    key_end: usize,
    end: usize,
}

impl Default for Extra {
    fn default() -> Self {
        Self::new(OnExtra::Keep)
    }
}

impl Extra {
    pub(crate) fn new(mode: OnExtra) -> Self {
        Self { mode, text: String::new(), fields: Vec::new(), base: 0, unknown: Vec::new(), not_finite: Vec::new() }
    }

    /// The finished object; `None` when there is nothing in it.
    pub(crate) fn text(&mut self) -> Option<&str> {
        if self.text.len() <= 1 {
            return None;
        }
        self.text.push('}');
        Some(&self.text)
    }

    /// Fields that must not be there, shortened.
    pub(crate) fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Fields that are no JSON.
    pub(crate) fn not_finite(&self) -> &[String] {
        &self.not_finite
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.text.push('{');
        self.fields.clear();
        self.base = 0;
        self.unknown.clear();
        self.not_finite.clear();
    }

    /// Begins an object; the answer goes back to [`Self::close`].
    #[inline]
    pub(crate) fn open(&mut self) -> usize {
        std::mem::replace(&mut self.base, self.fields.len())
    }

    /// Ends the object: of a key that came several times only the last stays.
    #[inline]
    pub(crate) fn close(&mut self, outer: usize) {
        if self.fields.len() - self.base > 1 {
            self.drop_repeated();
        }
        self.fields.truncate(self.base);
        self.base = outer;
    }

    /// Adds an unknown field.
    pub(crate) fn add(&mut self, payload: &str, key: Span, value: Span) {
        match self.mode {
            OnExtra::Drop => {}
            OnExtra::Quarantine => remember(&mut self.unknown, key.of(payload)),
            OnExtra::Keep => {
                let start = self.begin_field();
                self.text.push('"');
                self.text.push_str(key.of(payload));
                self.text.push('"');
                let key_end = self.text.len();
                self.text.push(':');
                self.text.push_str(value.of(payload));
                self.fields.push(Field { start, key_end, end: self.text.len() });
            }
        }
    }

    /// Adds an unknown field whose value is no JSON: it cannot be kept, so the record cannot land.
    pub(crate) fn add_not_finite(&mut self, name: &str) {
        remember(&mut self.not_finite, name);
    }

    /// Adds a value by its own text: of a known field something inside of which is unknown, or of a field that comes once.
    pub(crate) fn add_value(&mut self, name: &str, value: &str) {
        if self.mode == OnExtra::Quarantine {
            remember(&mut self.unknown, name);
        } else if self.mode == OnExtra::Keep {
            self.begin_field();
            json::write_string(&mut self.text, name);
            self.text.push(':');
            self.text.push_str(value);
        }
    }

    /// Enters a known object, in which there may be unknown fields; the answer goes back to [`Self::leave`].
    pub(crate) fn enter(&mut self, name: &str) -> usize {
        let before = self.text.len();
        let start = self.begin_field();
        json::write_string(&mut self.text, name);
        let key_end = self.text.len();
        self.text.push_str(":{");
        self.fields.push(Field { start, key_end, end: self.text.len() });
        before
    }

    /// Leaves it; an object without unknown fields leaves no trace, neither does an earlier one of the same name.
    pub(crate) fn leave(&mut self, name: &str, before: usize) {
        let Some(field) = self.fields.last_mut() else { return };
        if field.end == self.text.len() {
            self.fields.pop();
            self.text.truncate(before);
            self.forget(name);
        } else {
            self.text.push('}');
            field.end = self.text.len();
        }
    }

    /// Takes back what an earlier field of this name left: a later one takes its place.
    pub(crate) fn forget(&mut self, name: &str) {
        let is_it = |field: &Field| &self.text[field.start + 1..field.key_end - 1] == name;
        if self.fields[self.base..].iter().any(is_it) {
            let kept = self.fields[self.base..].iter().copied().filter(|field| !is_it(field)).collect();
            self.keep(kept);
        }
    }

    fn begin_field(&mut self) -> usize {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        self.text.len()
    }

    fn drop_repeated(&mut self) {
        let fields = &self.fields[self.base..];
        let key = |field: &Field| &self.text[field.start..field.key_end];
        // A handful is compared in place; a record of thousands of unknown fields must not take the square of that.
        let repeated = if fields.len() <= 8 {
            (1..fields.len()).any(|at| fields[..at].iter().any(|earlier| key(earlier) == key(&fields[at])))
        } else {
            let mut keys: Vec<&str> = fields.iter().map(key).collect();
            keys.sort_unstable();
            keys.windows(2).any(|pair| pair[0] == pair[1])
        };
        if !repeated {
            return;
        }
        let mut last: Vec<Field> = fields.to_vec();
        last.sort_by(|one, other| key(one).cmp(key(other)).then(one.start.cmp(&other.start)));
        let mut kept: Vec<Field> = Vec::with_capacity(last.len());
        for field in last {
            match kept.last_mut() {
                Some(previous) if key(previous) == key(&field) => *previous = field,
                _ => kept.push(field),
            }
        }
        kept.sort_by_key(|field| field.start);
        self.keep(kept);
    }

    /// Writes the innermost object's fields again, only those that are `kept`.
    fn keep(&mut self, kept: Vec<Field>) {
        let from = self.fields[self.base].start;
        let tail = self.text.split_off(from);
        self.fields.truncate(self.base);
        // The comma before the first of them stays where it was; without any field left it goes as well.
        if kept.is_empty() && self.text.ends_with(',') {
            self.text.pop();
        }
        for (index, field) in kept.into_iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            let start = self.text.len();
            self.text.push_str(&tail[field.start - from..field.end - from]);
            self.fields.push(Field { start, key_end: start + (field.key_end - field.start), end: self.text.len() });
        }
    }
}

/// Keeps a name for a message: the first few, each cut to a length that fits a line.
fn remember(names: &mut Vec<String>, name: &str) {
    if names.len() < MAX_NAMES {
        names.push(name.chars().take(64).collect());
    }
}
