//! A few rows of each system's marts, for people.

use anyhow::Context as _;
use tidemill_simulate::System;
use tidemill_transform::SessionContext;

use crate::args::Format;
use crate::printer::Printer;

/// What is shown of a system: a title and a query each.
fn of_system(system: System) -> &'static [(&'static str, &'static str)] {
    match system {
        System::Zoner => &[
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
        ],
        System::Activity => &[(
            "what phones do",
            "select device_id, bout_start, activity, seconds from activity_bouts order by seconds desc, bout_start limit 5",
        )],
        System::Clicks => &[
            (
                "potential bots",
                "select user_id, window_start, clicks, threshold, late_clicks from potential_bots \
                 order by clicks desc, window_start limit 5",
            ),
            (
                "transactions per hour",
                "select hour_start, kind, status, currency, transactions, amount from transactions_hourly \
                 order by amount desc limit 5",
            ),
        ],
        System::Logins => &[(
            "logins per 10 seconds",
            "select window_start, message_count as logins, batch_size as per_second, device_stats, late_count as late \
             from logins_usage_window order by window_start limit 5",
        )],
        System::Zentry => &[(
            "who is followed most",
            "select user_id, follower_count, followed_count, is_celebrity from zentry_follow_counts \
             order by follower_count desc, user_id limit 5",
        )],
    }
}

/// A query that a person may go on with.
pub(super) fn query_to_try(system: System) -> &'static str {
    match system {
        System::Zoner => "select * from zoner_sleep_nightly order by night_date, user_id limit 5",
        System::Activity => "select * from activity_windows order by window_start limit 5",
        System::Clicks => "select * from potential_bots order by window_start limit 5",
        System::Logins => "select * from logins_usage_window order by window_start limit 5",
        System::Zentry => "select * from zentry_feed order by created_at desc limit 5",
    }
}

/// A few rows of each kind.
pub(super) async fn samples(session: &SessionContext, systems: &[System], printer: Printer) -> anyhow::Result<String> {
    let mut shown = String::new();
    if printer.format() != Format::Text {
        return Ok(shown);
    }
    for (title, query) in systems.iter().flat_map(|system| of_system(*system)) {
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
