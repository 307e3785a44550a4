//! Compares marts with the simulator's truth, row by row, and shows a few of their rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use tidemill_simulate::Truth;
use tidemill_transform::SessionContext;

use crate::commands::query::json_array;
use crate::printer::{Printer, thousands};

/// What came of comparing.
pub(super) struct Comparison {
    /// Per mart.
    pub(super) tables: Vec<Compared>,
}

/// One mart beside the truth.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    model: &'static str,
    rows: u64,
    true_rows: u64,
    different: u64,
    /// The first few keys that differ.
    examples: Vec<String>,
}

impl Comparison {
    /// Whether every mart is equal to the truth.
    pub(super) fn is_equal(&self) -> bool {
        self.tables.iter().all(|table| table.different == 0)
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            let verdict = if table.different == 0 {
                "equal to the truth".to_owned()
            } else {
                format!("{} rows DIFFER, e.g. {}", thousands(table.different), table.examples.join("; "))
            };
            text.push_str(&format!("marts   {:<29} {:>8} rows, {verdict}\n", table.model, thousands(table.rows)));
        }
        text
    }
}

fn compared<K: Ord + Debug, V: PartialEq + Debug>(
    model: &'static str,
    found: &BTreeMap<K, V>,
    truth: &BTreeMap<K, V>,
) -> Compared {
    let keys: BTreeSet<&K> = found.keys().chain(truth.keys()).collect();
    let different: Vec<&&K> = keys.iter().filter(|key| found.get(**key) != truth.get(**key)).collect();
    Compared {
        model,
        rows: found.len() as u64,
        true_rows: truth.len() as u64,
        different: different.len() as u64,
        examples: different
            .iter()
            .take(3)
            .map(|key| format!("{key:?}: found {:?}, true {:?}", found.get(**key), truth.get(**key)))
            .collect(),
    }
}

/// Compares all marts that the simulator knows.
pub(super) async fn compare(session: &SessionContext, truth: &Truth) -> anyhow::Result<Comparison> {
    let zoner = &truth.zoner;
    let logins = &truth.logins;
    let mut tables = Vec::new();

    for (model, period, truth) in [
        ("zoner_activity_counts_hourly", "cast(hour_start as bigint)", &zoner.hourly),
        ("zoner_activity_counts_daily", "cast(cast(local_date as int) as bigint)", &zoner.daily),
    ] {
        let query =
            format!("select user_id, activity, {period} as period, events, activities, late_events from {model}");
        let found = rows(session, &query).await?;
        let found = found.iter().map(|row| {
            Ok((
                (int(row, "user_id")?, text(row, "activity")?, int(row, "period")?),
                [count(row, "events")?, count(row, "activities")?, count(row, "late_events")?],
            ))
        });
        let found = found.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        let truth =
            truth.iter().map(|(key, row)| (key.clone(), [row.events, row.activities, row.late_events])).collect();
        tables.push(compared(model, &found, &truth));
    }

    let query = "select user_id, cast(coalesce(started_at, ended_at) as bigint) as opened_us, cast(ended_at as bigint) as ended_us, \
                 status, tz, cast(cast(night_date as int) as bigint) as night from zoner_sleep_intervals";
    let found = rows(session, query).await?;
    let found = found.iter().map(|row| {
        let ended = row["ended_us"].as_i64();
        Ok((
            (int(row, "user_id")?, int(row, "opened_us")?),
            (ended, text(row, "status")?, text(row, "tz")?, int(row, "night")?),
        ))
    });
    let found = found.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    let intervals = zoner
        .intervals
        .iter()
        .map(|((user_id, opened_us, _), row)| {
            ((*user_id, *opened_us), (row.ended_us, row.status.to_owned(), row.tz.to_owned(), row.night))
        })
        .collect();
    tables.push(compared("zoner_sleep_intervals", &found, &intervals));

    let query = "select user_id, cast(cast(night_date as int) as bigint) as night, cast(sleep_seconds * 1000000 as bigint) as sleep_us, \
                 cast(longest_interval_s * 1000000 as bigint) as longest_us, interval_count, unclosed_count, orphan_end_count \
                 from zoner_sleep_nightly";
    let found = rows(session, query).await?;
    let found = found.iter().map(|row| {
        let numbers = [
            int(row, "sleep_us")?,
            int(row, "longest_us")?,
            int(row, "interval_count")?,
            int(row, "unclosed_count")?,
            int(row, "orphan_end_count")?,
        ];
        Ok(((int(row, "user_id")?, int(row, "night")?), numbers))
    });
    let found = found.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let nights = zoner
        .nightly
        .iter()
        .map(|(key, row)| {
            let counts = [signed(row.interval_count), signed(row.unclosed_count), signed(row.orphan_end_count)];
            (*key, [row.sleep_us, row.longest_us, counts[0], counts[1], counts[2]])
        })
        .collect();
    tables.push(compared("zoner_sleep_nightly", &found, &nights));

    let query = "select cast(window_start as bigint) as start_us, message_count, late_count, location_stats, device_stats, \
                 version_stats from logins_usage_window";
    let found = rows(session, query).await?;
    let found = found.iter().map(|row| {
        let stats = [text(row, "location_stats")?, text(row, "device_stats")?, text(row, "version_stats")?];
        Ok((int(row, "start_us")?, (count(row, "message_count")?, count(row, "late_count")?, stats)))
    });
    let found = found.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    let mut windows = BTreeMap::new();
    for (start_us, row) in &logins.windows {
        let stats = [&row.locations, &row.devices, &row.versions].map(serde_json::to_string);
        let [locations, devices, versions] = stats;
        windows.insert(*start_us, (row.message_count, row.late_count, [locations?, devices?, versions?]));
    }
    tables.push(compared("logins_usage_window", &found, &windows));

    let query = "select cast(hour_start as bigint) as hour_us, device_type, app_version, locale, logins, users, devices, late_logins \
                 from logins_usage_hourly";
    let found = rows(session, query).await?;
    let found = found.iter().map(|row| {
        let key = (int(row, "hour_us")?, text(row, "device_type")?, text(row, "app_version")?, text(row, "locale")?);
        Ok((key, [count(row, "logins")?, count(row, "users")?, count(row, "devices")?, count(row, "late_logins")?]))
    });
    let found = found.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    let hours = logins
        .hourly
        .iter()
        .map(|(key, row)| {
            (key.clone(), [row.logins, row.users.len() as u64, row.devices.len() as u64, row.late_logins])
        })
        .collect();
    tables.push(compared("logins_usage_hourly", &found, &hours));

    let query = "select cast(cast(local_date as int) as bigint) as day, hour_of_day, logins from logins_hour_of_day";
    let found = rows(session, query)
        .await?
        .iter()
        .map(|row| Ok(((int(row, "day")?, int(row, "hour_of_day")?), count(row, "logins")?)))
        .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    let hours = logins.hour_of_day.iter().map(|(key, row)| (*key, row.logins)).collect();
    tables.push(compared("logins_hour_of_day", &found, &hours));

    Ok(Comparison { tables })
}

/// A few rows of each kind, for people.
pub(super) async fn samples(session: &SessionContext, printer: Printer) -> anyhow::Result<String> {
    let mut shown = String::new();
    if printer.format() != crate::args::Format::Text {
        return Ok(shown);
    }
    for (title, query) in [
        (
            "total sleep per person and night",
            "select user_id, night_date, tz, round(sleep_seconds / 3600, 2) as hours, interval_count as intervals, is_final \
             from zoner_sleep_nightly order by night_date, user_id limit 5",
        ),
        (
            "activities per person and day",
            "select user_id, local_date, activity, events, late_events from zoner_activity_counts_daily \
             order by local_date, user_id, activity limit 5",
        ),
        (
            "logins per 10 seconds",
            "select window_start, message_count as logins, batch_size as per_second, device_stats, late_count as late \
             from logins_usage_window order by window_start limit 5",
        ),
    ] {
        let batches = session
            .sql(query)
            .await
            .context("failed to plan a sample")?
            .collect()
            .await
            .context("failed to read a sample")?;
        let table = arrow::util::pretty::pretty_format_batches(&batches).context("failed to lay out rows")?;
        shown.push_str(&format!("{title}\n{table}\n\n"));
    }
    Ok(shown)
}

/// Rows of a query as JSON objects.
async fn rows(session: &SessionContext, query: &str) -> anyhow::Result<Vec<Value>> {
    let batches = session.sql(query).await.with_context(|| format!("failed to plan `{query}`"))?.collect().await?;
    Ok(serde_json::from_slice(&json_array(&batches)?)?)
}

fn int(row: &Value, column: &str) -> anyhow::Result<i64> {
    row[column].as_i64().with_context(|| format!("column `{column}` holds no integer: {}", row[column]))
}

fn count(row: &Value, column: &str) -> anyhow::Result<u64> {
    row[column].as_u64().with_context(|| format!("column `{column}` holds no count: {}", row[column]))
}

fn text(row: &Value, column: &str) -> anyhow::Result<String> {
    row[column].as_str().map(str::to_owned).with_context(|| format!("column `{column}` holds no text: {}", row[column]))
}
