//! The part of Python's modules that templates use: `modules.datetime`, `modules.pytz`, `modules.re`.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Datelike, Duration, NaiveDate, NaiveDateTime, SecondsFormat, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use minijinja::value::{DynObject, Kwargs, Object, Rest, Value, from_args};
use minijinja::{Error, ErrorKind, State};
use regex::Regex;
use tidemill_project::clock::Micros;

/// `modules`. The clock stands still at the run's start, so that a template gives the same text twice.
pub(super) fn modules(now_us: Micros) -> Value {
    Value::from_pairs([
        ("datetime", Value::from_object(DatetimeModule(now_us))),
        ("pytz", Value::from_object(Pytz)),
        ("re", Value::from_object(Re)),
    ])
}

/// An instant as Python's aware `datetime`, UTC.
pub(super) fn instant(at_us: Micros) -> Value {
    Value::from_object(Instant(utc(at_us).with_timezone(&Tz::UTC)))
}

fn utc(at_us: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at_us).unwrap_or_default()
}

#[derive(Debug)]
struct DatetimeModule(Micros);

impl Object for DatetimeModule {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "datetime" | "date" => Some(Value::from_object(DatetimeClass(self.0))),
            _ => None,
        }
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "timedelta" => {
                let (days, seconds, named): (Option<f64>, Option<f64>, Kwargs) = from_args(args)?;
                let mut total_s = days.unwrap_or(0.0) * 86_400.0 + seconds.unwrap_or(0.0);
                for (unit, width_s) in
                    [("weeks", 604_800.0), ("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0)]
                {
                    let count: Option<f64> = named.get(unit)?;
                    total_s += count.unwrap_or(0.0) * width_s;
                }
                Ok(Value::from_object(Delta(seconds_to_duration(total_s))))
            }
            "datetime" | "date" => moment(args),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

fn seconds_to_duration(seconds: f64) -> Duration {
    std::time::Duration::try_from_secs_f64(seconds.abs())
        .ok()
        .and_then(|span| Duration::from_std(span).ok())
        .map_or_else(Duration::zero, |span| if seconds < 0.0 { -span } else { span })
}

/// `datetime(2024, 1, 31, 12)`.
fn moment(args: &[Value]) -> Result<Value, Error> {
    let (given, named): (Rest<Value>, Kwargs) = from_args(args)?;
    let part = |index: usize, name: &str| -> Result<Option<u32>, Error> {
        let value = given.get(index).cloned().or(named.get(name)?);
        value.map(|value| u32::try_from(value).map_err(|_| fail("a part of a time is no number"))).transpose()
    };
    let (year, month, day) = (part(0, "year")?, part(1, "month")?, part(2, "day")?);
    let clock = [part(3, "hour")?, part(4, "minute")?, part(5, "second")?, part(6, "microsecond")?];
    let [hour, minute, second, micro] = clock.map(Option::unwrap_or_default);
    let zone: Option<Value> = named.get("tzinfo")?;
    let year = year.and_then(|year| i32::try_from(year).ok());
    let local = year
        .and_then(|year| NaiveDate::from_ymd_opt(year, month?, day?))
        .and_then(|date| date.and_hms_micro_opt(hour, minute, second, micro));
    let local = local.ok_or_else(|| fail("there is no such date or time"))?;
    Ok(Value::from_object(Instant(in_zone(zone.as_ref(), local))))
}

/// A wall clock in a `pytz` zone, UTC unless given; the earlier of two instants where clocks go back.
fn in_zone(zone: Option<&Value>, local: NaiveDateTime) -> DateTime<Tz> {
    let zone = zone.and_then(|zone| zone.downcast_object_ref::<Zone>()).map_or(Tz::UTC, |zone| zone.0);
    zone.from_local_datetime(&local).earliest().unwrap_or_else(|| zone.from_utc_datetime(&local))
}

#[derive(Debug)]
struct DatetimeClass(Micros);

impl Object for DatetimeClass {
    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        moment(args)
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "now" => {
                let zone =
                    args.first().and_then(|zone| zone.downcast_object_ref::<Zone>()).map_or(Tz::UTC, |zone| zone.0);
                Ok(Value::from_object(Instant(utc(self.0).with_timezone(&zone))))
            }
            "utcnow" | "today" => Ok(instant(self.0)),
            "strptime" => {
                let (text, format): (&str, &str) = from_args(args)?;
                let local = NaiveDateTime::parse_from_str(text, format).or_else(|_| {
                    NaiveDate::parse_from_str(text, format).map(|date| date.and_time(chrono::NaiveTime::MIN))
                });
                let local = local.map_err(|_| {
                    Error::new(
                        ErrorKind::InvalidOperation,
                        format!("text is not of that format, text=`{text}`, format=`{format}`"),
                    )
                })?;
                Ok(Value::from_object(Instant(Tz::UTC.from_utc_datetime(&local))))
            }
            "fromisoformat" => {
                let (text,): (&str,) = from_args(args)?;
                let at_us = crate::project::parse_instant(text).ok_or_else(|| {
                    Error::new(ErrorKind::InvalidOperation, format!("text is no date or time, text=`{text}`"))
                })?;
                Ok(instant(at_us))
            }
            "combine" => Ok(args.first().cloned().unwrap_or_default()),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// A wall clock with its zone.
#[derive(Debug)]
struct Instant(DateTime<Tz>);

impl Object for Instant {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "year" => Value::from(self.0.year()),
            "month" => Value::from(self.0.month()),
            "day" => Value::from(self.0.day()),
            "hour" => Value::from(self.0.hour()),
            "minute" => Value::from(self.0.minute()),
            "second" => Value::from(self.0.second()),
            "microsecond" => Value::from(self.0.nanosecond() / 1000),
            _ => return None,
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text_of(&self.0))
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        Some(self.0.cmp(&other.downcast_ref::<Self>()?.0))
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "strftime" => {
                let (format,): (&str,) = from_args(args)?;
                let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
                if items.contains(&Item::Error) {
                    return Err(fail("the format of a time cannot be read"));
                }
                Ok(Value::from(self.0.format_with_items(items.iter()).to_string()))
            }
            "isoformat" => Ok(Value::from(text_of(&self.0))),
            "replace" => {
                let (named,): (Kwargs,) = from_args(args)?;
                let at = self.0.naive_local();
                let part =
                    |name: &str, own: u32| -> Result<u32, Error> { Ok(named.get::<Option<u32>>(name)?.unwrap_or(own)) };
                let year = named.get::<Option<i32>>("year")?.unwrap_or_else(|| at.year());
                let date = NaiveDate::from_ymd_opt(year, part("month", at.month())?, part("day", at.day())?);
                let (hour, minute, second) =
                    (part("hour", at.hour())?, part("minute", at.minute())?, part("second", at.second())?);
                let micro = part("microsecond", at.nanosecond() / 1000)?;
                let local = date.and_then(|date| date.and_hms_micro_opt(hour, minute, second, micro));
                let local = local.ok_or_else(|| fail("there is no such date or time"))?;
                let own = Value::from_object(Zone(self.0.timezone()));
                let zone: Option<Value> = named.get("tzinfo")?;
                Ok(Value::from_object(Self(in_zone(Some(&zone.unwrap_or(own)), local))))
            }
            "date" => {
                let midnight = self.0.date_naive().and_time(chrono::NaiveTime::MIN);
                Ok(Value::from_object(Self(Tz::UTC.from_utc_datetime(&midnight))))
            }
            "timestamp" => Ok(Value::from(self.0.timestamp())),
            "weekday" => Ok(Value::from(self.0.weekday().num_days_from_monday())),
            "isoweekday" => Ok(Value::from(self.0.weekday().number_from_monday())),
            "astimezone" => {
                let zone =
                    args.first().and_then(|zone| zone.downcast_object_ref::<Zone>()).map_or(Tz::UTC, |zone| zone.0);
                Ok(Value::from_object(Self(self.0.with_timezone(&zone))))
            }
            "plus" | "minus" => {
                let own = Value::from_dyn_object(Arc::clone(self));
                let delta = args.first().filter(|delta| delta.downcast_object_ref::<Delta>().is_some());
                delta
                    .and_then(|delta| moved(&own, delta, method == "plus"))
                    .unwrap_or_else(|| Err(fail("argument is no timedelta")))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// What `+` or `-` makes of times and spans, as in Python; `None` when one of the two is something else.
pub(super) fn moved(left: &Value, right: &Value, is_sum: bool) -> Option<Result<Value, Error>> {
    let at = |value: &Value| value.downcast_object_ref::<Instant>().map(|at| at.0);
    let span = |value: &Value| value.downcast_object_ref::<Delta>().map(|span| span.0);
    let instant = |at: Option<DateTime<Tz>>| {
        at.map(|at| Value::from_object(Instant(at))).ok_or_else(|| fail("time is out of range"))
    };
    Some(match (at(left), span(left), at(right), span(right)) {
        (Some(left), _, _, Some(right)) => instant(left.checked_add_signed(if is_sum { right } else { -right })),
        (_, Some(left), Some(right), _) if is_sum => instant(right.checked_add_signed(left)),
        (Some(left), _, Some(right), _) if !is_sum => Ok(Value::from_object(Delta(left - right))),
        (_, Some(left), _, Some(right)) => {
            let span = if is_sum { left.checked_add(&right) } else { left.checked_sub(&right) };
            span.map(|span| Value::from_object(Delta(span))).ok_or_else(|| fail("time is out of range"))
        }
        _ => return None,
    })
}

fn text_of(at: &DateTime<Tz>) -> String {
    if at.timezone() == Tz::UTC {
        at.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Micros, true)
    } else {
        at.to_rfc3339_opts(SecondsFormat::Micros, false)
    }
}

#[derive(Debug)]
struct Delta(Duration);

impl Object for Delta {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "days" => Some(Value::from(self.0.num_days())),
            "seconds" => Some(Value::from(self.0.num_seconds() % 86_400)),
            _ => None,
        }
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "total_seconds" => Ok(Value::from(self.0.num_seconds())),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

#[derive(Debug)]
struct Pytz;

impl Object for Pytz {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str()? == "utc" || key.as_str()? == "UTC").then(|| Value::from_object(Zone(Tz::UTC)))
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match method {
            "timezone" => {
                let (name,): (&str,) = from_args(args)?;
                let zone = name.parse::<Tz>().map_err(|_| {
                    Error::new(ErrorKind::InvalidOperation, format!("no time zone of that name, name=`{name}`"))
                })?;
                Ok(Value::from_object(Zone(zone)))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

#[derive(Debug)]
struct Zone(Tz);

impl Object for Zone {
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

#[derive(Debug)]
struct Re;

impl Object for Re {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        // Flags are taken and mean nothing beyond what the pattern says itself.
        matches!(key.as_str()?, "IGNORECASE" | "I" | "MULTILINE" | "DOTALL").then(|| Value::from(0))
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let pattern = args.first().and_then(Value::as_str).unwrap_or_default();
        let compile = |pattern: &str| {
            // Python takes a brace that opens no repetition for itself.
            Regex::new(pattern).or_else(|_| Regex::new(&braces_escaped(pattern))).map_err(|_| {
                Error::new(
                    ErrorKind::InvalidOperation,
                    format!("regular expression cannot be read, pattern=`{pattern}`"),
                )
            })
        };
        let text = |index: usize| args.get(index).map(ToString::to_string).unwrap_or_default();
        match method {
            "compile" => Ok(args.first().cloned().unwrap_or_default()),
            "escape" => Ok(Value::from(regex::escape(pattern))),
            "sub" => {
                // Python's groups are `\1`, ours `${1}`.
                let with = Regex::new(r"\\(\d+)")
                    .map_err(|_| fail("a constant pattern"))?
                    .replace_all(&text(1), "$${$1}")
                    .into_owned();
                Ok(Value::from(compile(pattern)?.replace_all(&text(2), with.as_str()).into_owned()))
            }
            "findall" => Ok(compile(pattern)?.find_iter(&text(1)).map(|found| Value::from(found.as_str())).collect()),
            "split" => Ok(compile(pattern)?.split(&text(1)).map(Value::from).collect()),
            "match" => Ok(groups(&compile(&format!("^(?:{pattern})"))?, &text(1))),
            "fullmatch" => Ok(groups(&compile(&format!("^(?:{pattern})$"))?, &text(1))),
            "search" => Ok(groups(&compile(pattern)?, &text(1))),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// A pattern in which `{` is a letter unless it begins `{2}` or `{2,5}`.
fn braces_escaped(pattern: &str) -> String {
    let mut escaped = String::with_capacity(pattern.len() + 8);
    let (mut before, mut in_repetition) = (' ', false);
    for (index, letter) in pattern.char_indices() {
        let counts = pattern[index + 1..].starts_with(|next: char| next.is_ascii_digit());
        match letter {
            '{' if before != '\\' && counts => in_repetition = true,
            '}' if in_repetition => in_repetition = false,
            '{' | '}' if before != '\\' => escaped.push('\\'),
            _ => {}
        }
        escaped.push(letter);
        before = letter;
    }
    escaped
}

fn groups(pattern: &Regex, text: &str) -> Value {
    pattern.captures(text).map_or_else(
        || Value::from(()),
        |found| {
            let groups = found.iter().map(|group| group.map(|group| group.as_str().to_owned())).collect();
            Value::from_object(Match(groups))
        },
    )
}

#[derive(Debug)]
struct Match(Vec<Option<String>>);

impl Object for Match {
    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let value = |group: &Option<String>| group.as_deref().map_or_else(|| Value::from(()), Value::from);
        match method {
            "group" => {
                let (index,): (Option<usize>,) = from_args(args)?;
                Ok(self.0.get(index.unwrap_or_default()).map_or_else(|| Value::from(()), value))
            }
            "groups" => Ok(self.0.iter().skip(1).map(value).collect()),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

fn fail(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
