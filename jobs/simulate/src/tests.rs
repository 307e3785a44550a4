//! Properties of the traffic of every system.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::time::{MINUTE_US, floor};
use crate::{Layout, Options, Profile, Record, SchemaIds, System, Traffic, generate, stream};

/// A quarter of an hour of clicks and two minutes of readings: enough for windows, sessions and robots.
fn options(system: System) -> Options {
    let rate = if system == System::Clicks { Some(4.0) } else { None };
    Options { events: 4_000, rate, users: small(system), celebrity_threshold: 20, ..Options::default() }
}

fn small(system: System) -> Option<u64> {
    match system {
        System::Zentry => Some(200),
        System::Clicks => Some(1_000),
        System::Zoner | System::Activity | System::Logins => None,
    }
}

fn faultless(system: System) -> Options {
    Options { duplicates: 0.0, late: 0.0, out_of_order: 0.0, malformed: 0.0, missing: 0.0, ..options(system) }
}

fn sha256(traffic: &Traffic) -> String {
    let mut hash = Sha256::new();
    for record in &traffic.records {
        hash.update(record.topic);
        hash.update(record.partition.to_le_bytes());
        hash.update(record.sent_ms.to_le_bytes());
        hash.update(record.key.as_deref().unwrap_or_default());
        hash.update(&record.value);
        hash.update(b"\n");
    }
    crate::key::hex(&hash.finalize()[..8])
}

/// S2: the hashes were made once and hold on every machine.
#[test]
fn the_same_options_make_the_same_bytes() {
    let found: Vec<String> = System::ALL
        .iter()
        .map(|system| format!("{} {}", system.name(), sha256(&generate(*system, &options(*system)))))
        .collect();
    assert_golden(&found, include_str!("../golden/bytes.txt"));
}

/// S7: so do those of the models.
#[test]
fn the_same_options_make_the_same_truth() {
    let found: Vec<String> = System::ALL
        .iter()
        .flat_map(|system| generate(*system, &options(*system)).truth.models)
        .map(|(model, truth)| format!("{model} {} {}", truth.num_rows, &truth.sha256[..16]))
        .collect();
    assert_golden(&found, include_str!("../golden/models.txt"));
}

fn assert_golden(found: &[String], expected: &str) {
    assert_eq!(
        found.join("\n"),
        expected.trim_end(),
        "if the change is meant, this is the new golden file:\n{}",
        found.join("\n")
    );
}

#[test]
fn another_seed_makes_other_bytes() {
    for system in System::ALL {
        let other = Options { seed: 43, ..options(system) };
        assert_ne!(sha256(&generate(system, &options(system))), sha256(&generate(system, &other)), "{}", system.name());
    }
}

/// S5, and the order in which a producer sends.
#[test]
fn every_record_has_one_outcome_and_its_turn() {
    for system in System::ALL {
        let traffic = generate(system, &options(system));
        let sent = traffic.records.iter().filter(|record| !record.is_aborted).count() as u64;
        let (records, landed, duplicates, quarantined) = traffic.truth.totals();
        assert_eq!(records, sent, "{}", system.name());
        assert_eq!(records, landed + duplicates + quarantined, "{}", system.name());
        let missing: u64 =
            traffic.truth.topics.values().filter_map(|topic| topic.quarantined.get("missing_field")).sum();
        assert_eq!(landed, 4_000 - missing, "{}", system.name());
        assert!(duplicates > 0 && missing > 0 && quarantined > missing, "{}", system.name());
        assert!(traffic.records.is_sorted_by_key(|record| record.sent_ms), "{}", system.name());
    }
}

#[test]
fn without_faults_everything_lands_and_nothing_is_late() {
    for system in System::ALL {
        let truth = generate(system, &faultless(system)).truth;
        assert_eq!(truth.totals(), (4_000, 4_000, 0, 0), "{}", system.name());
        let late = truth.topics.values().map(|topic| topic.late).sum::<u64>();
        // Zentry sends a few creations after their updates: that is no fault but its shape.
        let expected = if system == System::Zentry { 1..20 } else { 0..1 };
        assert!(expected.contains(&late), "{} {late}", system.name());
    }
}

#[test]
fn faults_of_share_one_happen_to_every_event() {
    for system in System::ALL {
        let all = Options { duplicates: 1.0, late: 1.0, malformed: 1.0, ..faultless(system) };
        let truth = generate(system, &all).truth;
        let (_, landed, duplicates, quarantined) = truth.totals();
        assert_eq!((landed, quarantined), (4_000, 4_000), "{}", system.name());
        assert_eq!(truth.topics.values().map(|topic| topic.late).sum::<u64>(), 4_000, "{}", system.name());
        // Half of the metrics of clicks have no id: a copy of them would be another event.
        let without_id = if system == System::Clicks { 1..200 } else { 0..1 };
        assert!(without_id.contains(&(4_000 - duplicates)), "{} {duplicates}", system.name());
    }
}

#[test]
fn every_model_has_rows() {
    for system in System::ALL {
        for (model, truth) in generate(system, &options(system)).truth.models {
            assert!(truth.num_rows > 0, "{model}");
            let kept = truth.rows.as_ref().map(Vec::len);
            assert_eq!(kept, (truth.num_rows <= 10_000).then(|| truth.num_rows.try_into().unwrap()), "{model}");
        }
    }
}

#[test]
fn the_truth_does_not_depend_on_how_many_rows_it_keeps() {
    for system in System::ALL {
        let few = generate(system, &Options { truth_rows: 3, ..options(system) }).truth.models;
        for (model, truth) in generate(system, &options(system)).truth.models {
            assert_eq!((&truth.sha256, &truth.sums), (&few[&model].sha256, &few[&model].sums), "{model}");
        }
    }
}

#[test]
fn a_replay_sends_everything_once_more_and_changes_no_model() {
    for system in System::ALL {
        let eight_days = 8 * 24 * 3_600_000_000;
        // With ids on all metrics, as a replay has them.
        let replayed = generate(system, &Options { replay_after_us: Some(eight_days), ..options(system) });
        let (records, landed, duplicates, quarantined) = replayed.truth.totals();
        assert_eq!(records, landed + duplicates + quarantined, "{}", system.name());
        let half = replayed.records.len() / 2;
        let (first, second) = replayed.records.split_at(half);
        let shifted = |record: &Record| (record.value.clone(), record.sent_ms + 8 * 24 * 3_600_000);
        assert!(first.iter().map(shifted).eq(second.iter().map(|record| (record.value.clone(), record.sent_ms))));
    }
}

/// Copies elsewhere carry the timestamp of the first, so that truth does not depend on which of them lands.
#[test]
fn copies_elsewhere_have_the_timestamp_of_the_first() {
    let elsewhere = |system, options: Options| {
        let mut places: BTreeMap<Vec<u8>, BTreeSet<(&str, i32, i64)>> = BTreeMap::new();
        for record in generate(system, &options).records {
            // Bytes may differ: the time and the person tell an event.
            let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(&record.value) else { continue };
            let id = format!(
                "{} {} {}",
                fields["user_id"],
                fields.get("timestamp").unwrap_or(&Value::Null),
                fields.get("device_id").unwrap_or(&Value::Null)
            );
            places.entry(id.into_bytes()).or_default().insert((record.topic, record.partition, record.sent_ms));
        }
        places.into_values().filter(|places| places.len() > 1).collect::<Vec<_>>()
    };
    let base = |system| Options { duplicates: 0.2, ..faultless(system) };
    let crossed = elsewhere(System::Logins, Options { cross_partition: true, ..base(System::Logins) });
    assert!(crossed.len() > 500);
    for places in &crossed {
        let partitions: BTreeSet<i32> = places.iter().map(|(_, partition, _)| *partition).collect();
        let times: BTreeSet<i64> = places.iter().map(|(_, _, sent_ms)| *sent_ms).collect();
        assert_eq!((partitions.len(), times.len()), (2, 1), "{places:?}");
    }
    let crossed = elsewhere(System::Zoner, Options { cross_topic: true, ..base(System::Zoner) });
    assert!(crossed.len() > 500);
    for places in &crossed {
        let topics: BTreeSet<&str> = places.iter().map(|(topic, ..)| *topic).collect();
        let times: BTreeSet<i64> = places.iter().map(|(_, _, sent_ms)| *sent_ms).collect();
        assert_eq!((topics.len(), times.len()), (2, 1), "{places:?}");
        assert!(topics.contains("user_activity"), "{places:?}");
    }
}

#[test]
fn zoner_keeps_to_the_layout_that_was_asked_for() {
    let topics = |layout| {
        let traffic = generate(System::Zoner, &Options { layout, ..options(System::Zoner) });
        traffic.truth.topics.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(topics(Layout::Mixed), ["user_activity"]);
    assert_eq!(topics(Layout::PerActivity), ["light_exposure", "meals", "sleep"]);
    assert_eq!(topics(Layout::Both).len(), 4);
}

#[test]
fn the_demo_profile_is_one_user_every_two_seconds() {
    let options = Options { profile: Profile::Demo, events: 100, ..faultless(System::Zoner) };
    let traffic = generate(System::Zoner, &options);
    assert_eq!(traffic.records.len(), 100);
    assert!(traffic.records.iter().all(|record| record.key.as_deref() == Some("123")));
    assert_eq!(traffic.records[99].sent_ms - traffic.records[0].sent_ms, 198_000);
}

#[test]
fn a_duration_ends_the_stream() {
    for system in System::ALL {
        let hour = 3_600_000_000;
        let options =
            Options { events: 5_000, duration_us: Some(hour), start_us: 1_741_435_200_000_000, ..faultless(system) };
        let truth = generate(system, &options).truth;
        let last = truth.topics.values().filter_map(|topic| topic.max_event_us).max().unwrap();
        assert!(last < options.start_us + hour, "{}", system.name());
    }
}

/// Per user and minute, counted from the records alone: what JSON can be read, each event id once.
#[test]
fn clicks_per_minute_are_those_that_a_reader_of_the_records_counts() {
    let traffic = generate(System::Clicks, &options(System::Clicks));
    let mut seen = BTreeSet::new();
    let mut counts: BTreeMap<(i64, String), (u64, u64)> = BTreeMap::new();
    for record in traffic.records.iter().filter(|record| record.topic == "events.user-actions" && !record.is_aborted) {
        let Ok(event) = serde_json::from_slice::<Value>(&record.value) else { continue };
        let (Some(id), Some(user), Some(ms)) =
            (event["event_id"].as_str(), event["user_id"].as_str(), event["occurred_at"].as_i64())
        else {
            continue;
        };
        // Seconds where milliseconds belong.
        if ms < 946_684_800_000 || event.get("action").is_none() || !seen.insert(id.to_owned()) {
            continue;
        }
        let count = counts.entry((floor(ms * 1_000, MINUTE_US), user.to_owned())).or_default();
        count.0 += 1;
        count.1 += u64::from(record.sent_ms - ms > 300_000);
    }
    let truth = traffic.truth.models["clicks_per_minute"].rows.clone().unwrap();
    let told: BTreeMap<(i64, String), (u64, u64)> = truth
        .iter()
        .map(|row| {
            let key = (row[0].as_i64().unwrap(), row[1].as_str().unwrap().to_owned());
            (key, (row[3].as_u64().unwrap(), row[4].as_u64().unwrap()))
        })
        .collect();
    assert_eq!(told, counts);
}

/// S6: users with exactly 100 and 101 clicks, robots, and a burst that no minute shows.
#[test]
fn robots_are_those_that_click_more_than_a_hundred_times_a_minute() {
    let truth = generate(System::Clicks, &Options { events: 6_000, ..options(System::Clicks) }).truth;
    let rows = truth.models["potential_bots"].rows.clone().unwrap();
    let most = |robot: u64| {
        let name = format!("-{robot}");
        rows.iter().filter(|row| row[1].as_str().unwrap().ends_with(&name)).map(|row| row[3].as_u64().unwrap()).max()
    };
    assert_eq!(most(3), None, "a hundred is no bot");
    assert_eq!(most(4), Some(101));
    assert_eq!(most(5), Some(120));
    let per_minute = truth.models["clicks_per_minute"].rows.clone().unwrap();
    let burst = per_minute.iter().filter(|row| row[1].as_str().unwrap().ends_with("-5"));
    assert_eq!(burst.map(|row| row[3].as_u64().unwrap()).collect::<Vec<_>>(), [60, 60]);
}

#[test]
fn avro_carries_the_same_events_as_json() {
    let ids = SchemaIds { user_action_v1: 1, user_action_v2: 2, transaction: 3, system_metric: 4 };
    let json = generate(System::Clicks, &faultless(System::Clicks));
    let avro = generate(System::Clicks, &Options { avro: Some(ids), ..faultless(System::Clicks) });
    assert_eq!(json.truth.models, avro.truth.models);
    let known: BTreeSet<[u8; 5]> = avro.records.iter().map(|record| record.value[..5].try_into().unwrap()).collect();
    assert_eq!(known, (1..=4).map(|id| [0, 0, 0, 0, id]).collect());
}

#[test]
fn followers_of_some_make_them_celebrities_and_feeds_leave_these_out() {
    let truth = generate(System::Zentry, &options(System::Zentry)).truth;
    let rows = |model: &str| truth.models[model].rows.clone().unwrap_or_default();
    let celebrities: BTreeSet<i64> = rows("zentry_follow_counts")
        .iter()
        .filter(|row| row[3] == Value::Bool(true))
        .map(|row| row[0].as_i64().unwrap())
        .collect();
    assert!(!celebrities.is_empty());
    let author = |row: &Vec<Value>, column: usize| row[column].as_i64().unwrap();
    assert!(rows("zentry_feed_fanout").iter().all(|row| !celebrities.contains(&author(row, 2))));
    assert!(rows("zentry_celebrity_entries").iter().all(|row| celebrities.contains(&author(row, 1))));
}

/// A sink that gives up ends the stream with what it says.
#[test]
fn an_error_of_the_sink_ends_the_stream() {
    let mut left = 10;
    let outcome = stream(System::Logins, &options(System::Logins), &mut |_| {
        left -= 1;
        if left == 0 { Err("full".into()) } else { Ok(()) }
    });
    assert_eq!(outcome.unwrap_err().to_string(), "full");
    assert_eq!(left, 0);
}
