//! From a record's bytes to the tokens of the contract's paths, and to `_extra`.
//!
//! Avro needs no scanner: the schema says what comes next. Values are written to a text as JSON would have them, numbers and
//! all, and tokens point into it. So columns convert, check and default them by the same code as JSON's, and a record lands
//! with the same row whichever way it was encoded.

use serde_json::Value as Json;
use tidemill_project::contract::{ColumnType, Contract, TimeUnit};

use super::binary::{Broken, Cursor, MAX_DEPTH};
use super::fit::paths_of;
use super::render::{Renderer, branch, write_date, write_decimal, write_double, write_integer, write_timestamp};
use super::resolve::{Step, StepId, Steps};
use super::schema::Schema;
use crate::decode::json;
use crate::decode::paths::Paths;
use crate::decode::plan::Plan;
use crate::decode::scan::{Malformed, Scanner, Span, Token};

/// How records of one writer's schema become tokens.
#[derive(Debug)]
pub(crate) struct Layout {
    steps: Steps,
    /// Where the fields go, in the order of writing.
    targets: Vec<Target>,
    /// Slots of fields that the writer lacks, with what the reader's schema has for them.
    defaults: Vec<(usize, Json)>,
    /// Some path leads into a field: the whole record is written as JSON and scanned.
    is_deep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A slot of the contract's paths.
    Slot { slot: usize, time: TimeForm },
    /// `_extra`.
    Extra,
}

/// How dates and timestamps are written for the columns of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeForm {
    /// As the number in the bytes: the columns count in the same unit, or just keep a number.
    Number,
    /// As ISO 8601, which needs no unit.
    Iso,
}

impl Layout {
    /// Resolves a writer's schema to the contract and its reader's schema.
    pub(crate) fn new(writer: &Schema, reader: Option<&Schema>, plan: &Plan, contract: &Contract) -> Self {
        let steps = Steps::new(writer, reader);
        let slot_of = |name: &str| {
            let entry = plan.paths.find(Paths::ROOT, 0, name)?;
            plan.paths.entry(entry).slot
        };
        let targets = steps
            .root()
            .fields
            .iter()
            .map(|(name, step)| match slot_of(name) {
                Some(slot) => Target::Slot { slot, time: time_form(&steps, *step, name, contract) },
                None => Target::Extra,
            })
            .collect();
        let defaults = steps.root().defaults.iter();
        let defaults = defaults.filter_map(|(name, default)| Some((slot_of(name)?, default.clone()))).collect();
        Self { targets, defaults, is_deep: !plan.paths.may_be_flat(), steps }
    }

    /// Reads one record, which begins at `at`. Afterwards the scanner's tokens belong to it and point into `text`.
    pub(crate) fn scan(
        &self,
        scanner: &mut Scanner,
        paths: &Paths,
        bytes: &[u8],
        at: usize,
        text: &mut String,
    ) -> Result<(), Malformed> {
        text.clear();
        let mut cursor = Cursor::new(bytes, at);
        if self.is_deep {
            return self.scan_deep(scanner, paths, &mut cursor, text);
        }
        scanner.clear(paths);
        let level = scanner.extra.open();
        let mut writer = TokenWriter { steps: &self.steps, text, scanner };
        for (target, (name, step)) in self.targets.iter().zip(&self.steps.root().fields) {
            match *target {
                Target::Slot { slot, time } => {
                    let token = writer.token(&mut cursor, *step, name, time, 1)?;
                    writer.scanner.tokens[slot] = token;
                }
                Target::Extra => writer.extra(&mut cursor, *step, name)?,
            }
        }
        for (slot, default) in &self.defaults {
            let token = writer.default(default);
            writer.scanner.tokens[*slot] = token;
        }
        scanner.extra.close(level);
        Ok(cursor.finish()?)
    }

    fn scan_deep(
        &self,
        scanner: &mut Scanner,
        paths: &Paths,
        cursor: &mut Cursor<'_>,
        text: &mut String,
    ) -> Result<(), Malformed> {
        let mut renderer = Renderer::new(&self.steps, text);
        renderer.record(cursor, self.steps.root(), 1)?;
        let unknown_symbols = std::mem::take(&mut renderer.unknown_symbols);
        cursor.finish()?;
        scanner.parse(paths, text)?;
        scanner.unknown_symbols = unknown_symbols;
        Ok(())
    }
}

impl From<Broken> for Malformed {
    fn from(broken: Broken) -> Self {
        Self::Avro { what: broken.what, at: broken.at }
    }
}

/// How the columns that read `name` want its times. Where they disagree, ISO 8601 is right for all that want a time.
fn time_form(steps: &Steps, step: StepId, name: &str, contract: &Contract) -> TimeForm {
    let units = units_of(steps, step);
    let wants_number = |data_type: &ColumnType, unit: Option<TimeUnit>| match (data_type, unit) {
        (ColumnType::BigInt, None) => true,
        (_, Some(unit)) => units.iter().all(|of| *of == Some(unit)),
        _ => false,
    };
    let reads = |path: &Vec<String>| matches!(path.as_slice(), [only] if only == name);
    let mut readers = contract.columns.iter().filter(|column| paths_of(column).any(reads));
    if readers.all(|column| wants_number(&column.data_type, column.time_unit)) {
        TimeForm::Number
    } else {
        TimeForm::Iso
    }
}

/// The units that the times of a step count in; a local one, whose zone only the column knows, and a date have none.
fn units_of(steps: &Steps, step: StepId) -> Vec<Option<TimeUnit>> {
    match steps.get(step) {
        Step::Timestamp { unit, is_local: false } => vec![Some(*unit)],
        Step::Timestamp { .. } | Step::Date => vec![None],
        Step::Union(branches) => branches.iter().flat_map(|branch| units_of(steps, *branch)).collect(),
        _ => Vec::new(),
    }
}

/// Writes values to the text and says where they stand.
struct TokenWriter<'w> {
    steps: &'w Steps,
    text: &'w mut String,
    scanner: &'w mut Scanner,
}

impl TokenWriter<'_> {
    /// Reads the value that comes next.
    #[inline]
    fn token(
        &mut self,
        cursor: &mut Cursor<'_>,
        step: StepId,
        name: &str,
        time: TimeForm,
        depth: usize,
    ) -> Result<Token, Broken> {
        let start = self.text.len();
        Ok(match self.steps.get(step) {
            Step::Null => Token::Null,
            Step::Boolean => Token::Bool(cursor.boolean()?),
            Step::Text => self.string(cursor.text()?),
            Step::Integer => self.integer(cursor.integer()?),
            Step::Float => self.double(f64::from(cursor.float()?)),
            Step::Double => self.double(cursor.double()?),
            Step::Decimal { scale, fixed } => {
                write_decimal(self.text, cursor, *scale, *fixed)?;
                Token::Number(self.since(start))
            }
            Step::Date | Step::Timestamp { .. } if time == TimeForm::Number => self.integer(cursor.integer()?),
            Step::Date => {
                write_date(self.text, cursor.integer()?);
                self.quoted(start)
            }
            Step::Timestamp { unit, is_local } => {
                write_timestamp(self.text, cursor.integer()?, *unit, *is_local);
                self.quoted(start)
            }
            Step::Enum(symbols) => {
                let at = cursor.index()?;
                let Some(symbol) = symbols.get(at) else { return Err(cursor.broken("an enum has no such symbol")) };
                if !symbol.is_known {
                    self.scanner.unknown_symbols.push(name.to_owned());
                }
                self.string(&symbol.text)
            }
            Step::Union(branches) => {
                if depth > MAX_DEPTH {
                    return Err(cursor.broken("record is nested too deep"));
                }
                let branch = branch(cursor, branches)?;
                self.token(cursor, branch, name, time, depth + 1)?
            }
            Step::Bytes => self.bytes(cursor.bytes(None)?),
            Step::Fixed(size) => self.bytes(cursor.bytes(Some(*size))?),
            Step::Array(_) => self.nested(cursor, step, name, Token::Array)?,
            Step::Map(_) | Step::Record(_) => self.nested(cursor, step, name, Token::Object)?,
        })
    }

    /// Puts a field that no column reads into `_extra`.
    fn extra(&mut self, cursor: &mut Cursor<'_>, step: StepId, name: &str) -> Result<(), Broken> {
        let mut value = String::new();
        let mut renderer = Renderer::new(self.steps, &mut value);
        renderer.value(cursor, step, 1)?;
        if renderer.is_not_finite {
            self.scanner.extra.add_not_finite(name);
        } else {
            self.scanner.extra.add_value(name, &value);
        }
        Ok(())
    }

    fn nested(
        &mut self,
        cursor: &mut Cursor<'_>,
        step: StepId,
        name: &str,
        token: impl Fn(Span) -> Token,
    ) -> Result<Token, Broken> {
        let start = self.text.len();
        let mut renderer = Renderer::new(self.steps, self.text);
        renderer.value(cursor, step, 1)?;
        let is_not_finite = renderer.is_not_finite;
        let is_unknown_symbol = renderer.is_unknown_symbol || !renderer.unknown_symbols.is_empty();
        if is_unknown_symbol {
            self.scanner.unknown_symbols.push(name.to_owned());
        }
        Ok(if is_not_finite { Token::NotFinite } else { token(self.since(start)) })
    }

    /// A default of the reader's schema.
    fn default(&mut self, default: &Json) -> Token {
        let start = self.text.len();
        match default {
            Json::Null => Token::Null,
            Json::Bool(value) => Token::Bool(*value),
            Json::String(text) => self.string(text),
            other => {
                self.text.push_str(&other.to_string());
                match other {
                    Json::Array(_) => Token::Array(self.since(start)),
                    Json::Object(_) => Token::Object(self.since(start)),
                    _ => Token::Number(self.since(start)),
                }
            }
        }
    }

    fn integer(&mut self, value: i64) -> Token {
        let start = self.text.len();
        write_integer(self.text, value);
        Token::Number(self.since(start))
    }

    fn double(&mut self, value: f64) -> Token {
        if !value.is_finite() {
            return Token::NotFinite;
        }
        let start = self.text.len();
        write_double(self.text, value);
        Token::Number(self.since(start))
    }

    fn bytes(&mut self, bytes: &[u8]) -> Token {
        if bytes.is_ascii() {
            return self.string(std::str::from_utf8(bytes).unwrap_or_default());
        }
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        self.string(&text)
    }

    /// A text stands in quotes, as json columns keep it; one that needs escapes stands a second time without them.
    #[inline]
    fn string(&mut self, value: &str) -> Token {
        let start = self.text.len();
        json::write_string(self.text, value);
        if self.text.len() == start + value.len() + 2 {
            return self.quoted(start);
        }
        let from = self.scanner.decoded.len();
        self.scanner.decoded.push_str(value);
        Token::Decoded(Span { start: from, end: self.scanner.decoded.len() }, self.since(start))
    }

    fn since(&self, start: usize) -> Span {
        Span { start, end: self.text.len() }
    }

    /// What was written since `start`: a text in quotes, or the number that stands for a time beyond the calendar.
    fn quoted(&self, start: usize) -> Token {
        let Span { start, end } = self.since(start);
        if self.text.as_bytes()[start] == b'"' {
            Token::Text(Span { start: start + 1, end: end - 1 })
        } else {
            Token::Number(Span { start, end })
        }
    }
}
