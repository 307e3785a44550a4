//! Text of the JSON objects that are sent.
//!
//! Fields keep the order in which they are given: the bytes are part of what a seed fixes. A name that begins with `data.`
//! stands inside the object `data`, which comes last.

use std::borrow::Cow;

/// Prefix of the names that stand inside of the object `data`.
const NESTED: &str = "data.";

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// A text of plain ASCII: nothing in it needs an escape.
    Text(Cow<'static, str>),
    /// JSON as it is.
    Raw(Cow<'static, str>),
    /// A whole number.
    Int(i64),
}

/// A field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) value: Json,
}

/// A text field.
pub(crate) fn text(name: &'static str, value: impl Into<Cow<'static, str>>) -> Field {
    Field { name, value: Json::Text(value.into()) }
}

/// A field that is JSON already.
pub(crate) fn raw(name: &'static str, value: impl Into<Cow<'static, str>>) -> Field {
    Field { name, value: Json::Raw(value.into()) }
}

/// A whole number.
pub(crate) fn int(name: &'static str, value: i64) -> Field {
    Field { name, value: Json::Int(value) }
}

/// An object's text, without blanks.
pub(crate) fn object(fields: &[Field]) -> Vec<u8> {
    let mut json = Vec::with_capacity(256);
    let is_nested = |field: &&Field| field.name.starts_with(NESTED);
    json.push(b'{');
    write_fields(&mut json, fields.iter().filter(|field| !is_nested(field)), "");
    if fields.iter().any(|field| is_nested(&field)) {
        json.extend_from_slice(if json.len() > 1 { b",\"data\":{" } else { b"\"data\":{" });
        write_fields(&mut json, fields.iter().filter(is_nested), NESTED);
        json.push(b'}');
    }
    json.push(b'}');
    json
}

fn write_fields<'a>(json: &mut Vec<u8>, fields: impl Iterator<Item = &'a Field>, prefix: &str) {
    for (index, field) in fields.enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.push(b'"');
        json.extend_from_slice(&field.name.as_bytes()[prefix.len()..]);
        json.extend_from_slice(b"\":");
        match &field.value {
            Json::Text(text) => {
                json.push(b'"');
                json.extend_from_slice(text.as_bytes());
                json.push(b'"');
            }
            Json::Raw(raw) => json.extend_from_slice(raw.as_bytes()),
            Json::Int(number) => json.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
        }
    }
}

/// Microseconds as a decimal number of seconds, without needless zeros.
pub(crate) fn seconds(us: i64) -> String {
    let (whole, fraction) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    if fraction == 0 {
        return whole.to_string();
    }
    format!("{whole}.{fraction:06}").trim_end_matches('0').to_owned()
}

/// An instant as ISO 8601 with milliseconds, UTC: `2025-04-30T06:12:03.412Z`.
pub(crate) fn iso_millis(us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(us).unwrap_or_default().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_data_stand_in_an_object_of_their_own_and_last() {
        let fields = [text("event", "e"), int("data.id", 7), raw("ok", "true"), text("data.tz", "UTC")];
        assert_eq!(object(&fields), br#"{"event":"e","ok":true,"data":{"id":7,"tz":"UTC"}}"#);
        assert_eq!(object(&fields[1..2]), br#"{"data":{"id":7}}"#);
        assert_eq!(object(&[]), b"{}");
    }

    #[test]
    fn seconds_keep_microseconds_and_nothing_else() {
        assert_eq!(seconds(1_741_478_400_500_000), "1741478400.5");
        assert_eq!(seconds(1_741_478_400_000_000), "1741478400");
        assert_eq!(seconds(1_741_478_400_000_001), "1741478400.000001");
    }
}
