//! Golden cases of SYSTEMS.md, at the sinks: the models' rows are given.

use serde_json::{Value, json};
use tidemill_publish::{Emit, Publication, Target};

use crate::rows::messages;
use crate::world::{World, message, tombstone};

fn topic(name: &str) -> Target {
    Target::Topic { topic: name.into() }
}

const BOTS: &str = "user_id TEXT, window_start TS, window_end TS, clicks BIGINT, threshold BIGINT, late_clicks BIGINT, is_final BOOLEAN";

fn bots(clicks: u32, late: u32, is_final: bool) -> Value {
    json!([{"user_id": "u7", "window_start": "2025-03-09T12:00:00Z", "window_end": "2025-03-09T12:01:00Z",
        "clicks": clicks, "threshold": 100, "late_clicks": late, "is_final": is_final}])
}

fn bot_message(clicks: u32, late: u32) -> (String, Option<String>) {
    let value = format!(
        r#"{{"alert_id":"u7/2025-03-09T12:00:00.000000Z","user_id":"u7","window_start":"2025-03-09T12:00:00.000000Z","window_end":"2025-03-09T12:01:00.000000Z","clicks":{clicks},"threshold":100,"late_clicks":{late}}}"#
    );
    message("u7", &value)
}

/// GC11 (X28, C22): one alert, then corrected.
#[tokio::test(flavor = "multi_thread")]
async fn gc11_one_alert_then_corrected() {
    let world = World::new();
    let alerts =
        messages("potential_bots", topic("alerts.potential-bots"), &["user_id", "window_start"], Emit::Alert, Some("user_id"));
    world.build("potential_bots", BOTS, &bots(101, 0, false), "2025-03-09T12:00:30Z").await;
    assert_eq!(world.publish(&alerts).await, [bot_message(101, 0)], "at the first count above the threshold");
    world.build("potential_bots", BOTS, &bots(121, 0, false), "2025-03-09T12:00:50Z").await;
    assert_eq!(world.publish(&alerts).await, [], "the window is open");
    world.advance("potential_bots", "2025-03-09T12:01:00Z").await;
    assert_eq!(world.publish(&alerts).await, [bot_message(121, 0)], "closed, corrected");
    world.build("potential_bots", BOTS, &bots(121, 0, true), "2025-03-09T12:06:00Z").await;
    assert_eq!(world.publish(&alerts).await, [], "becoming final is no change");
    world.build("potential_bots", BOTS, &bots(121, 0, true), "2025-03-09T12:06:00Z").await;
    assert_eq!(world.publish(&alerts).await, [], "a rebuild in place");
    world.drop_model("potential_bots").await;
    world.build("potential_bots", BOTS, &bots(121, 0, true), "2025-03-09T12:06:00Z").await;
    assert_eq!(world.publish(&alerts).await, [], "a rebuild of the table");
    world.build("potential_bots", BOTS, &bots(122, 1, true), "2025-03-09T12:20:00Z").await;
    assert_eq!(world.publish(&alerts).await, [bot_message(122, 1)], "one late click");
}

/// X28: an alert whose row did not change until its window closed is not sent again.
#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_was_right_is_sent_once() {
    let world = World::new();
    let alerts =
        messages("potential_bots", topic("alerts.potential-bots"), &["user_id", "window_start"], Emit::Alert, Some("user_id"));
    world.build("potential_bots", BOTS, &bots(101, 0, false), "2025-03-09T12:00:30Z").await;
    assert_eq!(world.publish(&alerts).await.len(), 1);
    world.advance("potential_bots", "2025-03-09T12:01:00Z").await;
    assert_eq!(world.publish(&alerts).await, []);
}

const WINDOWS: &str = "session_id TEXT, device_id TEXT, window_start TS, window_end TS, activity TEXT, confidence DOUBLE, avg_magnitude DOUBLE, sample_count BIGINT, late_samples BIGINT, is_final BOOLEAN";

/// Windows of session s1, device d1, on 2025-03-09: start, end, activity, confidence, average, samples, late samples.
fn windows(all: &[(&str, &str, &str, f64, f64, u32, u32)]) -> Value {
    let rows = all.iter().map(|(start, end, activity, confidence, average, samples, late)| {
        json!({"session_id": "s1", "device_id": "d1", "window_start": format!("2025-03-09T{start}Z"),
            "window_end": format!("2025-03-09T{end}Z"), "activity": activity, "confidence": confidence, "avg_magnitude": average,
            "sample_count": samples, "late_samples": late, "is_final": false})
    });
    Value::Array(rows.collect())
}

fn processed_activity() -> Publication {
    let key = Some("{session_id}/{device_id}");
    messages("activity_windows", topic("processed_activity"), &["session_id", "device_id", "window_start"], Emit::OnClose, key)
}

/// GA6 (A17): a late reading changes closed windows, which are sent again; the others are not.
#[tokio::test(flavor = "multi_thread")]
async fn ga6_a_late_reading_sends_the_windows_that_it_changed() {
    let world = World::new();
    let before = [
        ("11:59:52", "12:00:02", "Stationary", 1.0, 1.0, 1, 0),
        ("11:59:54", "12:00:04", "Stationary", 0.5, 1.5, 2, 0),
        ("12:00:02", "12:00:12", "Walking", 1.0, 2.0, 1, 0),
    ];
    world.build("activity_windows", WINDOWS, &windows(&before), "2025-03-09T12:00:03Z").await;
    let sent = world.publish(&processed_activity()).await;
    assert_eq!(
        sent,
        [message(
            "s1/d1",
            r#"{"session_id":"s1","device_id":"d1","window_start":"2025-03-09T11:59:52.000000Z","window_end":"2025-03-09T12:00:02.000000Z","activity":"Stationary","confidence":1.0,"avg_magnitude":1.0,"sample_count":1,"late_samples":0}"#
        )],
        "only one window is closed"
    );
    world.advance("activity_windows", "2025-03-09T12:00:12Z").await;
    assert_eq!(world.publish(&processed_activity()).await.len(), 2, "W alone closes the others");
    let after = [before[0], ("11:59:54", "12:00:04", "Walking", 0.5, 3.0, 3, 1), ("12:00:02", "12:00:12", "Walking", 1.0, 4.0, 2, 1)];
    world.build("activity_windows", WINDOWS, &windows(&after), "2025-03-09T12:00:45Z").await;
    let sent = world.publish(&processed_activity()).await;
    let samples: Vec<Value> =
        sent.iter().map(|(_, value)| serde_json::from_str::<Value>(value.as_ref().unwrap()).unwrap()["sample_count"].take()).collect();
    assert_eq!(samples, [json!(3), json!(2)], "11:59:52 is unchanged and not published again");
}

const USAGE: &str = "window_start TS, window_end TS, current_time DOUBLE, time_window DOUBLE, message_count BIGINT, batch_size DOUBLE, location_stats JSON, device_stats JSON, version_stats JSON, late_count BIGINT, is_final BOOLEAN";

fn usage(count: u32, rate: f64, late: u32) -> Value {
    json!([{"window_start": "2024-11-03T17:01:40Z", "window_end": "2024-11-03T17:01:50Z", "current_time": 1_730_653_310.0,
        "time_window": 10.0, "message_count": count, "batch_size": rate, "location_stats": r#"{"CA":8,"MI":7,"RU":5}"#,
        "device_stats": r#"{"android":11,"iOS":7,"unknown":2}"#, "version_stats": r#"{"2.3.0":12,"2.4.1":8}"#,
        "late_count": late, "is_final": false}])
}

fn aggregated_usage() -> Publication {
    let fields = ["current_time", "time_window", "batch_size", "location_stats", "device_stats", "version_stats", "message_count",
        "window_start", "window_end", "late_count"];
    let stats = ["location_stats", "device_stats", "version_stats"];
    Publication {
        columns: Some(fields.map(|field| (field.to_owned(), field.to_owned())).to_vec()),
        json_columns: stats.map(str::to_owned).to_vec(),
        ..messages("logins_usage_window", topic("aggregated-usage"), &["window_start"], Emit::OnClose, None)
    }
}

/// GL3 and GL7 (L13): the message of a closed window, and again with the same key for each late login.
#[tokio::test(flavor = "multi_thread")]
async fn gl7_a_window_is_sent_again_for_each_late_login() {
    let world = World::new();
    let of = |count: u32, rate: &str, late: u32| {
        message(
            "2024-11-03T17:01:40.000000Z",
            &format!(
                r#"{{"current_time":1730653310.0,"time_window":10.0,"batch_size":{rate},"location_stats":{{"CA":8,"MI":7,"RU":5}},"device_stats":{{"android":11,"iOS":7,"unknown":2}},"version_stats":{{"2.3.0":12,"2.4.1":8}},"message_count":{count},"window_start":"2024-11-03T17:01:40.000000Z","window_end":"2024-11-03T17:01:50.000000Z","late_count":{late}}}"#
            ),
        )
    };
    world.build("logins_usage_window", USAGE, &usage(20, 2.0, 0), "2024-11-03T17:01:49Z").await;
    assert_eq!(world.publish(&aggregated_usage()).await, [], "the window is open");
    world.advance("logins_usage_window", "2024-11-03T17:01:50Z").await;
    assert_eq!(world.publish(&aggregated_usage()).await, [of(20, "2.0", 0)]);
    world.build("logins_usage_window", USAGE, &usage(21, 2.1, 0), "2024-11-03T17:01:55Z").await;
    assert_eq!(world.publish(&aggregated_usage()).await, [of(21, "2.1", 0)]);
    world.build("logins_usage_window", USAGE, &usage(22, 2.2, 1), "2024-11-03T17:02:05Z").await;
    assert_eq!(world.publish(&aggregated_usage()).await, [of(22, "2.2", 1)]);
}

/// L12: exactly the fields of the example, keyed by a column that names no row, so that a row that goes is not told of.
#[tokio::test(flavor = "multi_thread")]
async fn a_processed_login_has_exactly_the_fields_of_the_example() {
    const LOGINS: &str = "event_key TEXT, user_id TEXT, app_version TEXT, ip TEXT, locale TEXT, device_id TEXT, timestamp BIGINT, device_type TEXT, processed_timestamp TEXT, readable_timestamp TEXT, hour_of_day BIGINT, time_zone TEXT, event_at TS";
    let fields = ["user_id", "app_version", "ip", "locale", "device_id", "timestamp", "device_type", "processed_timestamp",
        "readable_timestamp", "hour_of_day", "time_zone"];
    let logins = Publication {
        columns: Some(fields.map(|field| (field.to_owned(), field.to_owned())).to_vec()),
        ..messages("logins_enriched", topic("processed-logins"), &["event_key"], Emit::OnChange, Some("user_id"))
    };
    let row = json!({"event_key": "k1", "user_id": "9f0c2a7e-1111-4000-8000-000000000001", "app_version": "2.4.1", "ip": "203.0.113.9",
        "locale": "MI", "device_id": "5c1d8f00-2222-4000-8000-000000000002", "timestamp": 1_730_570_189, "device_type": "android",
        "processed_timestamp": "2024-11-02T17:56:31.204118", "readable_timestamp": "2024-11-02T17:56:29", "hour_of_day": 17,
        "time_zone": "UTC", "event_at": "2024-11-02T17:56:29Z"});
    let world = World::new();
    world.build("logins_enriched", LOGINS, &json!([row]), "2024-11-02T17:56:31Z").await;
    assert_eq!(
        world.publish(&logins).await,
        [message(
            "9f0c2a7e-1111-4000-8000-000000000001",
            r#"{"user_id":"9f0c2a7e-1111-4000-8000-000000000001","app_version":"2.4.1","ip":"203.0.113.9","locale":"MI","device_id":"5c1d8f00-2222-4000-8000-000000000002","timestamp":1730570189,"device_type":"android","processed_timestamp":"2024-11-02T17:56:31.204118","readable_timestamp":"2024-11-02T17:56:29","hour_of_day":17,"time_zone":"UTC"}"#
        )]
    );
    world.build("logins_enriched", LOGINS, &json!([]), "2024-11-02T17:57:31Z").await;
    assert_eq!(world.publish(&logins).await, [], "a tombstone would end other logins of the user");
}

/// GE1 (E23): created, updated, deleted; the document carries the number twice.
#[tokio::test(flavor = "multi_thread")]
async fn ge1_an_entry_is_indexed_updated_and_ended() {
    const ENTRIES: &str =
        "sleep_entry_id BIGINT, user_id BIGINT, sleep_duration BIGINT, sleep_start_at TS, created_at TS, updated_at TS, night_date DATE";
    let fields = [("sleep_entry_id", "id"), ("user_id", "user_id"), ("sleep_entry_id", "sleep_entry_id"),
        ("sleep_duration", "sleep_duration"), ("sleep_start_at", "sleep_start_at"), ("created_at", "created_at"), ("updated_at", "updated_at")];
    let index = Publication {
        columns: Some(fields.map(|(column, field)| (column.to_owned(), field.to_owned())).to_vec()),
        ..messages("zentry_sleep_entries", topic("zentry.index.sleep_entries"), &["sleep_entry_id"], Emit::OnChange, None)
    };
    let entry = |duration: u32, updated: &str| {
        json!([{"sleep_entry_id": 9001, "user_id": 20, "sleep_duration": duration, "sleep_start_at": "2025-04-29T22:30:00Z",
            "created_at": "2025-04-30T06:12:03.412Z", "updated_at": updated, "night_date": "2025-04-29"}])
    };
    let document = |duration: u32, updated: &str| {
        message(
            "9001",
            &format!(
                r#"{{"id":9001,"user_id":20,"sleep_entry_id":9001,"sleep_duration":{duration},"sleep_start_at":"2025-04-29T22:30:00.000000Z","created_at":"2025-04-30T06:12:03.412000Z","updated_at":"{updated}"}}"#
            ),
        )
    };
    let world = World::new();
    world.build("zentry_sleep_entries", ENTRIES, &entry(27_000, "2025-04-30T06:12:03.412Z"), "2025-04-30T06:13:00Z").await;
    assert_eq!(world.publish(&index).await, [document(27_000, "2025-04-30T06:12:03.412000Z")]);
    world.build("zentry_sleep_entries", ENTRIES, &entry(28_800, "2025-04-30T07:00:00Z"), "2025-04-30T07:01:00Z").await;
    assert_eq!(world.publish(&index).await, [document(28_800, "2025-04-30T07:00:00.000000Z")]);
    world.build("zentry_sleep_entries", ENTRIES, &json!([]), "2025-04-30T08:01:00Z").await;
    assert_eq!(world.publish(&index).await, [tombstone("9001")]);
}

/// GE5 and GE7 (E24): copies come and go; an author who becomes a celebrity takes all of them away.
#[tokio::test(flavor = "multi_thread")]
async fn ge5_copies_of_a_feed_end_by_their_own_keys() {
    const FEED: &str = "user_id BIGINT, author_id BIGINT, sleep_entry_id BIGINT";
    let feeds = messages("zentry_feed_fanout", topic("zentry.index.feeds"), &["user_id", "sleep_entry_id"], Emit::OnChange, None);
    let copies = |entries: &[u32]| {
        Value::Array(entries.iter().map(|entry| json!({"user_id": 10, "author_id": 20, "sleep_entry_id": entry})).collect())
    };
    let document = |entry: u32| {
        message(&format!("10/{entry}"), &format!(r#"{{"user_id":10,"author_id":20,"sleep_entry_id":{entry}}}"#))
    };
    let world = World::new();
    world.build("zentry_feed_fanout", FEED, &copies(&[501, 502]), "2025-04-30T06:00:00Z").await;
    assert_eq!(world.publish(&feeds).await, [document(501), document(502)]);
    world.build("zentry_feed_fanout", FEED, &copies(&[501, 504]), "2025-04-30T06:01:00Z").await;
    assert_eq!(world.publish(&feeds).await, [tombstone("10/502"), document(504)]);
    world.build("zentry_feed_fanout", FEED, &copies(&[]), "2025-04-30T06:02:00Z").await;
    assert_eq!(world.publish(&feeds).await, [tombstone("10/501"), tombstone("10/504")]);
}

const KEY_EVENTS: &str = "user_id BIGINT, event_type TEXT, window_start TS, window_end TS, local_date DATE, tz TEXT, rule_source TEXT, outcome TEXT, due_at TS, recommendation TEXT, flight_id TEXT";

fn key_event(outcome: &str) -> Value {
    json!([{"user_id": 55, "event_type": "missed_morning_light", "window_start": "2025-03-10T05:00:00Z",
        "window_end": "2025-03-10T09:00:00Z", "local_date": "2025-03-10", "tz": "Europe/Berlin", "rule_source": "default",
        "outcome": outcome, "due_at": "2025-03-10T09:15:00Z", "recommendation": "evening_light_adjustment", "flight_id": null}])
}

/// Z22: the alert of the page, field for field; an outcome that becomes `met` takes it back.
#[tokio::test(flavor = "multi_thread")]
async fn z22_a_missed_window_is_told_and_taken_back() {
    let alerts = Publication {
        filter: Some("outcome in ('missed', 'delayed')".into()),
        ..messages("zoner_key_events", topic("zoner.alerts"), &["user_id", "event_type", "window_start"], Emit::Alert, Some("alert_id"))
    };
    let key = "55/missed_morning_light/2025-03-10T05:00:00.000000Z";
    let alert = r#"{"alert_id":"55/missed_morning_light/2025-03-10T05:00:00.000000Z","user_id":55,"event_type":"missed_morning_light","window_start":"2025-03-10T05:00:00.000000Z","window_end":"2025-03-10T09:00:00.000000Z","local_date":"2025-03-10","tz":"Europe/Berlin","rule_source":"default","outcome":"missed","due_at":"2025-03-10T09:15:00.000000Z","recommendation":"evening_light_adjustment","flight_id":null}"#;
    let world = World::new();
    world.build("zoner_key_events", KEY_EVENTS, &key_event("met"), "2025-03-10T09:15:00Z").await;
    assert_eq!(world.publish(&alerts).await, [], "nothing was missed");
    world.build("zoner_key_events", KEY_EVENTS, &key_event("missed"), "2025-03-10T09:15:00Z").await;
    assert_eq!(world.publish(&alerts).await, [message(key, alert)]);
    world.build("zoner_key_events", KEY_EVENTS, &key_event("met"), "2025-03-10T09:20:00Z").await;
    assert_eq!(world.publish(&alerts).await, [tombstone(key)], "a late event turned it into met");
    world.build("zoner_key_events", KEY_EVENTS, &key_event("missed"), "2025-03-10T09:25:00Z").await;
    assert_eq!(world.publish(&alerts).await, [message(key, alert)]);
}

/// A18: told when the rule is met, again when the bout is over; a bout that ends as it was told is not repeated.
#[tokio::test(flavor = "multi_thread")]
async fn a18_an_activity_alert_is_corrected_when_the_bout_is_over() {
    const BOUTS: &str = "rule_id TEXT, session_id TEXT, device_id TEXT, bout_start TS, bout_end TS, activity TEXT, seconds BIGINT";
    let mut alerts = messages(
        "activity_alerts",
        topic("activity.alerts"),
        &["rule_id", "session_id", "device_id", "bout_start"],
        Emit::Alert,
        Some("alert_id"),
    );
    if let Some(messages) = &mut alerts.messages {
        messages.window_end = "bout_end".into();
    }
    let bout = |end: &str, seconds: u32| {
        json!([{"rule_id": "sprint", "session_id": "s1", "device_id": "d1", "bout_start": "2025-03-09T12:00:00Z",
            "bout_end": format!("2025-03-09T12:00:{end}Z"), "activity": "Sprinting", "seconds": seconds}])
    };
    let world = World::new();
    world.build("activity_alerts", BOUTS, &bout("12", 12), "2025-03-09T12:00:11Z").await;
    let first = world.publish(&alerts).await;
    assert_eq!(first[0].0, "sprint/s1/d1/2025-03-09T12:00:00.000000Z");
    world.build("activity_alerts", BOUTS, &bout("30", 30), "2025-03-09T12:00:29Z").await;
    assert_eq!(world.publish(&alerts).await, [], "the bout goes on");
    world.advance("activity_alerts", "2025-03-09T12:00:40Z").await;
    let last = world.publish(&alerts).await;
    assert!(last.len() == 1 && last[0].1.as_ref().unwrap().contains(r#""seconds":30"#), "{last:?}");
}
