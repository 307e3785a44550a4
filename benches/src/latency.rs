//! (b) From sending an event to seeing it in the local warehouse.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tidemill_project::clock::{Clock, Micros};
use tidemill_tests::wait;

use crate::LatencyArgs;
use crate::broker::{Kafka, Sender};
use crate::mart::Mart;
use crate::results::Section;
use crate::stats::{quantile, thousands};
use crate::throughput::{ingest, project};
use crate::traffic::write_login;

const PARTITIONS: i32 = 4;
/// How long the last event may take to be seen.
const LIMIT: Duration = Duration::from_mins(2);
/// Of the first seconds nothing counts: tables are created in them.
const WARM_UP: Duration = Duration::from_secs(5);
/// How often the reader looks for a new version.
const LOOK: Duration = Duration::from_millis(2);

/// Measures with an hour that is empty and with one that holds events already.
pub(crate) fn measure(args: &LatencyArgs) -> Result<Section> {
    let kafka = Kafka::start()?;
    let mut rows = Vec::new();
    for &before in &args.before {
        rows.push(run(&kafka, args, before)?);
    }
    Ok(Section {
        id: "b",
        title: "End-to-end latency",
        command: format!("benches/run b --rate {} --seconds {}", args.rate, args.seconds),
        data: format!(
            "{} logins a second for {} s, 4 partitions, time of the event is the time of sending. `tidemill run --every 0s\n\
             --select +logins_usage_window` goes round without a pause: ingest, build, publish, two models and their tests. A\n\
             reader looks for new versions of the local warehouse's AGGREGATED_USAGE every 2 ms; event number n is seen when\n\
             the counts of all windows add up to n. The first {} s are not counted. *events before* lie in the same hour, the\n\
             batch that the model builds anew.",
            args.rate,
            args.seconds,
            WARM_UP.as_secs(),
        ),
        heading: vec!["events before", "versions seen", "p50", "p90", "p99", "longest"],
        rows,
    })
}

fn run(kafka: &Kafka, args: &LatencyArgs, before: u64) -> Result<Vec<String>> {
    let topic = format!("latency-{before}");
    kafka.create(&topic, PARTITIONS)?;
    let clock = Clock::system();
    let project = project(kafka, &topic, &topic)?;
    let mut sender = kafka.sender(PARTITIONS)?;
    let mut text = String::new();
    for number in 0..before {
        write_login(&mut text, number, clock.now_us() / 1_000_000);
        sender.send(&topic, &text, None)?;
    }
    sender.flush()?;
    if before > 0 {
        ingest(&project, None)?;
    }
    let select = ["run", "--select", "+logins_usage_window"];
    let prepared = project.tidemill().run(&select)?;
    ensure!(prepared.code == Some(0), "{}", prepared.stderr);
    let mut cycle = project.tidemill().spawn(&["run", "--every", "0s", "--select", "+logins_usage_window"])?;
    let folder = project.warehouse().join("LOGINS_DB/PROCESSED_DATA/AGGREGATED_USAGE");
    let total = before + u64::from(args.rate) * u64::from(args.seconds);
    let is_over = Arc::new(AtomicBool::new(false));
    let reader = {
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || look(folder, i64::try_from(total)?, &is_over))
    };
    let sent = send(&mut sender, &topic, args, before)?;
    let seen = wait_for(reader, &is_over)?;
    let ended = cycle.terminate(wait::PATIENCE)?;
    ensure!(ended.success(), "{}", cycle.output()?);
    if !seen.last().is_some_and(|(_, count)| u64::try_from(*count).is_ok_and(|count| count == total)) {
        return Err(anyhow!("{total} events were sent, the mart shows {:?}\n{}", seen.last(), cycle.output()?));
    }
    eprintln!("{}", middle(&cycle.output()?));
    kafka.delete(&topic)?;
    let latencies = latencies(&sent, &seen, before);
    let milliseconds = |share: f64| format!("{:.0} ms", quantile(&latencies, share) / 1000.0);
    Ok(vec![
        thousands(u32::try_from(before).map_or(f64::NAN, f64::from)),
        seen.len().to_string(),
        milliseconds(0.5),
        milliseconds(0.9),
        milliseconds(0.99),
        milliseconds(1.0),
    ])
}

/// Sends at the rate, every 5 milliseconds what is due; returns when each event was sent.
fn send(sender: &mut Sender, topic: &str, args: &LatencyArgs, before: u64) -> Result<Vec<Micros>> {
    let clock = Clock::system();
    let start_us = clock.now_us();
    let total = usize::try_from(u64::from(args.rate) * u64::from(args.seconds))?;
    let mut sent = Vec::with_capacity(total);
    let mut text = String::new();
    while sent.len() < total {
        let now_us = clock.now_us();
        let due = usize::try_from((now_us - start_us) * i64::from(args.rate) / 1_000_000)?;
        while sent.len() < due.min(total) {
            write_login(&mut text, before + sent.len() as u64, now_us / 1_000_000);
            sender.send(topic, &text, None)?;
            sent.push(now_us);
        }
        sender.serve();
        wait::pause(Duration::from_millis(5));
    }
    sender.flush()?;
    Ok(sent)
}

type Seen = Vec<(Micros, i64)>;

/// When which number of events was seen.
fn look(folder: PathBuf, total: i64, is_over: &AtomicBool) -> Result<Seen> {
    let clock = Clock::system();
    let mut mart = Mart::new(folder, "MESSAGE_COUNT");
    let mut seen = Seen::new();
    while !is_over.load(Ordering::Relaxed) {
        if let Some(count) = mart.follow()? {
            seen.push((clock.now_us(), count));
            if count >= total {
                break;
            }
        }
        wait::pause(LOOK);
    }
    Ok(seen)
}

fn wait_for(reader: thread::JoinHandle<Result<Seen>>, is_over: &AtomicBool) -> Result<Seen> {
    // A reader that has not seen everything when time is up tells what it has seen.
    let _ = wait::until("the last event", LIMIT, || Ok(reader.is_finished().then_some(())));
    is_over.store(true, Ordering::Relaxed);
    reader.join().map_err(|_| anyhow!("the reader died"))?.context("the reader failed")
}

/// Microseconds from sending to seeing, sorted, without those of the warm-up.
#[expect(clippy::cast_precision_loss, reason = "microseconds of a minute")]
fn latencies(sent: &[Micros], seen: &Seen, before: u64) -> Vec<f64> {
    let Some(first) = sent.first() else { return Vec::new() };
    let counted_from = first + i64::try_from(WARM_UP.as_micros()).unwrap_or(0);
    let mut latencies = Vec::new();
    let mut version = 0;
    for (index, sent_us) in sent.iter().enumerate() {
        let number = i64::try_from(before + index as u64 + 1).unwrap_or(i64::MAX);
        while seen.get(version).is_some_and(|(_, count)| *count < number) {
            version += 1;
        }
        if let Some((seen_us, _)) = seen.get(version)
            && *sent_us >= counted_from
        {
            latencies.push((seen_us - sent_us) as f64);
        }
    }
    latencies.sort_by(f64::total_cmp);
    latencies
}

/// The summary lines of some cycles in the middle, for whoever looks for the cause.
fn middle(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.starts_with(' ') || line.contains(" OK ")).collect();
    let from = lines.len() / 2;
    lines[from..lines.len().min(from + 40)].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_seen_with_the_first_version_that_counts_it() {
        let sent = [0, 10_000_000, 10_000_001, 10_000_002];
        let seen = vec![(5, 1), (10_500_000, 2), (11_000_002, 4)];
        assert_eq!(latencies(&sent, &seen, 0), [500_000.0, 1_000_000.0, 1_000_001.0]);
    }
}
