//! The records of `clicks` as their producers write them: Avro in the schema registry's wire format.
//!
//! A value is one zero byte, the schema's id as four bytes big-endian, and the record in Avro's binary encoding. Encoders
//! append to a buffer of the caller, so that a stream of records takes one allocation; they know the schemas of this
//! file and no others, and nothing of the reader's side.
//!
//! Source: Avro specification 1.12, "Binary Encoding" and "Logical Types"; Confluent's wire format.

/// The first version of [`UserAction`], which ends at `properties`.
pub const USER_ACTION_V1: &str = include_str!("../schemas/user_action.v1.avsc");
/// The second version of [`UserAction`], with `experiment_id` and `variant`.
pub const USER_ACTION_V2: &str = include_str!("../schemas/user_action.v2.avsc");
/// The schema of [`Transaction`].
pub const TRANSACTION: &str = include_str!("../schemas/transaction.avsc");
/// The schema of [`SystemMetric`].
pub const SYSTEM_METRIC: &str = include_str!("../schemas/system_metric.avsc");

/// Digits behind the point of [`Transaction::amount`].
pub const AMOUNT_SCALE: u32 = 4;

/// Which of its versions a [`UserAction`] is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserActionVersion {
    /// Up to `properties`; experiments are left out.
    V1,
    /// All fields.
    V2,
}

/// One click, view or search: a record of `events.user-actions`.
#[derive(Clone, Copy, Debug)]
pub struct UserAction<'a> {
    /// The producer's id of the event.
    pub event_id: &'a str,
    /// Who acted.
    pub user_id: &'a str,
    /// `click`, `view`, `search`, …
    pub action: &'a str,
    /// Event time, milliseconds since the epoch, UTC.
    pub occurred_at_ms: i64,
    /// Session, where known.
    pub session_id: Option<&'a str>,
    /// Page, where known.
    pub page: Option<&'a str>,
    /// Names and values, in the order in which they are written.
    pub properties: &'a [(&'a str, &'a str)],
    /// Experiment that the user takes part in.
    pub experiment_id: Option<&'a str>,
    /// Variant that the user sees.
    pub variant: Option<&'a str>,
}

impl UserAction<'_> {
    /// Appends the record, with its prefix, to `out`.
    pub fn write(&self, schema_id: u32, version: UserActionVersion, out: &mut Vec<u8>) {
        prefix(out, schema_id);
        string(out, self.event_id);
        string(out, self.user_id);
        string(out, self.action);
        long(out, self.occurred_at_ms);
        nullable(out, self.session_id);
        nullable(out, self.page);
        map(out, self.properties);
        if version == UserActionVersion::V2 {
            nullable(out, self.experiment_id);
            nullable(out, self.variant);
        }
    }
}

/// What a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `order`
    Order,
    /// `payment`
    Payment,
    /// `refund`
    Refund,
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `pending`
    Pending,
    /// `completed`
    Completed,
    /// `failed`
    Failed,
}

/// One step of an order or payment: a record of `events.transactions`.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// The producer's id of the event.
    pub event_id: &'a str,
    /// The order or payment.
    pub transaction_id: &'a str,
    /// Whose it is.
    pub user_id: &'a str,
    /// What it is.
    pub kind: Kind,
    /// How far it is.
    pub status: Status,
    /// Amount, times ten to the power of [`AMOUNT_SCALE`].
    pub amount: i64,
    /// ISO 4217.
    pub currency: &'a str,
    /// Event time, milliseconds since the epoch, UTC.
    pub occurred_at_ms: i64,
}

impl Transaction<'_> {
    /// Appends the record, with its prefix, to `out`.
    pub fn write(&self, schema_id: u32, out: &mut Vec<u8>) {
        prefix(out, schema_id);
        string(out, self.event_id);
        string(out, self.transaction_id);
        string(out, self.user_id);
        long(out, self.kind as i64);
        long(out, self.status as i64);
        decimal(out, self.amount);
        string(out, self.currency);
        long(out, self.occurred_at_ms);
    }
}

/// One sample of an application's metric: a record of `events.system`.
#[derive(Clone, Copy, Debug)]
pub struct SystemMetric<'a> {
    /// The producer's id of the event; most have none.
    pub event_id: Option<&'a str>,
    /// Which application.
    pub service: &'a str,
    /// Which metric.
    pub metric: &'a str,
    /// The sample, in the metric's own unit.
    pub value: f64,
    /// Event time, milliseconds since the epoch, UTC.
    pub occurred_at_ms: i64,
    /// Names and values, in the order in which they are written.
    pub tags: &'a [(&'a str, &'a str)],
}

impl SystemMetric<'_> {
    /// Appends the record, with its prefix, to `out`.
    pub fn write(&self, schema_id: u32, out: &mut Vec<u8>) {
        prefix(out, schema_id);
        nullable(out, self.event_id);
        string(out, self.service);
        string(out, self.metric);
        out.extend_from_slice(&self.value.to_le_bytes());
        long(out, self.occurred_at_ms);
        map(out, self.tags);
    }
}

/// The wire format's five bytes.
fn prefix(out: &mut Vec<u8>, schema_id: u32) {
    out.push(0);
    out.extend_from_slice(&schema_id.to_be_bytes());
}

/// A long: zigzag, then seven bits a byte, least significant first.
fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = value.cast_unsigned() << 1 ^ (value >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

fn length(out: &mut Vec<u8>, len: usize) {
    long(out, i64::try_from(len).expect("a buffer is shorter than 2^63 bytes"));
}

fn string(out: &mut Vec<u8>, text: &str) {
    length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// The union `["null", "string"]`: the branch's index, then its value.
fn nullable(out: &mut Vec<u8>, text: Option<&str>) {
    long(out, i64::from(text.is_some()));
    if let Some(text) = text {
        string(out, text);
    }
}

/// A map of strings: one block, unless it is empty, and the block of none that ends it.
fn map(out: &mut Vec<u8>, entries: &[(&str, &str)]) {
    if !entries.is_empty() {
        length(out, entries.len());
        for (name, value) in entries {
            string(out, name);
            string(out, value);
        }
    }
    long(out, 0);
}

/// A decimal: bytes that hold the unscaled value in two's complement, big-endian, in as few bytes as it takes.
fn decimal(out: &mut Vec<u8>, unscaled: i64) {
    let bytes = unscaled.to_be_bytes();
    let repeats_sign = |pair: &[u8]| {
        let sign = if pair[1] & 0x80 == 0 { 0x00 } else { 0xff };
        pair[0] == sign
    };
    let skipped = bytes.windows(2).take_while(|pair| repeats_sign(pair)).count();
    length(out, bytes.len() - skipped);
    out.extend_from_slice(&bytes[skipped..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    /// Examples of the specification, and both ends.
    #[test]
    fn longs_are_zigzag_and_variable_in_length() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (-2, &[0x03]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            assert_eq!(bytes_of(|out| long(out, value)), bytes, "{value}");
        }
    }

    #[test]
    fn decimals_take_as_few_bytes_as_their_sign_allows() {
        for (value, bytes) in [
            (0, &[0x02, 0x00][..]),
            (127, &[0x02, 0x7f]),
            (128, &[0x04, 0x00, 0x80]),
            (-1, &[0x02, 0xff]),
            (-128, &[0x02, 0x80]),
            (-129, &[0x04, 0xff, 0x7f]),
            (199_900, &[0x06, 0x03, 0x0c, 0xdc]),
        ] {
            assert_eq!(bytes_of(|out| decimal(out, value)), bytes, "{value}");
        }
    }

    #[test]
    fn a_user_action_is_written_field_by_field_and_its_first_version_ends_at_properties() {
        let action = UserAction {
            event_id: "a17",
            user_id: "u1",
            action: "click",
            occurred_at_ms: 1_741_521_630_000,
            session_id: None,
            page: Some("/cart"),
            properties: &[("k", "v")],
            experiment_id: Some("e1"),
            variant: None,
        };
        let first =
            b"\x00\x00\x00\x00\x07\x06a17\x04u1\x0aclick\xe0\xcc\xb9\xac\xaf\x65\x00\x02\x0a/cart\x02\x02k\x02v\x00";
        assert_eq!(bytes_of(|out| action.write(7, UserActionVersion::V1, out)), first);
        let mut second = first.to_vec();
        second[4] = 8;
        second.extend_from_slice(b"\x02\x04e1\x00");
        assert_eq!(bytes_of(|out| action.write(8, UserActionVersion::V2, out)), second);
    }

    #[test]
    fn transactions_and_metrics_are_written_field_by_field() {
        let transaction = Transaction {
            event_id: "t1",
            transaction_id: "o1",
            user_id: "u1",
            kind: Kind::Refund,
            status: Status::Completed,
            amount: 199_900,
            currency: "USD",
            occurred_at_ms: -1,
        };
        let expected = b"\x00\x00\x01\x86\x9f\x04t1\x04o1\x04u1\x04\x02\x06\x03\x0c\xdc\x06USD\x01";
        assert_eq!(bytes_of(|out| transaction.write(99_999, out)), expected);

        let metric =
            SystemMetric { event_id: None, service: "api", metric: "load", value: 0.5, occurred_at_ms: 1, tags: &[] };
        let expected = b"\x00\x00\x00\x00\x01\x00\x06api\x08load\x00\x00\x00\x00\x00\x00\xe0\x3f\x02\x00";
        assert_eq!(bytes_of(|out| metric.write(1, out)), expected);
    }

    #[test]
    fn schemas_are_json_and_name_the_fields_in_the_order_of_writing() {
        let names = |schema: &str| {
            let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
            let fields = schema["fields"].as_array().unwrap().iter();
            fields.map(|field| field["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        let first = "event_id user_id action occurred_at session_id page properties";
        assert_eq!(names(USER_ACTION_V1), first);
        assert_eq!(names(USER_ACTION_V2), format!("{first} experiment_id variant"));
        assert_eq!(names(TRANSACTION), "event_id transaction_id user_id kind status amount currency occurred_at");
        assert_eq!(names(SYSTEM_METRIC), "event_id service metric value occurred_at tags");
    }
}
