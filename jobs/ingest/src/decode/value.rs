//! From tokens to typed values: what a column takes, and what is wrong with the rest.
//!
//! | column | takes | else |
//! | --- | --- | --- |
//! | text | string | `wrong_type` |
//! | bigint | number without fraction, however spelled (`7`, `7.0`, `7e0`); digits in a string if the contract says so | fraction or other type `wrong_type`; beyond 64 bits `bad_value` |
//! | bigint with a unit, timestamp | the forms of X3 | `bad_event_time`; beyond the years 1 to 9999 `event_time_out_of_range` for the event time, `bad_value` for others |
//! | double | number, rounded to the nearest double | NaN, infinities, beyond its range `bad_value` |
//! | decimal | number; decimals beyond the scale are rounded half away from zero, from the text (X4) | more digits than the precision `bad_value` |
//! | boolean | `true`, `false` | `wrong_type` |
//! | date | `YYYY-MM-DD` in a string | `bad_event_time` |
//! | json | anything but null and `""`, kept as it stands in the record | – |
//! | struct, list | objects and arrays of the declared types | as the part that does not fit |

use std::net::IpAddr;

use tidemill_project::contract::TextFormat;

use super::fault::Problem;
use super::number::{Decimal, Exact, Spelling, short_integer};
use super::record::RejectionClass;
use super::scan::{Span, Token};
use super::time::{Instant, TimeFault, TimeRule, is_zone, parse_date};

/// The texts that spans point into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    pub(crate) payload: &'a str,
    /// Strings whose escapes were resolved.
    pub(crate) decoded: &'a str,
    /// Texts of the contract: defaults, targets of aliases.
    pub(crate) constants: &'a str,
}

/// Which text a span belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Payload,
    Decoded,
    Constant,
}

impl<'a> Texts<'a> {
    #[inline]
    pub(crate) fn get(&self, place: Place, span: Span) -> &'a str {
        match place {
            Place::Payload => span.of(self.payload),
            Place::Decoded => span.of(self.decoded),
            Place::Constant => span.of(self.constants),
        }
    }

    /// The content of a string, without its quotes and escapes.
    pub(crate) fn string(&self, token: Token) -> Option<&'a str> {
        let (place, span) = string_place(token)?;
        Some(self.get(place, span))
    }
}

/// The text of every contract's constants begins with these, for boolean values in json columns.
pub(crate) const TRUE_AND_FALSE: &str = "truefalse";
pub(crate) const TRUE: Span = Span { start: 0, end: 4 };
pub(crate) const FALSE: Span = Span { start: 4, end: 9 };

/// A converted value, still without an allocation of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    /// Times, also those that a bigint column keeps in its unit.
    Time(Instant),
    Double(f64),
    /// Times ten to the power of the column's scale.
    Decimal(i128),
    Bool(bool),
    /// Since 1970-01-01.
    Days(i32),
    Text(Place, Span),
    /// Index into the record's nested values.
    Nested(usize),
}

/// What a column is made of.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Text,
    BigInt,
    Time(TimeRule),
    Double,
    Decimal { precision: u8, scale: i8 },
    Boolean,
    Date,
    Json,
}

/// A column's type and the rules for its values.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// Numbers and booleans may come as strings.
    pub(crate) accept_text: bool,
    /// Times are kept in their unit (bigint) instead of as timestamps.
    pub(crate) keeps_units: bool,
    /// The record's time: its faults have a class of their own.
    pub(crate) is_event_time: bool,
    /// Text -> constant that stands for it.
    pub(crate) aliases: Vec<(Box<str>, Span)>,
    /// Closed set of texts, after renaming; empty = any.
    pub(crate) accepted_values: Vec<Box<str>>,
    /// Longest text in bytes.
    pub(crate) max_bytes: usize,
    pub(crate) text_format: Option<TextFormat>,
    pub(crate) bounds: Bounds,
}

/// Smallest and greatest number, both included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
}

impl Shape {
    /// A type without any rule: elements of structs and lists.
    pub(crate) fn plain(kind: Kind) -> Self {
        Self {
            kind,
            accept_text: false,
            keeps_units: false,
            is_event_time: false,
            aliases: Vec::new(),
            accepted_values: Vec::new(),
            max_bytes: usize::MAX,
            text_format: None,
            bounds: Bounds::default(),
        }
    }

    /// Converts a value that is neither absent nor null.
    #[inline]
    pub(crate) fn convert(&self, token: Token, texts: &Texts<'_>) -> Result<Cell, Problem> {
        match &self.kind {
            Kind::Text => self.text(token, texts),
            Kind::BigInt => self.integer(token, texts).map(Cell::Int),
            Kind::Time(rule) => self.time(*rule, token, texts).map(Cell::Time),
            Kind::Double => self.double(token, texts).map(Cell::Double),
            Kind::Decimal { precision, scale } => self.decimal(*precision, *scale, token, texts).map(Cell::Decimal),
            Kind::Boolean => match (token, texts.string(token)) {
                (Token::Bool(value), _) => Ok(Cell::Bool(value)),
                (_, Some("true")) if self.accept_text => Ok(Cell::Bool(true)),
                (_, Some("false")) if self.accept_text => Ok(Cell::Bool(false)),
                _ => Err(wrong_type(token, "a boolean")),
            },
            Kind::Date => match texts.string(token).and_then(parse_date) {
                Some(days) => Ok(Cell::Days(days)),
                None => Err(Problem::new(RejectionClass::BadEventTime, "is no date")),
            },
            Kind::Json => self.json(token, texts),
        }
    }

    #[inline]
    fn text(&self, token: Token, texts: &Texts<'_>) -> Result<Cell, Problem> {
        let Some((place, span)) = string_place(token) else { return Err(wrong_type(token, "a text")) };
        let text = texts.get(place, span);
        if text.len() > self.max_bytes {
            return Err(bad_value(format!("is longer than {} bytes", self.max_bytes)));
        }
        if let Some((_, target)) = self.aliases.iter().find(|(alias, _)| **alias == *text) {
            return self.checked(Place::Constant, *target, texts);
        }
        self.checked(place, span, texts)
    }

    #[inline]
    fn checked(&self, place: Place, span: Span, texts: &Texts<'_>) -> Result<Cell, Problem> {
        let text = texts.get(place, span);
        if !self.accepted_values.is_empty() && !self.accepted_values.iter().any(|value| **value == *text) {
            return Err(bad_value(format!("is not one of {}", self.accepted_values.join(", "))));
        }
        let fits = match self.text_format {
            None => true,
            Some(TextFormat::Ip) => text.parse::<IpAddr>().is_ok(),
            Some(TextFormat::Uuid) => is_uuid(text),
            Some(TextFormat::TimeZone) => is_zone(text),
        };
        match self.text_format {
            _ if fits => Ok(Cell::Text(place, span)),
            Some(TextFormat::Uuid) => Err(bad_value("is no UUID")),
            Some(TextFormat::TimeZone) => Err(bad_value("is no time zone")),
            _ => Err(bad_value("is no IP address")),
        }
    }

    fn integer(&self, token: Token, texts: &Texts<'_>) -> Result<i64, Problem> {
        let text = self.number_text(token, texts, "a whole number")?;
        let value = if let Some(value) = short_integer(text.as_bytes()) {
            value
        } else {
            let number = Decimal::parse(text.as_bytes(), Spelling::Exponent)
                .ok_or_else(|| wrong_type(token, "a whole number"))?;
            match number.scaled(0).exact() {
                Exact::Whole(value) => i64::try_from(value).map_err(|_| bad_value("does not fit 64 bits"))?,
                Exact::TooLarge => return Err(bad_value("does not fit 64 bits")),
                Exact::Fraction => return Err(Problem::new(RejectionClass::WrongType, "has a fraction")),
            }
        };
        self.bounds.check_integer(value)?;
        Ok(value)
    }

    fn time(&self, rule: TimeRule, token: Token, texts: &Texts<'_>) -> Result<Instant, Problem> {
        let read = match token {
            Token::Number(span) => rule.number(span.of(texts.payload).as_bytes(), Spelling::Exponent),
            _ => texts.string(token).ok_or(TimeFault::NoTime).and_then(|text| rule.text(text)),
        };
        match read {
            Ok(instant) => {
                self.bounds.check_integer(instant.units)?;
                Ok(instant)
            }
            Err(TimeFault::NoTime) => Err(Problem::new(RejectionClass::BadEventTime, "is no time")),
            Err(TimeFault::OutOfRange) if self.is_event_time => {
                Err(Problem::new(RejectionClass::EventTimeOutOfRange, "is beyond the years 1 to 9999"))
            }
            Err(TimeFault::OutOfRange) => Err(bad_value("is beyond the years 1 to 9999")),
        }
    }

    fn double(&self, token: Token, texts: &Texts<'_>) -> Result<f64, Problem> {
        let text = self.number_text(token, texts, "a number")?;
        // Rust reads "nan" and "infinity" as numbers too, so text is held to the spelling of numbers first.
        let is_number =
            matches!(token, Token::Number(_)) || Decimal::parse(text.as_bytes(), Spelling::Exponent).is_some();
        match text.parse::<f64>() {
            Ok(value) if is_number && value.is_finite() => {
                self.bounds.check(value)?;
                Ok(value)
            }
            Ok(_) => Err(bad_value("is not finite")),
            Err(_) => Err(wrong_type(token, "a number")),
        }
    }

    fn decimal(&self, precision: u8, scale: i8, token: Token, texts: &Texts<'_>) -> Result<i128, Problem> {
        let text = self.number_text(token, texts, "a number")?;
        let number =
            Decimal::parse(text.as_bytes(), Spelling::Exponent).ok_or_else(|| wrong_type(token, "a number"))?;
        let limit = 10_u128.checked_pow(u32::from(precision)).unwrap_or(u128::MAX);
        match number.scaled(i64::from(scale)).rounded() {
            Some(value) if value.unsigned_abs() < limit => {
                if self.bounds.are_any() {
                    // Both ends were read from text by the same rounding, so a bound such as 0.01 holds for 0.01 itself.
                    self.bounds.check(text.parse().unwrap_or(f64::NAN))?;
                }
                Ok(value)
            }
            _ => Err(bad_value(format!("does not fit {precision} digits with {scale} decimals"))),
        }
    }

    fn json(&self, token: Token, texts: &Texts<'_>) -> Result<Cell, Problem> {
        let (place, span) = match token {
            Token::Bool(true) => (Place::Constant, TRUE),
            Token::Bool(false) => (Place::Constant, FALSE),
            // The quotes stand right before and behind the span of a string without escapes.
            Token::Text(span) => (Place::Payload, Span { start: span.start - 1, end: span.end + 1 }),
            Token::Number(span) | Token::Decoded(_, span) | Token::Array(span) | Token::Object(span) => {
                (Place::Payload, span)
            }
            Token::NotFinite | Token::Absent | Token::Null => return Err(bad_value("holds NaN or an infinity")),
        };
        if texts.get(place, span).len() > self.max_bytes {
            return Err(bad_value(format!("is longer than {} bytes", self.max_bytes)));
        }
        Ok(Cell::Text(place, span))
    }

    /// The spelling of a number: JSON's, or a string's where the contract takes those.
    fn number_text<'a>(&self, token: Token, texts: &Texts<'a>, wanted: &'static str) -> Result<&'a str, Problem> {
        match token {
            Token::Number(span) => Ok(span.of(texts.payload)),
            Token::NotFinite => Err(bad_value("is not finite")),
            _ => texts.string(token).filter(|_| self.accept_text).ok_or_else(|| wrong_type(token, wanted)),
        }
    }
}

impl Bounds {
    pub(crate) fn are_any(self) -> bool {
        self.min.is_some() || self.max.is_some()
    }

    fn check(self, value: f64) -> Result<(), Problem> {
        if self.min.is_some_and(|min| value < min) {
            return Err(self.problem());
        }
        if self.max.is_some_and(|max| value > max) {
            return Err(self.problem());
        }
        Ok(())
    }

    /// Compares exactly: an integer next to a bound of 2^53 and more must not be rounded over it.
    fn check_integer(self, value: i64) -> Result<(), Problem> {
        let below = self.min.is_some_and(|min| i128::from(value) < whole(min.ceil()));
        let above = self.max.is_some_and(|max| i128::from(value) > whole(max.floor()));
        if below || above { Err(self.problem()) } else { Ok(()) }
    }

    #[cold]
    fn problem(self) -> Problem {
        match (self.min, self.max) {
            (Some(min), Some(max)) => bad_value(format!("is not between {min} and {max}")),
            (Some(min), None) => bad_value(format!("is less than {min}")),
            (_, max) => bad_value(format!("is greater than {}", max.unwrap_or(f64::INFINITY))),
        }
    }
}

/// A whole double as an integer; what lies beyond 128 bits becomes their end, which no 64-bit value reaches.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, as the doc says")]
fn whole(bound: f64) -> i128 {
    bound as i128
}

#[inline]
fn string_place(token: Token) -> Option<(Place, Span)> {
    match token {
        Token::Text(span) => Some((Place::Payload, span)),
        Token::Decoded(span, _) => Some((Place::Decoded, span)),
        _ => None,
    }
}

#[cold]
fn bad_value(what: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(RejectionClass::BadValue, what)
}

#[cold]
pub(crate) fn wrong_type(token: Token, wanted: &'static str) -> Problem {
    let found = match token {
        Token::Absent | Token::Null => "null",
        Token::Bool(_) => "a boolean",
        Token::Number(_) => "a number",
        Token::NotFinite => return bad_value("is not finite"),
        Token::Text(_) | Token::Decoded(..) => "a text",
        Token::Array(_) => "an array",
        Token::Object(_) => "an object",
    };
    Problem::new(RejectionClass::WrongType, format!("is {found}, not {wanted}"))
}

/// The hyphenated form, either case, any version: `9f0c2a7e-1111-4000-8000-000000000001`.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
