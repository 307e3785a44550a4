//! Column types and rules, one by one.

use arrow::datatypes::DataType;
use tidemill_project::contract::{ColumnType, ContractColumn, KeyRule, PathsWhen, TextFormat, TimeUnit};

use super::support::{column, contract, decode, landed, refusal, value};
use crate::decode::{Decoded, Decoder};

fn only(column: ContractColumn) -> tidemill_project::contract::Contract {
    contract(vec![column])
}

fn with(value: &str) -> String {
    format!(r#"{{"at":1741478400,"v":{value}}}"#)
}

fn check(contract: &tidemill_project::contract::Contract, good: &[(&str, &str)], bad: &[(&str, &str)]) {
    for (json, value) in good {
        assert_eq!(landed(contract, with(json), "v"), *value, "{json}");
    }
    for (json, class) in bad {
        assert!(refusal(contract, with(json)).starts_with(&format!("{class}: `v` ")), "{json}");
    }
}

#[test]
fn doubles_are_the_nearest_ones() {
    check(
        &only(column("v", ColumnType::Double)),
        &[
            ("0.1", "0.1"),
            ("1", "1.0"),
            ("-0.0", "-0.0"),
            ("1e-400", "0.0"),
            ("17976931348623157e292", "1.7976931348623157e308"),
        ],
        &[("1e309", "bad_value"), (r#""1""#, "wrong_type"), ("[]", "wrong_type")],
    );
    check(
        &only(ContractColumn { accept_text: true, min: Some(-1.0), ..column("v", ColumnType::Double) }),
        &[(r#""1.5""#, "1.5"), (r#""1e2""#, "100.0"), (r#""""#, "null"), ("-1", "-1.0")],
        &[
            (r#""nan""#, "bad_value"),
            (r#""Infinity""#, "bad_value"),
            (r#""fast""#, "wrong_type"),
            ("-1.0000001", "bad_value"),
        ],
    );
}

#[test]
fn decimals_are_rounded_from_their_text() {
    check(
        &only(ContractColumn { accept_text: true, max: Some(100.01), ..column("v", ColumnType::Decimal(18, 4)) }),
        &[
            ("19.99", "19.9900"),
            (r#""19.9900""#, "19.9900"),
            ("1.00000", "1.0000"),
            ("-5e-4", "-0.0005"),
            ("100.01", "100.0100"),
            ("0.00005", "0.0001"),
            ("-0.00005", "-0.0001"),
            ("0.000049999999999999999999", "0.0000"),
            ("0", "0.0000"),
        ],
        &[
            ("99999999999999.99995", "bad_value"),
            ("1e15", "bad_value"),
            ("100.01000001", "bad_value"),
            ("100.0101", "bad_value"),
            (r#""x""#, "wrong_type"),
        ],
    );
}

#[test]
fn bounds_are_exact_for_large_integers() {
    // 2^53 is a double, 2^53 + 1 is not: compared as doubles the two would be equal.
    check(
        &only(ContractColumn { max: Some(9_007_199_254_740_992.0), min: Some(0.5), ..column("v", ColumnType::BigInt) }),
        &[("9007199254740992", "9007199254740992"), ("1", "1")],
        &[("9007199254740993", "bad_value"), ("0", "bad_value")],
    );
    check(
        &only(ContractColumn { max: Some(9.5), min: Some(-9.5), ..column("v", ColumnType::BigInt) }),
        &[("9", "9"), ("-9", "-9")],
        &[("10", "bad_value"), ("-10", "bad_value")],
    );
}

#[test]
fn booleans_and_dates() {
    check(
        &only(column("v", ColumnType::Boolean)),
        &[("true", "true"), ("false", "false"), ("null", "null"), (r#""""#, "null")],
        &[("1", "wrong_type"), (r#""true""#, "wrong_type")],
    );
    check(
        &only(column("v", ColumnType::Date)),
        &[(r#""2024-02-29""#, "2024-02-29"), (r#""""#, "null")],
        &[(r#""2025-02-29""#, "bad_event_time"), ("20156", "bad_event_time")],
    );
}

#[test]
fn other_times_than_the_event_time_have_their_own_fates() {
    check(
        &only(ContractColumn { time_unit: Some(TimeUnit::Millisecond), ..column("v", ColumnType::Timestamp) }),
        &[
            ("1741478400500", "2025-03-09T00:00:00.500Z"),
            ("1741478400500.0005", "2025-03-09T00:00:00.500001Z"),
            (r#""0001-01-01T00:00:00Z""#, "0001-01-01T00:00:00Z"),
        ],
        &[("1e300", "bad_value"), (r#""soon""#, "bad_event_time"), (r#""2025-03-09""#, "bad_event_time")],
    );
    check(
        &only(ContractColumn { time_zone: Some("Europe/Berlin".to_owned()), ..column("v", ColumnType::Timestamp) }),
        &[(r#""2025-03-09T01:00:00""#, "2025-03-09T00:00:00Z"), (r#""2025-03-09T01:00:00Z""#, "2025-03-09T01:00:00Z")],
        &[("1741478400", "bad_event_time")],
    );
}

#[test]
fn text_rules() {
    check(
        &only(ContractColumn { max_bytes: Some(4), ..column("v", ColumnType::Text) }),
        &[(r#""äö""#, "äö"), (r#""""#, "")],
        &[(r#""äöü""#, "bad_value"), ("1", "wrong_type"), ("{}", "wrong_type"), ("true", "wrong_type")],
    );
    check(
        &only(ContractColumn { text_format: Some(TextFormat::Uuid), ..column("v", ColumnType::Text) }),
        &[(r#""9f0c2a7e-1111-4000-8000-00000000000A""#, "9f0c2a7e-1111-4000-8000-00000000000A")],
        &[
            (r#""9f0c2a7e11114000800000000000000a""#, "bad_value"),
            (r#""9f0c2a7e-1111-4000-8000-00000000000é""#, "bad_value"),
        ],
    );
    check(
        &only(ContractColumn { text_format: Some(TextFormat::TimeZone), ..column("v", ColumnType::Text) }),
        &[(r#""America/New_York""#, "America/New_York"), (r#""UTC""#, "UTC")],
        &[(r#""america/new_york""#, "bad_value"), (r#""CEST""#, "bad_value")],
    );
}

#[test]
fn json_columns_keep_the_text() {
    check(
        &only(column("v", ColumnType::Json)),
        &[
            (r#"{"a": [1, 2.50]}"#, r#"{"a": [1, 2.50]}"#),
            (r#""a\u0041""#, r#""a\u0041""#),
            (r#""plain""#, r#""plain""#),
            ("1e2", "1e2"),
            ("true", "true"),
            ("false", "false"),
            ("null", "null"),
            (r#"[""]"#, r#"[""]"#),
            (r#""""#, "null"),
        ],
        &[],
    );
}

#[test]
fn defaults_take_the_place_of_nothing_only() {
    let contract = contract(vec![
        ContractColumn { on_missing: Some("7".to_owned()), required: true, ..column("v", ColumnType::BigInt) },
        ContractColumn { on_missing: Some("unknown".to_owned()), ..column("w", ColumnType::Text) },
    ]);
    check(&contract, &[("null", "7"), (r#""""#, "7"), ("8", "8")], &[(r#""x""#, "wrong_type")]);
    // Without `empty_is_missing` an empty text is a text.
    assert_eq!(landed(&contract, r#"{"at":1741478400,"w":""}"#, "w"), "");
    assert_eq!(landed(&contract, r#"{"at":1741478400}"#, "w"), "unknown");
}

#[test]
fn the_first_path_that_holds_a_value_counts() {
    let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let contract = only(ContractColumn {
        paths: vec![path(&["data", "sleep_entry_id"]), path(&["data", "id"]), path(&["id"])],
        required: true,
        ..column("v", ColumnType::BigInt)
    });
    let value = |fields: &str| landed(&contract, format!(r#"{{"at":1741478400,{fields}}}"#), "v");
    assert_eq!(value(r#""data":{"id":1,"sleep_entry_id":2}"#), "2");
    assert_eq!(value(r#""data":{"id":1,"sleep_entry_id":null},"id":3"#), "1");
    assert_eq!(value(r#""data":null,"id":3"#), "3");
    assert_eq!(value(r#""data":{"id":1},"id":3,"data":{"x":4}"#), "3");
    insta::assert_snapshot!(
        refusal(&contract, r#"{"at":1741478400,"data":7}"#),
        @"missing_field: `data.sleep_entry_id` or `data.id` or `id` is missing; `data` is not an object"
    );
}

#[test]
fn unknown_fields_inside_traversed_objects_keep_their_place() {
    let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let contract =
        only(ContractColumn { paths: vec![path(&["data", "inner", "id"])], ..column("v", ColumnType::BigInt) });
    let extra = |fields: &str| landed(&contract, format!(r#"{{"at":1741478400,{fields}}}"#), "_extra");
    assert_eq!(
        extra(r#""a":1,"data":{"b":2,"inner":{"id":1,"c":{"d":[]}},"e":3},"f":4"#),
        r#"{"a":1,"data":{"b":2,"inner":{"c":{"d":[]}},"e":3},"f":4}"#
    );
    assert_eq!(extra(r#""data":{"inner":{"id":1}}"#), "null");
    assert_eq!(extra(r#""z":0,"data":{"b":2},"data":{"inner":{"id":1}}"#), r#"{"z":0}"#);
    assert_eq!(extra(r#""data":{"b":2},"z":0,"data":{"b":3}"#), r#"{"z":0,"data":{"b":3}}"#);
    assert_eq!(extra(r#""data":{"b":2},"data":null"#), "null");
}

#[test]
fn required_when_looks_at_another_column() {
    let contract = contract(vec![
        ContractColumn {
            required_when: Some(("kind".to_owned(), vec!["made".to_owned()])),
            ..column("v", ColumnType::BigInt)
        },
        ContractColumn { aliases: vec![("created".to_owned(), "made".to_owned())], ..column("kind", ColumnType::Text) },
    ]);
    assert!(refusal(&contract, r#"{"at":1741478400,"kind":"created"}"#).starts_with("missing_field: `v`"));
    assert!(decode(&contract, r#"{"at":1741478400,"kind":"created","v":1}"#).is_ok());
    assert!(decode(&contract, r#"{"at":1741478400,"kind":"gone"}"#).is_ok());
    assert!(decode(&contract, r#"{"at":1741478400}"#).is_ok());
}

#[test]
fn required_without_looks_for_another_column() {
    let contract = contract(vec![
        column("id", ColumnType::BigInt),
        ContractColumn { required_without: Some("id".to_owned()), ..column("v", ColumnType::BigInt) },
    ]);
    assert!(refusal(&contract, r#"{"at":1741478400}"#).starts_with("missing_field: `v`"));
    assert!(refusal(&contract, r#"{"at":1741478400,"id":null}"#).starts_with("missing_field: `v`"));
    assert!(decode(&contract, r#"{"at":1741478400,"id":1}"#).is_ok());
    assert!(decode(&contract, r#"{"at":1741478400,"v":1}"#).is_ok());
}

#[test]
fn a_column_is_read_from_another_path_where_a_column_before_it_says_so() {
    let when = PathsWhen {
        column: "kind".to_owned(),
        values: vec!["gone".to_owned()],
        paths: vec![vec!["data".to_owned(), "gone_at".to_owned()], vec!["sent".to_owned()]],
    };
    let kind = ContractColumn {
        aliases: vec![("destroyed".to_owned(), "gone".to_owned())],
        ..column("kind", ColumnType::Text)
    };
    let v = ContractColumn { paths_when: Some(when), ..column("v", ColumnType::BigInt) };
    let both = contract(vec![kind.clone(), v.clone()]);
    let read = |fields: &str| landed(&both, format!(r#"{{"at":1741478400,{fields}}}"#), "v");
    assert_eq!(read(r#""v":1,"sent":2,"kind":"made""#), "1");
    assert_eq!(read(r#""v":1,"sent":2"#), "1");
    assert_eq!(read(r#""v":1,"sent":2,"kind":"destroyed""#), "2");
    assert_eq!(read(r#""v":1,"sent":2,"data":{"gone_at":3},"kind":"gone""#), "3");
    assert_eq!(read(r#""v":1,"kind":"gone""#), "null", "its usual path does not count then");
    assert!(Decoder::new(&contract(vec![v, kind])).is_err(), "what decides must stand before");
}

#[test]
fn structs_and_lists() {
    let item = ColumnType::Struct(vec![
        ("sku".to_owned(), ColumnType::Text),
        ("count".to_owned(), ColumnType::BigInt),
        ("price".to_owned(), ColumnType::Decimal(10, 2)),
        ("when".to_owned(), ColumnType::Timestamp),
    ]);
    let contract = only(column("v", ColumnType::List(Box::new(item))));
    let good = r#"[{"sku":"a\n","count":2,"price":1.5,"when":"2025-03-09T00:00:00Z"}, null, {"count":1,"count":3}]"#;
    let decoded: Decoded = decode(&contract, with(good)).expect("lands");
    assert_eq!(
        value(&decoded, "v"),
        "[{sku: a\n, count: 2, price: 1.50, when: 2025-03-09T00:00:00Z}, null, {sku: null, count: 3, price: null, when: null}]"
    );
    assert_eq!(value(&decoded, "_extra"), "null");
    check(&contract, &[("[]", "[]"), ("null", "null")], &[("{}", "wrong_type")]);
    insta::assert_snapshot!(
        refusal(&contract, with(r#"[{"sku":1}, 7, {"price":1e8}]"#)),
        @"wrong_type: `v[0].sku` is a number, not a text; `v[1]` is a number, not an object; `v[2].price` does not fit 10 digits with 2 decimals"
    );
    // What a struct does not name is not lost: the whole value goes to `_extra` as it stands.
    assert_eq!(landed(&contract, with(r#"[{"sku":"a","new": 1}]"#), "_extra"), r#"{"v":[{"sku":"a","new": 1}]}"#);
}

#[test]
fn the_schema_is_the_raw_tables() {
    let mut contract = contract(vec![column("v", ColumnType::Decimal(10, 2))]);
    contract.partition_by = tidemill_project::contract::PartitionBy::Hour;
    let schema = Decoder::new(&contract).expect("compiles").schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(
        names,
        [
            "v",
            "at",
            "_key",
            "_topic",
            "_partition",
            "_offset",
            "_timestamp",
            "_ingested_at",
            "_extra",
            "event_at",
            "event_date",
            "event_hour"
        ]
    );
    assert_eq!(schema.field(0).data_type(), &DataType::Decimal128(10, 2));
    let decoded = decode(&contract, with("1.5")).expect("lands");
    let stamped = Decoded::stamp(&decoded.batch, 7).expect("a decoder's batch");
    assert_eq!(stamped.schema().fields().as_ref(), &schema.fields()[..10]);
    assert_eq!(super::support::cell(&stamped, "_ingested_at", 0), "1970-01-01T00:00:00.000007Z");
}

#[test]
fn contracts_that_cannot_be_decoded_are_refused_when_they_are_compiled() {
    let error = |change: fn(&mut tidemill_project::contract::Contract)| {
        let mut contract = only(column("v", ColumnType::BigInt));
        change(&mut contract);
        Decoder::new(&contract).expect_err("a broken contract").to_string()
    };
    insta::assert_snapshot!(error(|c| c.event_time.column = "then".to_owned()), @"contract names a column that it does not declare, source=`shop.events`, place=`event_time`, column=`then`");
    insta::assert_snapshot!(error(|c| c.event_time.column = "v".to_owned()), @"contract cannot be decoded: the event time must be a timestamp, a date, or a bigint with a unit, source=`shop.events`, column=`v`");
    insta::assert_snapshot!(error(|c| c.key = vec![KeyRule::Field("id".to_owned())]), @"contract names a column that it does not declare, source=`shop.events`, place=`idempotency_key`, column=`id`");
    insta::assert_snapshot!(error(|c| c.columns[0].on_missing = Some("seven".to_owned())), @"contract gives a value that its column does not take, source=`shop.events`, column=`v`, place=`on_missing`");
}
