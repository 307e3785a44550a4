//! The marts that the truth knows, each with the query that reads it in the truth's own units.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::truth::Truth;

/// A mart and what it must hold.
#[derive(Clone, Debug)]
pub struct Mart {
    /// The model.
    pub model: &'static str,
    /// Reads all of its rows: instants as microseconds since the epoch (UTC), days as days since the epoch, texts and counts
    /// as they are.
    pub query: String,
    /// True rows, each as a JSON array in the order of the query's columns, and how many there are of it.
    rows: BTreeMap<String, usize>,
}

/// How the rows of a mart differ from the true ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// True rows that were not found.
    pub missing: Vec<String>,
    /// Rows found that are not true, or once too often.
    pub extra: Vec<String>,
}

impl Differences {
    /// Rows that are wrong, at least: a changed row is one that is missing and one that is extra.
    #[must_use]
    pub fn len(&self) -> usize {
        self.missing.len().max(self.extra.len())
    }

    /// Whether the mart is equal to the truth.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first few of both kinds, for people.
    #[must_use]
    pub fn examples(&self, count: usize) -> Vec<String> {
        let missing = self.missing.iter().take(count).map(|row| format!("missing {row}"));
        missing.chain(self.extra.iter().take(count).map(|row| format!("extra {row}"))).collect()
    }
}

impl Mart {
    fn new(model: &'static str, columns: &str, rows: impl Iterator<Item = Value>) -> Self {
        Self { model, query: format!("select {columns} from {model}"), rows: counted(rows) }
    }

    /// Number of true rows.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.rows.values().sum()
    }

    /// Compares rows that the query found, JSON objects with their columns in the query's order, with the true ones: row by
    /// row and column by column, a doubled row included.
    #[must_use]
    pub fn differences(&self, found: &[Value]) -> Differences {
        let found = counted(found.iter().map(|row| match row {
            Value::Object(fields) => fields.values().cloned().collect(),
            other => other.clone(),
        }));
        let beyond = |these: &BTreeMap<String, usize>, those: &BTreeMap<String, usize>| {
            let surplus = |(row, count): (&String, &usize)| {
                let count = count.saturating_sub(those.get(row).copied().unwrap_or_default());
                std::iter::repeat_n(row.clone(), count)
            };
            these.iter().flat_map(surplus).collect()
        };
        Differences { missing: beyond(&self.rows, &found), extra: beyond(&found, &self.rows) }
    }
}

fn counted(rows: impl Iterator<Item = Value>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.to_string()).or_default() += 1;
    }
    counts
}

/// A map as the JSON text that models keep of it: sorted keys, no blanks.
fn stats(counts: &BTreeMap<String, u64>) -> String {
    json!(counts).to_string()
}

impl Truth {
    /// The marts of all systems.
    #[must_use]
    pub fn marts(&self) -> Vec<Mart> {
        let (zoner, logins) = (&self.zoner, &self.logins);
        let counts = |truth: &BTreeMap<(i64, String, i64), crate::ActivityCounts>| {
            let rows: Vec<Value> = truth
                .iter()
                .map(|((user, activity, period), row)| {
                    json!([user, activity, period, row.events, row.activities, row.late_events])
                })
                .collect();
            rows.into_iter()
        };
        vec![
            Mart::new(
                "zoner_activity_counts_hourly",
                "user_id, activity, cast(hour_start as bigint) as hour_us, events, activities, late_events",
                counts(&zoner.hourly),
            ),
            Mart::new(
                "zoner_activity_counts_daily",
                "user_id, activity, cast(cast(local_date as int) as bigint) as day, events, activities, late_events",
                counts(&zoner.daily),
            ),
            Mart::new(
                "zoner_sleep_intervals",
                "user_id, cast(coalesce(started_at, ended_at) as bigint) as opened_us, cast(started_at as bigint) as started_us, \
                 cast(ended_at as bigint) as ended_us, status, tz, cast(cast(night_date as int) as bigint) as night",
                zoner.intervals.iter().map(|((user, opened_us, _), row)| {
                    json!([user, opened_us, row.started_us, row.ended_us, row.status, row.tz, row.night])
                }),
            ),
            Mart::new(
                "zoner_sleep_nightly",
                "user_id, cast(cast(night_date as int) as bigint) as night, cast(sleep_seconds * 1000000 as bigint) as sleep_us, \
                 cast(longest_interval_s * 1000000 as bigint) as longest_us, interval_count, unclosed_count, orphan_end_count",
                zoner.nightly.iter().map(|((user, night), row)| {
                    json!([
                        user,
                        night,
                        row.sleep_us,
                        row.longest_us,
                        row.interval_count,
                        row.unclosed_count,
                        row.orphan_end_count
                    ])
                }),
            ),
            Mart::new(
                "logins_usage_window",
                "cast(window_start as bigint) as start_us, message_count, late_count, location_stats, device_stats, version_stats",
                logins.windows.iter().map(|(start_us, row)| {
                    let (locations, devices) = (stats(&row.locations), stats(&row.devices));
                    json!([start_us, row.message_count, row.late_count, locations, devices, stats(&row.versions)])
                }),
            ),
            Mart::new(
                "logins_usage_hourly",
                "cast(hour_start as bigint) as hour_us, device_type, app_version, locale, logins, users, devices, late_logins",
                logins.hourly.iter().map(|((hour_us, device, version, locale), row)| {
                    let (users, devices) = (row.users.len(), row.devices.len());
                    json!([hour_us, device, version, locale, row.logins, users, devices, row.late_logins])
                }),
            ),
            Mart::new(
                "logins_hour_of_day",
                "cast(cast(local_date as int) as bigint) as day, hour_of_day, logins",
                logins.hour_of_day.iter().map(|((day, hour), row)| json!([day, hour, row.logins])),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, System, generate};

    fn mart() -> Mart {
        Mart::new("m", "a, b", [json!([1, "x"]), json!([2, null])].into_iter())
    }

    #[test]
    fn equal_rows_in_any_order_are_equal() {
        assert!(mart().differences(&[json!({"a": 2, "b": null}), json!({"a": 1, "b": "x"})]).is_empty());
    }

    #[test]
    fn lost_doubled_and_changed_rows_are_told() {
        let lost = mart().differences(&[json!({"a": 1, "b": "x"})]);
        assert_eq!((lost.missing, lost.extra), (vec!["[2,null]".to_owned()], vec![]));
        let rows = [json!({"a": 1, "b": "x"}), json!({"a": 2, "b": null})];
        let doubled = mart().differences(&[&rows[..], &rows[1..]].concat());
        assert_eq!((doubled.missing, doubled.extra), (vec![], vec!["[2,null]".to_owned()]));
        let changed = mart().differences(&[json!({"a": 1, "b": "y"}), json!({"a": 2, "b": null})]);
        assert_eq!(changed.len(), 1);
        assert_eq!(changed.examples(3), ["missing [1,\"x\"]", "extra [1,\"y\"]"]);
    }

    #[test]
    fn every_mart_of_generated_traffic_has_rows() {
        for system in System::ALL {
            let truth = generate(system, &Options { events: 2_000, ..Options::default() }).truth;
            let of_system: Vec<Mart> =
                truth.marts().into_iter().filter(|mart| mart.model.starts_with(system.name())).collect();
            assert!(of_system.len() >= 3 && of_system.iter().all(|mart| mart.num_rows() > 0), "{of_system:?}");
        }
    }
}
