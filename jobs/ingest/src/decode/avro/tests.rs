//! Records in the wire format, decoded by the contracts of `clicks`; and the same rows as by JSON, for any record.

mod same_as_json;

use arrow::array::RecordBatch;
use tidemill_project::contract::{
    ColumnType, Contract, ContractColumn, Format, KeyRule, OnExtra, SchemaFile, TimeUnit,
};

use super::{Misfit, RegisteredSchema, SchemaId, SchemaKind, check_schema};
use crate::decode::tests::support::{cell, column, contract, record};
use crate::decode::{Decoder, Headers, NoHeaders, Pushed, Record, RejectionClass};

const FIELDS_V1: &str = r#"
    {"name": "event_id", "type": "string"}, {"name": "user_id", "type": "string"}, {"name": "action", "type": "string"},
    {"name": "occurred_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "session_id", "type": ["null", "string"], "default": null},
    {"name": "page", "type": ["null", "string"], "default": null},
    {"name": "properties", "type": {"type": "map", "values": "string"}, "default": {}}"#;
const FIELDS_V2: &str = r#"
    {"name": "experiment_id", "type": ["null", "string"], "default": null},
    {"name": "variant", "type": ["null", "string"], "default": null}"#;

/// 2025-03-09T00:00:30Z.
const AT_MS: i64 = 1_741_478_430_000;

fn schema(fields: &str) -> String {
    format!(r#"{{"type": "record", "name": "UserAction", "namespace": "events", "fields": [{fields}]}}"#)
}

fn avro(fields: &str) -> RegisteredSchema {
    RegisteredSchema { kind: SchemaKind::Avro, text: schema(fields), references: Vec::new() }
}

fn required(name: &str) -> ContractColumn {
    ContractColumn { required: true, ..column(name, ColumnType::Text) }
}

/// The contract of `events.user-actions`, with version 2 as the reader's schema.
fn user_actions() -> Contract {
    let text = |name: &str| column(name, ColumnType::Text);
    let mut contract = contract(vec![
        text("event_id"),
        required("user_id"),
        required("action"),
        ContractColumn {
            required: true,
            time_unit: Some(TimeUnit::Millisecond),
            ..column("occurred_at", ColumnType::Timestamp)
        },
        text("session_id"),
        text("page"),
        column("properties", ColumnType::Json),
        text("experiment_id"),
        text("variant"),
    ]);
    contract.columns.retain(|column| column.name != "at");
    contract.event_time.column = "occurred_at".to_owned();
    contract.key = vec![KeyRule::Field("event_id".to_owned()), KeyRule::Header("idempotency-key".to_owned())];
    with_schema(contract, &format!("{FIELDS_V1},{FIELDS_V2}"))
}

fn with_schema(mut contract: Contract, fields: &str) -> Contract {
    contract.format = Format::Avro;
    contract.schema = Some(SchemaFile { path: "user_action.avsc".into(), text: schema(fields) });
    contract
}

/// Writes Avro by hand.
#[derive(Clone, Debug)]
struct Wire(Vec<u8>);

impl Wire {
    fn new(id: u32) -> Self {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&id.to_be_bytes());
        Self(bytes)
    }

    fn long(mut self, value: i64) -> Self {
        let mut rest = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
        while rest >= 0x80 {
            self.0.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.0.push(rest.to_le_bytes()[0]);
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self = self.long(i64::try_from(bytes.len()).unwrap());
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn null(self) -> Self {
        self.long(0)
    }

    fn some(self, text: &str) -> Self {
        self.long(1).text(text)
    }

    /// The fields of version 1, and no properties.
    fn user_action(id: u32, event_id: &str) -> Self {
        Self::new(id).text(event_id).text("u1").text("click").long(AT_MS).null().some("/cart").long(0)
    }
}

/// A decoder that knows versions 1 and 2 under these ids.
fn decoder(contract: &Contract) -> Decoder {
    let mut decoder = Decoder::new(contract).expect("a contract that compiles");
    decoder.begin(8);
    decoder.learn(SchemaId(1), Some(&avro(FIELDS_V1)));
    decoder.learn(SchemaId(2), Some(&avro(&format!("{FIELDS_V1},{FIELDS_V2}"))));
    decoder
}

/// Decodes records of one contract whose schemas are known by their ids.
fn decode(contract: &Contract, schemas: &[(u32, &RegisteredSchema)], values: &[Wire]) -> (RecordBatch, Vec<String>) {
    let mut decoder = Decoder::new(contract).expect("a contract that compiles");
    decoder.begin(values.len());
    for (id, schema) in schemas {
        decoder.learn(SchemaId(*id), Some(schema));
    }
    for value in values {
        decoder.push(&record(&value.0));
    }
    let decoded = decoder.finish().expect("columns of one length");
    let rejections = decoded.rejections.iter().map(|found| format!("{}: {}", found.class, found.message)).collect();
    (decoded.batch, rejections)
}

/// The one column `v` of a record with the event time `at`, written with `of` as its schema.
fn landed(data_type: ColumnType, of: &str, write: impl FnOnce(Wire) -> Wire) -> String {
    let contract = one_column(column("v", data_type));
    let schema = avro(&format!(r#"{{"name": "at", "type": "long"}}, {{"name": "v", "type": {of}}}"#));
    let (batch, rejections) = decode(&contract, &[(7, &schema)], &[write(Wire::new(7).long(AT_MS / 1000))]);
    rejections.into_iter().next().unwrap_or_else(|| cell(&batch, "v", 0))
}

fn one_column(column: ContractColumn) -> Contract {
    let mut contract = contract(vec![column]);
    contract.format = Format::Avro;
    contract
}

#[test]
fn gc6_one_batch_mixes_versions_and_each_is_read_by_its_own_schema() {
    let mut decoder = decoder(&user_actions());
    let values = [
        Wire::user_action(1, "a1"),
        Wire::user_action(2, "a2").some("e1").some("on"),
        Wire::user_action(99_999, "a3"),
        Wire::user_action(1, "a4"),
    ];
    let pushed = values.each_ref().map(|value| decoder.push(&record(&value.0)));
    assert_eq!(pushed[2], Pushed::Rejected(RejectionClass::UnknownSchema));
    let decoded = decoder.finish().unwrap();
    let rows: Vec<String> = (0..3)
        .map(|row| {
            let names =
                ["_key", "occurred_at", "session_id", "page", "properties", "experiment_id", "variant", "_extra"];
            names.map(|name| cell(&decoded.batch, name, row)).join(" ")
        })
        .collect();
    assert_eq!(
        rows,
        [
            "a1 2025-03-09T00:00:30Z null /cart {} null null null",
            "a2 2025-03-09T00:00:30Z null /cart {} e1 on null",
            "a4 2025-03-09T00:00:30Z null /cart {} null null null",
        ]
    );
    assert_eq!(decoded.rejections[0].message, "schema 99999 is not in the registry");
}

#[test]
fn an_unknown_id_is_wanted_again_with_the_next_batch_and_a_known_one_never() {
    let mut decoder = Decoder::new(&user_actions()).unwrap();
    let value = Wire::user_action(5, "a1").0;
    assert_eq!(decoder.wanted_schema(&value), Some(SchemaId(5)));
    decoder.learn(SchemaId(5), None);
    assert_eq!(decoder.wanted_schema(&value), None);
    decoder.begin(1);
    assert_eq!(decoder.wanted_schema(&value), Some(SchemaId(5)));
    decoder.learn(SchemaId(5), Some(&avro(FIELDS_V1)));
    decoder.begin(1);
    assert_eq!(decoder.wanted_schema(&value), None);
    assert!(matches!(decoder.push(&record(&value)), Pushed::Landed(0)));
}

#[test]
fn a_field_that_only_the_writer_knows_goes_to_extra() {
    let newer = avro(&format!(
        r#"{FIELDS_V1},{FIELDS_V2}, {{"name": "device", "type": ["null", {{"type": "record", "name": "Device",
            "fields": [{{"name": "os", "type": "string"}}, {{"name": "seen", "type": {{"type": "long", "logicalType": "timestamp-millis"}}}}]}}]}}"#
    ));
    let value = Wire::user_action(3, "a1").null().null().long(1).text("an \"os\"").long(AT_MS);
    let (batch, rejections) = decode(&user_actions(), &[(3, &newer)], std::slice::from_ref(&value));
    assert_eq!(rejections, Vec::<String>::new());
    assert_eq!(cell(&batch, "_extra", 0), r#"{"device":{"os":"an \"os\"","seen":"2025-03-09T00:00:30.000Z"}}"#);

    let strict = Contract { on_extra: OnExtra::Quarantine, ..user_actions() };
    let (_, rejections) = decode(&strict, &[(3, &newer)], &[value]);
    assert_eq!(rejections, ["bad_value: `device` is not in the contract"]);
}

#[test]
fn the_idempotency_key_is_the_event_id_or_the_header() {
    let reader = FIELDS_V1.replace(r#""event_id", "type": "string""#, r#""event_id", "type": ["null", "string"]"#);
    let contract = with_schema(user_actions(), &format!("{reader},{FIELDS_V2}"));
    let schema = avro(&reader);
    let value = Wire::new(1).null().text("u1").text("click").long(AT_MS).null().null().long(0).0;
    let headers = [("idempotency-key", &b"from-the-header"[..])];
    let key = |headers: &dyn Headers| {
        let mut decoder = Decoder::new(&contract).unwrap();
        decoder.begin(1);
        decoder.learn(SchemaId(1), Some(&schema));
        decoder.push(&Record { headers, ..record(&value) });
        let decoded = decoder.finish().unwrap();
        match decoded.rejections.first() {
            Some(rejection) => format!("{}: {}", rejection.class, rejection.message),
            None => cell(&decoded.batch, "_key", 0),
        }
    };
    assert_eq!(key(&headers), "from-the-header");
    assert_eq!(key(&NoHeaders), "missing_field: `event_id` or `header idempotency-key` is missing");
}

#[test]
fn what_is_not_in_the_wire_format_or_not_of_its_schema_is_malformed() {
    let good = Wire::user_action(1, "a1");
    let fates = |value: &[u8]| {
        let mut decoder = decoder(&user_actions());
        decoder.push(&record(value));
        let decoded = decoder.finish().unwrap();
        decoded.rejections.first().map_or("landed".to_owned(), |found| format!("{}: {}", found.class, found.message))
    };
    assert_eq!(fates(&good.0), "landed");
    insta::assert_snapshot!(fates(br#"{"event_id": "a1"}"#), @"malformed: not in the schema registry's wire format: no zero byte with a schema id behind it");
    insta::assert_snapshot!(fates(b"\x00\x00\x00"), @"malformed: not in the schema registry's wire format: no zero byte with a schema id behind it");
    insta::assert_snapshot!(fates(b""), @"empty_value: value is empty");
    insta::assert_snapshot!(fates(&good.0[..good.0.len() - 1]), @"malformed: not Avro of its schema at byte 31: record ends too early");
    insta::assert_snapshot!(fates(&good.clone().raw(b"\x00").0), @"malformed: not Avro of its schema at byte 32: bytes are left behind the record");
    insta::assert_snapshot!(fates(&Wire::new(1).bytes(b"\xff").0), @"malformed: not Avro of its schema at byte 7: a text is not UTF-8");
    insta::assert_snapshot!(fates(&Wire::new(1).long(-3).0), @"malformed: not Avro of its schema at byte 6: a length is negative");
    insta::assert_snapshot!(fates(&Wire::new(1).long(i64::MAX).0), @"malformed: not Avro of its schema at byte 15: record ends too early");
    insta::assert_snapshot!(fates(&vec![0; (1 << 20) + 1]), @"too_large: record is longer than 1048576 bytes, bytes=`1048577`");
}

#[test]
fn no_cut_and_no_changed_byte_of_a_record_panics() {
    let value = Wire::user_action(2, "a1").some("e1").some("on").0;
    let mut decoder = decoder(&user_actions());
    for at in 5..value.len() {
        decoder.push(&record(&value[..at]));
        for byte in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut changed = value.clone();
            changed[at] = byte;
            decoder.push(&record(&changed));
        }
    }
    let decoded = decoder.finish().unwrap();
    assert_eq!(decoded.rows.len() + decoded.rejections.len(), 6 * (value.len() - 5));
    assert!(decoded.rejections.len() > value.len() - 5, "every cut is refused");
}

#[test]
fn blocks_that_claim_more_than_there_is_are_refused_at_once() {
    let nulls = r#"{"type": "array", "items": "null"}"#;
    let refused = landed(ColumnType::Json, nulls, |wire| wire.long(i64::MAX).long(0));
    assert_eq!(refused, "malformed: not Avro of its schema at byte 20: too many empty elements");
    let deep = r#"{"type": "record", "name": "Deep", "fields": [{"name": "in", "type": ["null", "Deep"]}]}"#;
    let refused = landed(ColumnType::Json, deep, |wire| wire.raw(&[2; 5_000]));
    assert!(refused.ends_with("record is nested too deep"), "{refused}");
}

#[test]
fn logical_types_keep_their_exact_values() {
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 4}"#;
    let of = |unscaled: i64| landed(ColumnType::Decimal(18, 4), decimal, |wire| wire.bytes(&unscaled.to_be_bytes()));
    assert_eq!((of(199_900), of(-1)), ("19.9900".to_owned(), "-0.0001".to_owned()));
    // Other scales than the column's: exact where they fit, rounded half away from zero where not (X4).
    let cents = decimal.replace("\"scale\": 4", "\"scale\": 2");
    assert_eq!(landed(ColumnType::Decimal(18, 4), &cents, |wire| wire.bytes(&[0x07, 0xcf])), "19.9900");
    let fine = decimal.replace("\"scale\": 4", "\"scale\": 5");
    assert_eq!(landed(ColumnType::Decimal(18, 4), &fine, |wire| wire.bytes(&[0x05])), "0.0001");
    let fixed = r#"{"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "scale": 2}"#;
    assert_eq!(landed(ColumnType::Decimal(18, 4), fixed, |wire| wire.raw(&[0xff, 0x00])), "-2.5600");

    let day = r#"{"type": "int", "logicalType": "date"}"#;
    assert_eq!(landed(ColumnType::Date, day, |wire| wire.long(20_156)), "2025-03-09");
    assert_eq!(landed(ColumnType::BigInt, day, |wire| wire.long(20_156)), "20156");
    let micros = r#"{"type": "long", "logicalType": "timestamp-micros"}"#;
    assert_eq!(
        landed(ColumnType::Timestamp, micros, |wire| wire.long(1_741_478_430_123_456)),
        "2025-03-09T00:00:30.123456Z"
    );
    let local = r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#;
    let berlin = ContractColumn { time_zone: Some("Europe/Berlin".to_owned()), ..column("v", ColumnType::Timestamp) };
    let schema = avro(&format!(r#"{{"name": "at", "type": "long"}}, {{"name": "v", "type": {local}}}"#));
    let (batch, _) = decode(&one_column(berlin), &[(7, &schema)], &[Wire::new(7).long(AT_MS / 1000).long(AT_MS)]);
    assert_eq!(cell(&batch, "v", 0), "2025-03-08T23:00:30Z");
    assert_eq!(landed(ColumnType::Double, "\"float\"", |wire| wire.raw(&0.1_f32.to_le_bytes())), "0.10000000149011612");
    assert_eq!(landed(ColumnType::Text, "\"bytes\"", |wire| wire.bytes(b"a\xe9")), "aé");
}

#[test]
fn a_writer_that_counts_in_another_unit_is_understood_by_its_schema() {
    let micros = FIELDS_V1.replace("timestamp-millis", "timestamp-micros");
    let value = Wire::new(4).text("a1").text("u1").text("click").long(AT_MS * 1000 + 7).null().null().long(0);
    let (batch, _) = decode(&user_actions(), &[(4, &avro(&micros))], &[value]);
    assert_eq!(cell(&batch, "occurred_at", 0), "2025-03-09T00:00:30.000007Z");
}

#[test]
fn an_incompatible_writer_is_quarantined_record_by_record_naming_the_field() {
    // Against the reader: user_id has become a number, action is gone, and a new kind of page has a symbol of its own.
    let fields = FIELDS_V1
        .replace(r#""user_id", "type": "string""#, r#""user_id", "type": "long""#)
        .replace(r#"{"name": "action", "type": "string"},"#, "");
    let value = Wire::new(4).text("a1").long(17).long(AT_MS).null().null().long(0);
    let (_, rejections) = decode(&user_actions(), &[(4, &avro(&fields))], &[value]);
    assert_eq!(rejections, ["missing_field: `action` is missing; `user_id` is a number, not a text"]);

    let kinds = |symbols: &str| {
        format!(
            r#"{{"name": "at", "type": "long"}}, {{"name": "kind", "type": {{"type": "enum", "name": "Kind", "symbols": [{symbols}]}}}}"#
        )
    };
    let contract = with_schema(one_column(column("kind", ColumnType::Text)), &kinds(r#""order", "refund""#));
    let newer = avro(&kinds(r#""order", "refund", "chargeback""#));
    let values = [1, 2, 3].map(|symbol| Wire::new(4).long(AT_MS / 1000).long(symbol));
    let (batch, rejections) = decode(&contract, &[(4, &newer)], &values);
    assert_eq!(cell(&batch, "kind", 0), "refund");
    assert_eq!(
        rejections,
        [
            "bad_value: `kind` is a symbol that the contract's schema does not have",
            "malformed: not Avro of its schema at byte 11: an enum has no such symbol"
        ]
    );
}

#[test]
fn a_field_that_columns_lead_into_is_read_by_path_as_in_json() {
    let inner = r#"{"name": "at", "type": "long"}, {"name": "data", "type": ["null", {"type": "record", "name": "Data", "fields": [
        {"name": "id", "type": "string"}, {"name": "mood", "type": "string"}]}]}"#;
    let mut id = column("id", ColumnType::Text);
    id.paths = vec![vec!["data".to_owned(), "id".to_owned()]];
    let value = Wire::new(4).long(AT_MS / 1000).long(1).text("d1").text("fine");
    let (batch, rejections) = decode(&one_column(id), &[(4, &avro(inner))], &[value]);
    assert_eq!(rejections, Vec::<String>::new());
    assert_eq!(
        (cell(&batch, "id", 0), cell(&batch, "_extra", 0)),
        ("d1".to_owned(), r#"{"data":{"mood":"fine"}}"#.to_owned())
    );
}

#[test]
fn schemas_of_other_kinds_are_unknown_and_say_what_they_are() {
    let protobuf = RegisteredSchema { kind: SchemaKind::Other("PROTOBUF".to_owned()), ..avro("") };
    let broken = RegisteredSchema { text: "\"string\"".to_owned(), ..avro("") };
    let values = [Wire::user_action(8, "a1"), Wire::user_action(9, "a1")];
    let (_, rejections) = decode(&user_actions(), &[(8, &protobuf), (9, &broken)], &values);
    assert_eq!(rejections, ["unknown_schema: schema 8 is no Avro schema", "unknown_schema: schema 9 is not a record"]);
}

#[test]
fn json_schema_records_are_json_behind_a_prefix_or_without_one() {
    let contract = Contract { format: Format::JsonSchema, ..one_column(column("v", ColumnType::Text)) };
    let json = RegisteredSchema { kind: SchemaKind::Json, text: "{}".to_owned(), references: Vec::new() };
    let text = br#"{"at": 1741478430, "v": "x"}"#;
    let values =
        [Wire::new(3).raw(text), Wire(text.to_vec()), Wire::new(4).raw(text), Wire::new(3).raw(b"{"), Wire::new(3)];
    let (batch, rejections) = decode(&contract, &[(3, &json)], &values);
    assert_eq!((cell(&batch, "v", 0), cell(&batch, "v", 1)), ("x".to_owned(), "x".to_owned()));
    assert_eq!(rejections[0], "unknown_schema: schema 4 is not in the registry");
    assert!(rejections[1].starts_with("malformed: not JSON at byte 1"), "{}", rejections[1]);
    assert_eq!(rejections[2], "empty_value: value is empty");
}

#[test]
fn a_file_of_an_avro_contract_holds_json() {
    let mut decoder = decoder(&user_actions());
    let line = format!(r#"{{"event_id": "a1", "user_id": "u1", "action": "click", "occurred_at": {AT_MS}}}"#);
    decoder.push(&Record { topic: None, topic_rule: None, partition: None, offset: None, ..record(line.as_bytes()) });
    let decoded = decoder.finish().unwrap();
    assert_eq!(cell(&decoded.batch, "_key", 0), "a1");
}

#[test]
fn a_contract_whose_schema_does_not_serve_its_columns_does_not_compile() {
    let fault = |fields: &str| {
        let error = Decoder::new(&with_schema(user_actions(), fields)).expect_err("a schema that does not fit");
        error.to_string()
    };
    insta::assert_snapshot!(fault(FIELDS_V1), @"schema of the contract is not usable, source=`shop.events`, path=`user_action.avsc`: column `experiment_id` reads a field that the schema does not have, field=`experiment_id`");
    let number = format!("{FIELDS_V1},{FIELDS_V2}")
        .replace(r#""user_id", "type": "string""#, r#""user_id", "type": ["null", "long"]"#);
    insta::assert_snapshot!(fault(&number), @"schema of the contract is not usable, source=`shop.events`, path=`user_action.avsc`: column `user_id` is a text, which cannot be read from a long, field=`user_id`");
    insta::assert_snapshot!(fault(r#"{"name": "x"}"#), @"schema of the contract is not usable, source=`shop.events`, path=`user_action.avsc`: does not say what `type` is, type=`field`");
}

#[test]
fn a_schema_is_told_every_column_that_it_breaks() {
    let fields = FIELDS_V1.replace(
        r#""occurred_at", "type": {"type": "long", "logicalType": "timestamp-millis"}"#,
        r#""happened_at", "type": "boolean""#,
    );
    let misfits = check_schema(&user_actions(), &avro(&fields)).unwrap();
    let columns: Vec<&str> = misfits.iter().map(|Misfit { column, .. }| column.as_str()).collect();
    assert_eq!(columns, ["occurred_at", "experiment_id", "variant"]);
    assert_eq!(check_schema(&user_actions(), &avro(&format!("{FIELDS_V1},{FIELDS_V2}"))), Ok(Vec::new()));
    assert_eq!(
        check_schema(&user_actions(), &RegisteredSchema { text: "7".to_owned(), ..avro("") }),
        Err("holds something that is no type: 7".to_owned())
    );
}

/// Every kind of type, some of them inside each other and themselves.
const ALL_KINDS: &str = r#"{"name": "at", "type": "long"}, {"name": "v", "type": ["null", "double", {"type": "map", "values": "UserAction"},
    {"type": "array", "items": ["null", "string", {"type": "enum", "name": "E", "symbols": ["a", "b"]}]},
    {"type": "fixed", "name": "F", "size": 3}, {"type": "bytes", "logicalType": "decimal", "scale": 2}, "boolean",
    {"type": "int", "logicalType": "date"}, {"type": "long", "logicalType": "timestamp-nanos"}, "float"]}"#;

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_048))]

    #[test]
    fn any_bytes_behind_a_prefix_have_one_fate(
        bytes in proptest::collection::vec(proptest::prop_oneof![0_u8..24, proptest::prelude::any::<u8>()], 0..64),
        deep in proptest::prelude::any::<bool>(),
    ) {
        let mut v = column("v", ColumnType::Json);
        if deep {
            v.paths.push(vec!["v".to_owned(), "at".to_owned()]);
        }
        let value = Wire::new(7).long(AT_MS / 1000).raw(&bytes);
        let (batch, rejections) = decode(&one_column(v), &[(7, &avro(ALL_KINDS))], &[value]);
        proptest::prop_assert_eq!(batch.num_rows() + rejections.len(), 1);
        if batch.num_rows() == 1 && cell(&batch, "v", 0) != "null" {
            let json = cell(&batch, "v", 0);
            proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{}", json);
        }
    }
}
