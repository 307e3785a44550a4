//! Properties over random records.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tidemill_project::contract::{ColumnType, Contract, ContractColumn, TimeUnit};

use super::support::{LOGIN, NOW_US, column, contract, decode, logins, record, rows, zoner};
use crate::decode::{Decoder, Pushed, RejectionClass};

fn typed() -> Contract {
    contract(vec![
        ContractColumn { required: true, ..column("num", ColumnType::BigInt) },
        ContractColumn { accepted_values: vec!["a".to_owned(), "b".to_owned()], ..column("kind", ColumnType::Text) },
        ContractColumn { min: Some(0.0), ..column("amount", ColumnType::Double) },
        column("name", ColumnType::Text),
        column("flag", ColumnType::Boolean),
        column("price", ColumnType::Decimal(38, 4)),
        ContractColumn { time_unit: Some(TimeUnit::Microsecond), ..column("at", ColumnType::Timestamp) },
    ])
}

/// What the contract says of a record, by a parser and code of another make: class of the first fault, or nothing.
fn reference_verdict(fields: &Map<String, Value>) -> Option<RejectionClass> {
    let mut faults = Vec::new();
    match fields.get("num") {
        None | Some(Value::Null) => faults.push(RejectionClass::MissingField),
        Some(Value::String(text)) if text.is_empty() => faults.push(RejectionClass::MissingField),
        Some(Value::Number(number)) if number.is_i64() => {}
        Some(Value::Number(number)) if number.is_u64() => faults.push(RejectionClass::BadValue),
        Some(Value::Number(number)) if number.as_f64().is_some_and(|n| n.fract() == 0.0 && n.abs() < 1e15) => {}
        Some(_) => faults.push(RejectionClass::WrongType),
    }
    match fields.get("kind") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text == "a" || text == "b" => {}
        Some(Value::String(_)) => faults.push(RejectionClass::BadValue),
        Some(_) => faults.push(RejectionClass::WrongType),
    }
    match fields.get("amount") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::Number(number)) if number.as_f64().is_some_and(|n| n >= 0.0) => {}
        Some(Value::Number(_)) => faults.push(RejectionClass::BadValue),
        Some(_) => faults.push(RejectionClass::WrongType),
    }
    match fields.get("flag") {
        None | Some(Value::Null | Value::Bool(_)) => {}
        Some(_) => faults.push(RejectionClass::WrongType),
    }
    faults.into_iter().min()
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1_000_000_i64..1_000_000).prop_map(|n| Value::from(f64::from(i32::try_from(n).unwrap_or(0)) / 4.0)),
        prop_oneof![Just("a".to_owned()), Just(String::new()), "\\PC{0,8}", "[0-9.]{1,5}"].prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z\"\\\\\n]{0,4}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_fields() -> impl Strategy<Value = Map<String, Value>> {
    let known = prop::sample::select(vec!["num", "kind", "amount", "flag", "x", "y", "data"]).prop_map(str::to_owned);
    prop::collection::vec((known, any_value()), 0..9).prop_map(|fields| fields.into_iter().collect())
}

/// Records of every sort: good, odd, cut off, with a byte changed, rubbish.
fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        Just(LOGIN.as_bytes().to_vec()),
        Just(
            br#"{"user_id":123,"activity":"sleep","timestamp":1741478400.5,"tz":"UTC","x":[{"y":"\u00e9"}]}"#.to_vec()
        ),
        any_fields().prop_map(|fields| Value::Object(fields).to_string().into_bytes()),
        "[{}\\[\\]\",:0-9a-e.NInfity \\\\u+-]{0,60}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..60),
    ];
    (whole, any::<prop::sample::Index>(), any::<u8>(), 0..4).prop_map(|(mut bytes, at, byte, change)| {
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            match change {
                0 => bytes.truncate(at),
                1 => bytes[at] = byte,
                _ => {}
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_panic_and_every_record_has_one_fate(payloads in prop::collection::vec(any_payload(), 1..20)) {
        for contract in [zoner(), logins(), typed()] {
            let mut decoder = Decoder::new(&contract).expect("compiles");
            decoder.begin(0);
            let mut landed = 0;
            for payload in &payloads {
                landed += usize::from(matches!(decoder.push(&record(payload)), Pushed::Landed(_)));
            }
            let decoded = decoder.finish().expect("columns");
            prop_assert_eq!(landed, decoded.batch.num_rows());
            prop_assert_eq!(landed, decoded.rows.len());
            prop_assert_eq!(payloads.len(), decoded.rows.len() + decoded.rejections.len());
            for extra in decoded.batch.column_by_name("_extra").expect("a column").as_string::<i32>().iter().flatten() {
                prop_assert!(serde_json::from_str::<Map<String, Value>>(extra).is_ok(), "{}", extra);
            }
        }
    }

    #[test]
    fn verdicts_are_those_of_a_plain_reference(mut fields in any_fields()) {
        fields.insert("at".to_owned(), json!(NOW_US));
        let verdict = decode(&typed(), Value::Object(fields.clone()).to_string());
        prop_assert_eq!(verdict.as_ref().err().map(|rejection| rejection.class), reference_verdict(&fields));
        if let Ok(decoded) = verdict {
            let num = decoded.batch.column_by_name("num").expect("a column").as_primitive::<Int64Type>().value(0);
            let expected = fields["num"].as_i64().unwrap_or_else(|| {
                fields["num"].as_f64().expect("a number").to_string().parse().expect("a whole number")
            });
            prop_assert_eq!(num, expected);
            let kind = decoded.batch.column_by_name("kind").expect("a column");
            let kind = (!kind.is_null(0)).then(|| kind.as_string::<i32>().value(0));
            prop_assert_eq!(kind, fields.get("kind").and_then(Value::as_str));
            let extra = decoded.batch.column_by_name("_extra").expect("a column").as_string::<i32>();
            let extra: Map<String, Value> = if extra.is_null(0) { Map::new() } else { serde_json::from_str(extra.value(0)).expect("JSON") };
            let known = ["num", "kind", "amount", "flag", "at"];
            fields.retain(|name, _| !known.contains(&name.as_str()));
            prop_assert_eq!(extra, fields);
        }
    }

    #[test]
    fn typed_rows_survive_the_round_trip(
        num in any::<i64>(),
        name in any::<String>(),
        amount in 0.0..1e300_f64,
        flag in any::<bool>(),
        price in -10_i128.pow(37)..10_i128.pow(37),
        at in 946_684_800_000_000..NOW_US,
        order in Just((0_usize..6).collect::<Vec<_>>()).prop_shuffle(),
        extra in any_value(),
    ) {
        let sign = if price < 0 { "-" } else { "" };
        let fields = [
            format!(r#""num":{num}"#),
            format!(r#""name":{}"#, json!(name)),
            format!(r#""amount" : {amount:e}"#),
            format!(r#""flag":{flag}, "new":{extra}"#),
            format!(r#""price":{sign}{}.{:04}"#, price.unsigned_abs() / 10_000, price.unsigned_abs() % 10_000),
            format!(r#""at":{at}"#),
        ];
        let ordered: Vec<&str> = order.iter().map(|index| fields[*index].as_str()).collect();
        let decoded = decode(&typed(), format!("{{{}}}", ordered.join(" ,")));
        let batch = decoded.expect("lands").batch;
        let column = |name: &str| batch.column_by_name(name).expect("a column");
        prop_assert_eq!(column("num").as_primitive::<Int64Type>().value(0), num);
        prop_assert_eq!(column("name").as_string::<i32>().value(0), name);
        prop_assert_eq!(column("amount").as_primitive::<Float64Type>().value(0).to_bits(), amount.to_bits());
        prop_assert_eq!(column("flag").as_boolean().value(0), flag);
        prop_assert_eq!(column("price").as_primitive::<Decimal128Type>().value(0), price);
        prop_assert_eq!(column("at").as_primitive::<TimestampMicrosecondType>().value(0), at);
        prop_assert_eq!(column("_extra").as_string::<i32>().value(0), format!(r#"{{"new":{extra}}}"#));
    }

    #[test]
    fn neighbours_and_cuts_do_not_matter(payloads in prop::collection::vec(any_payload(), 1..16), cut in 1_usize..16) {
        for contract in [zoner(), logins(), typed()] {
            let mut whole = Decoder::new(&contract).expect("compiles");
            let mut all = Vec::new();
            for chunk in payloads.chunks(cut) {
                whole.begin(chunk.len());
                for payload in chunk {
                    whole.push(&record(payload));
                }
                let decoded = whole.finish().expect("columns");
                let refusals = decoded.rejections.into_iter().map(|r| format!("{}: {}", r.class, r.message));
                all.push((rows(&decoded.batch), refusals.collect::<Vec<_>>()));
            }
            let mut apart = (Vec::new(), Vec::new());
            for payload in &payloads {
                match decode(&contract, payload) {
                    Ok(decoded) => apart.0.extend(rows(&decoded.batch)),
                    Err(rejection) => apart.1.push(format!("{}: {}", rejection.class, rejection.message)),
                }
            }
            prop_assert_eq!(all.iter().flat_map(|(rows, _)| rows).collect::<Vec<_>>(), apart.0.iter().collect::<Vec<_>>());
            prop_assert_eq!(all.iter().flat_map(|(_, bad)| bad).collect::<Vec<_>>(), apart.1.iter().collect::<Vec<_>>());
        }
    }
}
