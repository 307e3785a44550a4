//! Golden cases of the systems page, under their names.

use super::support::{LOGIN, NOW_US, cell, decode, decode_record, landed, logins, record, refusal, rows, value, zoner};
use crate::decode::{Decoder, Record, RejectionClass};
use tidemill_project::contract::{ColumnType, ContractColumn, KeyRule, TimeUnit};

#[test]
fn gx1_keys_of_zoner_and_logins() {
    let key = landed(&zoner(), r#"{"user_id": 123, "activity": "sleep", "timestamp": 1741478400.5}"#, "_key");
    assert_eq!(key, "30584ef560fbe32a840d728b09cee6f1");
    assert_eq!(landed(&logins(), LOGIN, "_key"), "d06a453e0e7e6097668a9c8a02f47bfb");
    let without = LOGIN.replace(r#""device_type": "android", "#, "");
    assert_eq!(landed(&logins(), without, "_key"), "ef6de6eb2f95c0c1fd59f10c834df488");
}

#[test]
fn gx1_key_in_nanoseconds() {
    let names = ["session_id", "device_id", "sensor"];
    let mut columns: Vec<_> = names.map(|name| super::support::column(name, ColumnType::Text)).into();
    columns.push(ContractColumn {
        time_unit: Some(TimeUnit::Nanosecond),
        ..super::support::column("at", ColumnType::BigInt)
    });
    let mut contract = super::support::contract(columns);
    contract.key = vec![KeyRule::Hash(["session_id", "device_id", "sensor", "at"].map(str::to_owned).into())];
    let payload = r#"{"session_id":"s1","device_id":"d1","sensor":"accelerometer","at":1741521605000000000}"#;
    let mut later = record(payload.as_bytes());
    later.timestamp_us = Some(1_741_521_606_000_000);
    let decoded = decode_record(&contract, &later).expect("lands");
    assert_eq!(value(&decoded, "_key"), "386ca5f8d6c6105ae2792d7624e528b7");
}

#[test]
fn gx1_keys_of_zentry() {
    use super::support::{column, contract};
    let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let timestamp = |name: &str, key: &str| ContractColumn {
        paths: vec![path(&["data", key]), path(&["occurred_at"])],
        ..column(name, ColumnType::Timestamp)
    };
    let mut entries = contract(vec![
        column("event", ColumnType::Text),
        ContractColumn {
            paths: vec![path(&["data", "sleep_entry_id"]), path(&["data", "id"])],
            ..column("sleep_entry_id", ColumnType::BigInt)
        },
        timestamp("at", "updated_at"),
    ]);
    entries.key = vec![KeyRule::Hash(path(&["event", "sleep_entry_id", "at"]))];
    let entry = r#"{"event": "sleep_entry_created", "occurred_at": "2025-04-30T06:12:03.412Z", "data": {"id": 9001, "user_id": 20,
        "sleep_duration": 27000, "sleep_start_at": "2025-04-29T22:30:00Z", "created_at": "2025-04-30T06:12:03.412Z", "updated_at": "2025-04-30T06:12:03.412Z"}}"#;
    let record_of = |payload: &'static str| Record {
        timestamp_us: None,
        clock_us: 1_746_000_000_000_000,
        ..record(payload.as_bytes())
    };
    let decoded = decode_record(&entries, &record_of(entry)).expect("lands");
    assert_eq!(value(&decoded, "_key"), "c4fe8a1657b7ad83b92e594f11ea15a7");
    assert_eq!(value(&decoded, "sleep_entry_id"), "9001");

    let mut follows = contract(vec![
        column("event", ColumnType::Text),
        ContractColumn { paths: vec![path(&["data", "id"])], ..column("follow_id", ColumnType::BigInt) },
        ContractColumn { paths: vec![path(&["data", "follower_id"])], ..column("follower_id", ColumnType::BigInt) },
        ContractColumn { paths: vec![path(&["data", "followed_id"])], ..column("followed_id", ColumnType::BigInt) },
        timestamp("at", "created_at"),
    ]);
    follows.key = vec![KeyRule::Hash(path(&["event", "follow_id", "follower_id", "followed_id", "at"]))];
    let follow = r#"{"event": "follow_created", "occurred_at": "2025-04-30T07:00:00Z", "data": {"id": 77, "follower_id": 10, "followed_id": 20, "created_at": "2025-04-30T07:00:00Z"}}"#;
    let decoded =
        decode_record(&follows, &Record { clock_us: 1_746_000_000_000_000, ..record_of(follow) }).expect("lands");
    assert_eq!(value(&decoded, "_key"), "58500abfaf75a6f2bb83956ba37d5cc8");
}

#[test]
fn gx2_five_time_forms_are_one_event() {
    let forms = [
        "1741478400.5",
        r#""1741478400.5""#,
        r#""2025-03-09T00:00:00.5Z""#,
        r#""2025-03-09T01:00:00.5+01:00""#,
        r#""2025-03-09T00:00:00.5""#,
    ];
    for form in forms {
        let payload = format!(r#"{{"user_id": 123, "activity": "sleep", "timestamp": {form}}}"#);
        let decoded = decode(&zoner(), payload).expect("lands");
        assert_eq!(value(&decoded, "_key"), "30584ef560fbe32a840d728b09cee6f1", "{form}");
        assert_eq!(decoded.rows[0].event_at_us, 1_741_478_400_500_000, "{form}");
    }
}

#[test]
fn gx3_event_times_outside_the_plausible_range() {
    let at = |time: &str| decode(&zoner(), format!(r#"{{"user_id":1,"activity":"sleep","timestamp":{time}}}"#));
    for time in ["946684800", "1741564810"] {
        assert!(at(time).is_ok(), "{time}");
    }
    for time in ["946684799", "946684799.999999", "1741564810.000001", "1741478400500", "1741478400500000000", "-1e300"]
    {
        let rejection = at(time).expect_err(time);
        assert_eq!(rejection.class, RejectionClass::EventTimeOutOfRange, "{time}");
        assert!(rejection.message.contains("`timestamp`"), "{}", rejection.message);
    }
}

#[test]
fn x5_files_use_the_runs_clock() {
    let payload = br#"{"user_id":1,"activity":"sleep","timestamp":1741564811}"#;
    let from_file = |clock_us| Record {
        timestamp_us: None,
        topic: None,
        partition: None,
        offset: None,
        clock_us,
        ..record(payload)
    };
    assert!(decode_record(&zoner(), &from_file(NOW_US + 1_000_000)).is_ok());
    assert!(decode_record(&zoner(), &from_file(NOW_US)).is_err());
}

#[test]
fn gx5_late_is_later_than_grace() {
    let mut contract = zoner();
    contract.grace = std::time::Duration::from_mins(5);
    for (timestamp_us, is_late) in [
        (Some(1_741_478_400_000_000 + 300_000_000), false),
        (Some(1_741_478_400_000_000 + 300_000_001), true),
        (Some(1_741_478_400_000_000 - 1), false),
        (None, false),
    ] {
        let payload = br#"{"user_id":1,"activity":"sleep","timestamp":1741478400}"#;
        let decoded = decode_record(&contract, &Record { timestamp_us, ..record(payload) }).expect("lands");
        assert_eq!(decoded.rows[0].is_late, is_late, "{timestamp_us:?}");
    }
}

#[test]
fn gz1_the_topic_stands_for_a_missing_activity() {
    let mut decoder = Decoder::new(&zoner()).expect("compiles");
    decoder.begin(2);
    decoder.push(&record(br#"{"user_id":123,"activity":"sleep","timestamp":1741478400.5}"#));
    decoder.push(&Record {
        topic: Some("sleep"),
        topic_rule: Some(1),
        ..record(br#"{"user_id":123,"timestamp":1741478400.5}"#)
    });
    let decoded = decoder.finish().expect("columns");
    assert_eq!(decoded.rows[0].fingerprint, decoded.rows[1].fingerprint);
    assert_eq!(cell(&decoded.batch, "activity", 1), "sleep");
    assert_eq!(decoded.topic_disagreements, 0);
}

#[test]
fn gz9_names_and_missing_fields() {
    let on = |rule: usize, payload: &str| {
        decode_record(&zoner(), &Record { topic_rule: Some(rule), ..record(payload.as_bytes()) })
    };
    let (mixed, sleep, meals) = (0, 1, 2);
    let meal = on(meals, r#"{"user_id":1,"timestamp":1741478400}"#).expect("lands");
    assert_eq!(value(&meal, "activity"), "meal");
    let renamed = on(mixed, r#"{"user_id":1,"timestamp":1741478400,"activity":"meals"}"#).expect("lands");
    assert_eq!(value(&renamed, "activity"), "meal");
    let digits = on(sleep, r#"{"user_id":"17","timestamp":1741478400}"#).expect("lands");
    assert_eq!(value(&digits, "user_id"), "17");
    let extra = on(sleep, r#"{"user_id":1,"timestamp":1741478400,"mood": "ok"}"#).expect("lands");
    assert_eq!(value(&extra, "_extra"), r#"{"mood":"ok"}"#);
    for (rule, payload, class) in [
        (mixed, r#"{"user_id":1,"timestamp":1741478400}"#, RejectionClass::MissingField),
        (sleep, r#"{"timestamp":1741478400}"#, RejectionClass::MissingField),
        (sleep, r#"{"user_id":1,"timestamp":"yesterday"}"#, RejectionClass::BadEventTime),
        (mixed, r#"{"user_id":1,"timestamp":1741478400,"activity":"swim"}"#, RejectionClass::BadValue),
        (sleep, r#"{"user_id":1,"timestamp":1741478400,"tz":"Mars/Base"}"#, RejectionClass::BadValue),
        (sleep, r#"{"user_id":1,"timestamp":1741478400,"duration_s":50401}"#, RejectionClass::BadValue),
        (sleep, r#"{"user_id":"abc","timestamp":1741478400}"#, RejectionClass::WrongType),
        (sleep, r#"{"user_id":0,"timestamp":1741478400}"#, RejectionClass::BadValue),
    ] {
        assert_eq!(on(rule, payload).expect_err(payload).class, class, "{payload}");
    }
}

#[test]
fn z5_the_payload_wins_over_its_topic_and_is_counted() {
    let payload = br#"{"user_id":1,"timestamp":1741478400,"activity":"sleep"}"#;
    let decoded = decode_record(&zoner(), &Record { topic_rule: Some(2), ..record(payload) }).expect("lands");
    assert_eq!(value(&decoded, "activity"), "sleep");
    assert_eq!(decoded.topic_disagreements, 1);
    // `meals` in the payload of the topic `meals` is the same after renaming.
    let payload = br#"{"user_id":1,"timestamp":1741478400,"activity":"meals"}"#;
    let decoded = decode_record(&zoner(), &Record { topic_rule: Some(2), ..record(payload) }).expect("lands");
    assert_eq!(decoded.topic_disagreements, 0);
}

#[test]
fn gl2_missing_fields_become_unknown() {
    for payload in [
        LOGIN.replace(r#""device_type": "android", "#, ""),
        LOGIN.replace(r#""android""#, "null"),
        LOGIN.replace(r#""android""#, r#""""#),
    ] {
        assert_eq!(landed(&logins(), payload, "device_type"), "unknown");
    }
    let bare = decode(&logins(), r#"{"timestamp":"1730570189"}"#).expect("lands");
    for name in ["user_id", "app_version", "device_type", "ip", "locale", "device_id"] {
        assert_eq!(value(&bare, name), "unknown");
    }
    for (broken, class) in [
        (LOGIN.replace(r#", "timestamp": "1730570189""#, ""), "missing_field"),
        (LOGIN.replace(r#""1730570189""#, "null"), "missing_field"),
        (LOGIN.replace(r#""1730570189""#, r#""""#), "missing_field"),
        (LOGIN.replace(r#""1730570189""#, r#""abc""#), "bad_event_time"),
        (LOGIN.replace(r#""1730570189""#, "true"), "bad_event_time"),
        (LOGIN.replace("203.0.113.9", "300.1.1.1"), "bad_value"),
        (LOGIN.replace(r#""MI""#, "7"), "wrong_type"),
        (LOGIN.replace("MI", &"x".repeat(257)), "bad_value"),
    ] {
        assert!(refusal(&logins(), &broken).starts_with(class), "{broken}");
    }
    assert_eq!(landed(&logins(), LOGIN.replace("203.0.113.9", "2001:db8::1"), "ip"), "2001:db8::1");
}

#[test]
fn gl5_string_and_integer_are_one_login() {
    let text = decode(&logins(), LOGIN).expect("lands");
    let number = decode(&logins(), LOGIN.replace(r#""1730570189""#, "1730570189")).expect("lands");
    assert_eq!(rows(&text.batch), rows(&number.batch));
    assert_eq!(text.rows[0].fingerprint, number.rows[0].fingerprint);
    assert_eq!(value(&text, "timestamp"), "1730570189");
}

#[test]
fn l2_whole_seconds_are_floored_and_the_event_time_keeps_its_fraction() {
    let decoded = decode(&logins(), LOGIN.replace("1730570189", "1730570189.999999")).expect("lands");
    assert_eq!(value(&decoded, "timestamp"), "1730570189");
    assert_eq!(value(&decoded, "event_at"), "2024-11-02T17:56:29.999999Z");
    assert_eq!(decoded.partitions[0].event_hour, Some(17));
    assert_eq!(decoded.partitions[0].values()["event_date"], Some("2024-11-02".to_owned()));
}
