//! What becomes of broken and odd records. `docs/records.md` refers to these tests by name.

use tidemill_project::contract::{ColumnType, ContractColumn, KeyRule, OnExtra};

use super::support::{column, contract, decode, decode_all, decode_record, landed, record, refusal, value};
use crate::decode::{Decoded, Decoder, NoHeaders, Pushed, Record, RejectionClass};

const AT: &str = r#""at":1741478400"#;

fn shop() -> tidemill_project::contract::Contract {
    contract(vec![
        column("name", ColumnType::Text),
        ContractColumn { required: true, ..column("num", ColumnType::BigInt) },
        column("amount", ColumnType::Double),
        column("tags", ColumnType::Json),
    ])
}

fn with(fields: &str) -> String {
    format!(r#"{{{AT},"num":1,{fields}}}"#)
}

#[test]
fn null_values_are_tombstones() {
    let mut decoder = Decoder::new(&shop()).expect("compiles");
    decoder.begin(3);
    assert_eq!(decoder.push(&record(with(r#""x":1"#).as_bytes())), Pushed::Landed(0));
    assert_eq!(decoder.push(&Record { payload: None, ..record(b"") }), Pushed::Tombstone);
    assert_eq!(decoder.push(&record(with(r#""x":1"#).as_bytes())), Pushed::Landed(1));
    let decoded = decoder.finish().expect("columns");
    assert_eq!(decoded.rows.iter().map(|row| row.record).collect::<Vec<_>>(), [0, 2]);
    assert!(decoded.rejections.is_empty());
}

#[test]
fn empty_values_are_refused() {
    for payload in ["", " ", "\n\t \r\n", "\u{feff}", "\u{feff} "] {
        assert_eq!(refusal(&shop(), payload), "empty_value: value is empty");
    }
}

#[test]
fn records_above_the_limit_are_refused_whatever_they_hold() {
    let mut small = shop();
    small.max_record_bytes = 40;
    let fits = format!("{:<40}", format!(r#"{{{AT},"num":1}}"#));
    assert!(decode(&small, &fits).is_ok());
    insta::assert_snapshot!(refusal(&small, format!("{fits} ")), @"too_large: record is longer than 40 bytes, bytes=`41`");
    assert!(refusal(&small, " ".repeat(41)).starts_with("too_large"));
}

#[test]
fn what_is_no_json_object_is_malformed() {
    for payload in [
        "[]",
        "7",
        "null",
        r#""text""#,
        "{",
        r#"{"a""#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r"{a:1}",
        "{'a':1}",
        "nul",
        r#"{"a":01}"#,
        r#"{"a":1e}"#,
        r#"{"a":.5}"#,
        r#"{"a":+1}"#,
        r#"{"a":0x1}"#,
        r#"{"a":"\x"}"#,
        "// {}\n{}",
        "{\"a\":\"\u{1}\"}",
        "<xml/>",
    ] {
        assert!(refusal(&shop(), payload).starts_with("malformed"), "{payload}");
    }
    insta::assert_snapshot!(refusal(&shop(), "[]"), @"malformed: not a JSON object");
    insta::assert_snapshot!(refusal(&shop(), r#"{"num":1"#), @"malformed: not JSON at byte 8: EOF while parsing an object");
}

#[test]
fn bytes_behind_the_object_are_malformed() {
    let good = format!(r#"{{{AT},"num":1}}"#);
    for tail in ["x", "{}", ",", "\0", &good] {
        assert!(refusal(&shop(), format!("{good}{tail}")).starts_with("malformed"), "{tail}");
    }
    assert!(decode(&shop(), format!("\r\n {good} \n")).is_ok());
}

#[test]
fn invalid_utf8_is_malformed_even_where_nobody_reads() {
    let mut payload = with(r#""unknown":"?""#).into_bytes();
    let at = payload.iter().position(|byte| *byte == b'?').expect("there is one");
    payload[at] = 0xff;
    assert_eq!(refusal(&shop(), &payload), format!("malformed: not UTF-8 at byte {at}"));
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let decoded = decode(&shop(), format!("\u{feff}{}", with(r#""name":"ü""#))).expect("lands");
    assert_eq!(value(&decoded, "name"), "ü");
}

#[test]
fn lone_surrogates_are_malformed_and_pairs_are_read() {
    for text in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800A", r"\ud8", r"\udc00\ud800"] {
        assert!(refusal(&shop(), with(&format!(r#""name":"{text}""#))).starts_with("malformed"), "{text}");
        assert!(refusal(&shop(), with(&format!(r#""unread":"{text}""#))).starts_with("malformed"), "{text}");
    }
    assert_eq!(landed(&shop(), with(r#""name":"\ud83d\ude00 \u00e9\/""#), "name"), "😀 é/");
}

#[test]
fn u0000_in_a_text_is_kept() {
    assert_eq!(landed(&shop(), with(r#""name":"a\u0000b""#), "name"), "a\0b");
}

#[test]
fn of_a_repeated_key_the_last_value_counts() {
    let decoded = decode(&shop(), format!(r#"{{{AT},"num":"no number","num":1,"n\u0075m":2,"x":1,"y":2,"x":3}}"#));
    let decoded = decoded.expect("lands");
    assert_eq!(value(&decoded, "num"), "2");
    assert_eq!(value(&decoded, "_extra"), r#"{"y":2,"x":3}"#);
    assert!(refusal(&shop(), format!(r#"{{{AT},"num":1,"num":null}}"#)).starts_with("missing_field"));
}

#[test]
fn many_repeated_unknown_keys_are_found_too() {
    let fields: Vec<String> = (0..40).map(|index| format!(r#""k{}":{index}"#, index % 20)).collect();
    let kept: Vec<String> = (20..40).map(|index| format!(r#""k{}":{index}"#, index % 20)).collect();
    assert_eq!(landed(&shop(), with(&fields.join(",")), "_extra"), format!("{{{}}}", kept.join(",")));
}

#[test]
fn nesting_is_limited_to_128_levels() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    for field in ["tags", "unknown"] {
        assert!(decode(&shop(), with(&format!(r#""{field}":{}"#, nested(127)))).is_ok());
        for levels in [128, 199, 200, 300, 100_000] {
            let refused = refusal(&shop(), with(&format!(r#""{field}":{}"#, nested(levels))));
            assert_eq!(refused, "malformed: nested deeper than 128 levels", "{field} {levels}");
        }
    }
    // Brackets inside strings do not nest.
    assert!(decode(&shop(), with(&format!(r#""tags":["{}\"["]"#, "[".repeat(400)))).is_ok());
}

#[test]
fn nan_and_infinities_are_bad_values() {
    for literal in ["NaN", "Infinity", "-Infinity"] {
        for field in ["amount", "num", "tags", "unknown"] {
            let payload = format!(r#"{{{AT},"num":1,"{field}":{literal}}}"#);
            assert!(refusal(&shop(), &payload).starts_with(&format!("bad_value: `{field}`")), "{payload}");
            let payload = format!(r#"{{{AT},"num":1,"{field}":[1,{{"x":{literal}}}]}}"#);
            assert!(refusal(&shop(), &payload).starts_with("bad_value"), "{payload}");
        }
        assert!(refusal(&shop(), format!(r#"{{"at":{literal},"num":1}}"#)).starts_with("bad_event_time"));
    }
    assert!(refusal(&shop(), with(r#""amount":nan"#)).starts_with("malformed"));
    assert!(refusal(&shop(), with(r#""amount":NaN,"#)).starts_with("malformed"));
    assert_eq!(landed(&shop(), with(r#""name":"NaN","x":["Infinity"]"#), "name"), "NaN");
    assert!(refusal(&shop(), with(r#""amount":1e400"#)).starts_with("bad_value"));
}

#[test]
fn integers_are_exact_over_all_64_bits() {
    for (text, value) in [
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9007199254740993", "9007199254740993"),
        ("9007199254740993.0", "9007199254740993"),
        ("1e3", "1000"),
        ("-0", "0"),
        ("12300e-2", "123"),
    ] {
        assert_eq!(landed(&shop(), format!(r#"{{{AT},"num":{text}}}"#), "num"), value);
    }
    for (text, class) in [
        ("9223372036854775808", "bad_value"),
        ("-9223372036854775809", "bad_value"),
        ("1e400", "bad_value"),
        ("1.5", "wrong_type"),
        ("1e-1", "wrong_type"),
        (r#""1""#, "wrong_type"),
        ("true", "wrong_type"),
        ("[1]", "wrong_type"),
        ("{}", "wrong_type"),
        (r#""""#, "missing_field"),
        ("null", "missing_field"),
    ] {
        assert!(refusal(&shop(), format!(r#"{{{AT},"num":{text}}}"#)).starts_with(class), "{text}");
    }
}

#[test]
fn the_first_class_wins_and_all_faults_are_named() {
    let mut contract = shop();
    contract.columns[2].min = Some(0.0);
    insta::assert_snapshot!(
        refusal(&contract, r#"{"at":"soon","name":7,"amount":-1}"#),
        @"missing_field: `num` is missing; `name` is a number, not a text; `at` is no time; `amount` is less than 0"
    );
    insta::assert_snapshot!(
        refusal(&contract, r#"{"at":1,"num":1,"amount":-1}"#),
        @"event_time_out_of_range: `at` is earlier than the contract's earliest event time; `amount` is less than 0"
    );
}

#[test]
fn a_message_never_quotes_the_payload() {
    let secret = "123-45-6789";
    for payload in [
        with(&format!(r#""name":{{"x":"{secret}"}}"#)),
        format!(r#"{{"at":"{secret}","num":"{secret}"}}"#),
        format!(r#"{{{AT},"num":"{secret}""#),
    ] {
        assert!(!refusal(&shop(), &payload).contains("6789"), "{payload}");
    }
}

#[test]
fn unknown_fields_are_kept_as_they_stand() {
    let payload = with(r#""b" : [1,  2.50], "a":{"x": null} ,"\u0061b":"\n", "tags": {"k" :1}"#);
    let decoded = decode(&shop(), payload).expect("lands");
    assert_eq!(value(&decoded, "_extra"), r#"{"b":[1,  2.50],"a":{"x": null},"\u0061b":"\n"}"#);
    assert_eq!(value(&decoded, "tags"), r#"{"k" :1}"#);
    assert_eq!(landed(&shop(), format!(r#"{{{AT},"num":1}}"#), "_extra"), "null");
}

#[test]
fn unknown_fields_can_be_dropped_or_refused() {
    let mut contract = shop();
    contract.on_extra = OnExtra::Drop;
    assert_eq!(landed(&contract, with(r#""mood":"ok""#), "_extra"), "null");
    contract.on_extra = OnExtra::Quarantine;
    assert_eq!(refusal(&contract, with(r#""mood":"ok""#)), "bad_value: `mood` is not in the contract");
    assert!(decode(&contract, format!(r#"{{{AT},"num":1}}"#)).is_ok());
}

#[test]
fn keys_come_from_the_first_rule_that_yields_one() {
    let mut contract = shop();
    contract.columns.push(column("event_id", ColumnType::Text));
    contract.key = vec![KeyRule::Field("event_id".to_owned()), KeyRule::Header("idempotency-key".to_owned())];
    let headers = [("idempotency-key", b"old".as_slice()), ("idempotency-key", b"h1".as_slice())];
    let key_of = |payload: &str, with_header: bool| {
        let mut record = record(payload.as_bytes());
        record.headers = if with_header { &headers } else { &NoHeaders };
        decode_record(&contract, &record).map(|decoded: Decoded| value(&decoded, "_key"))
    };
    assert_eq!(key_of(&with(r#""event_id":"a\"17""#), true), Ok("a\"17".to_owned()));
    for absent in [r#""event_id":null"#, r#""event_id":"""#, r#""x":1"#] {
        assert_eq!(key_of(&with(absent), true), Ok("h1".to_owned()), "{absent}");
        let rejection = key_of(&with(absent), false).expect_err("no key");
        assert_eq!(rejection.class, RejectionClass::MissingField);
        assert_eq!(rejection.message, "`event_id` or `header idempotency-key` is missing");
    }
    let mut last_resort = shop();
    last_resort.key = vec![KeyRule::Coordinates];
    assert_eq!(landed(&last_resort, with(r#""x":1"#), "_key"), "events/0/7");
}

#[test]
fn a_batch_of_nothing_but_bad_records_is_empty_rows_and_all_rejections() {
    let decoded = decode_all(&shop(), &[b"[]", b"", b"{}", b"\xff"]);
    assert_eq!(decoded.batch.num_rows(), 0);
    let classes: Vec<_> = decoded.rejections.iter().map(|r| (r.record, r.class.as_str())).collect();
    assert_eq!(classes, [(0, "malformed"), (1, "empty_value"), (2, "missing_field"), (3, "malformed")]);
}

#[test]
fn a_hostile_number_of_faults_makes_a_short_message() {
    let mut contract = shop();
    contract.columns.push(column("list", ColumnType::List(Box::new(ColumnType::BigInt))));
    let list = vec![r#""x""#; 100_000].join(",");
    let refused = refusal(&contract, with(&format!(r#""list":[{list}]"#)));
    assert!(refused.len() < 4_000 && refused.ends_with("; and 99968 more"), "{}", refused.len());
}
