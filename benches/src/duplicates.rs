//! (d) Ingest with copies: sent again at once, or a month later.

use anyhow::{Result, ensure};

use crate::DuplicatesArgs;
use crate::broker::Kafka;
use crate::child::Usage;
use crate::results::Section;
use crate::stats::{median, rate, thousands};
use crate::throughput::{Counts, ingest, project};
use crate::traffic::{START_S, second_of, write_login};

const PARTITIONS: i32 = 4;
const DAY_S: u64 = 86_400;
/// Days that the lake holds already in the cases with old copies, and events on each of them.
const OLD_DAYS: u64 = 30;
const OLD_EVENTS_PER_DAY: u64 = 40_000;
/// Old events have numbers that no new one has.
const OLD_NUMBERS: u64 = 1 << 40;

/// Which record is sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// One of the last 20,000.
    Near,
    /// One of the day 30 days ago: 24 event partitions, whose keys are worth loading.
    MonthAgo,
    /// One of the last 30 days: 720 event partitions, a few copies in each.
    AnyDay,
}

/// A case: how many of a thousand records are copies, and of what.
#[derive(Clone, Copy, Debug)]
struct Case {
    per_mille: u64,
    age: Age,
    name: &'static str,
}

const CASES: [Case; 6] = [
    Case { per_mille: 0, age: Age::Near, name: "none, on an empty lake" },
    Case { per_mille: 50, age: Age::Near, name: "5 %, near" },
    Case { per_mille: 500, age: Age::Near, name: "50 %, near" },
    Case { per_mille: 0, age: Age::MonthAgo, name: "none, lake of 30 days" },
    Case { per_mille: 50, age: Age::MonthAgo, name: "5 %, all 30 days old" },
    Case { per_mille: 1, age: Age::AnyDay, name: "0.1 %, 1 to 30 days old" },
];

/// Measures all cases in turn, round by round.
pub(crate) fn measure(args: &DuplicatesArgs) -> Result<Section> {
    let kafka = Kafka::start()?;
    kafka.create("old", PARTITIONS)?;
    let mut sender = kafka.sender(PARTITIONS)?;
    let mut text = String::new();
    for number in 0..OLD_DAYS * OLD_EVENTS_PER_DAY {
        write_old(&mut text, number);
        sender.send("old", &text, Some(old_second(number) * 1000))?;
    }
    sender.flush()?;
    let mut copies = Vec::new();
    for (index, case) in CASES.iter().enumerate() {
        copies.push(fill(&kafka, &topic(index), *case, args.events)?);
    }
    let mut runs: Vec<Vec<Usage>> = vec![Vec::new(); CASES.len()];
    for round in 0..args.rounds {
        for (index, case) in CASES.iter().enumerate() {
            let usage = run(&kafka, &topic(index), *case, args.events, copies[index])?;
            eprintln!("round={round} case={} {usage:?}", case.name);
            runs[index].push(usage);
        }
    }
    let wall = |runs: &[Usage]| median(runs.iter().map(|run| rate(args.events, run.wall)).collect());
    let cpu = |runs: &[Usage]| median(runs.iter().map(|run| 1e6 / rate(args.events, run.cpu)).collect());
    let rows = CASES.iter().zip(&runs).zip(&copies).map(|((case, of_case), copies)| {
        vec![
            case.name.to_owned(),
            thousands(u32::try_from(*copies).map_or(f64::NAN, f64::from)),
            thousands(wall(of_case)),
            format!("{:.0} %", 100.0 * wall(of_case) / wall(&runs[0])),
            format!("{:.2} us", cpu(of_case)),
            format!("{:.0} %", 100.0 * cpu(&runs[0]) / cpu(of_case)),
            format!("{} MiB", of_case.iter().map(|run| run.peak_bytes).max().unwrap_or_default() >> 20),
        ]
    });
    Ok(Section {
        id: "d",
        title: "Duplicates",
        command: format!("benches/run d --events {} --rounds {}", args.events, args.rounds),
        data: format!(
            "As (a), 4 partitions, {} records each, copies included; medians of {} runs in turn. The lake of 30 days holds\n\
             {} events a day in hourly partitions, taken in by the same program before; a fresh process finds it with nothing\n\
             in memory. Every copy was found in every run, and nothing else.",
            thousands(u32::try_from(args.events).map_or(f64::NAN, f64::from)),
            args.rounds,
            thousands(u32::try_from(OLD_EVENTS_PER_DAY).map_or(f64::NAN, f64::from)),
        ),
        heading: vec![
            "copies",
            "dropped",
            "records/s",
            "of the first row",
            "processor time per record",
            "of the first row",
            "peak memory",
        ],
        rows: rows.collect(),
    })
}

fn topic(index: usize) -> String {
    format!("copies-{index}")
}

/// Sends the records of a case; returns how many of them are copies.
fn fill(kafka: &Kafka, topic: &str, case: Case, records: u64) -> Result<u64> {
    kafka.create(topic, PARTITIONS)?;
    let mut sender = kafka.sender(PARTITIONS)?;
    let mut text = String::new();
    let (mut copies, mut fresh) = (0, 0);
    for record in 0..records {
        // Any fixed mixing will do: copies must not stand in a pattern with partitions or hours.
        let mixed = record.wrapping_mul(0xd134_2543_de82_ef95) >> 16;
        let timestamp_ms = second_of(fresh) * 1000;
        if fresh > 0 && mixed % 1_000 < case.per_mille {
            copies += 1;
            match case.age {
                Age::Near => {
                    let original = fresh - 1 - (mixed >> 10) % fresh.min(20_000);
                    write_login(&mut text, original, second_of(original));
                }
                // Each original once: a copy of a copy would be found in memory.
                Age::MonthAgo => write_old(&mut text, copies % OLD_EVENTS_PER_DAY),
                Age::AnyDay => write_old(&mut text, copies * 997 % (OLD_DAYS * OLD_EVENTS_PER_DAY)),
            }
        } else {
            write_login(&mut text, fresh, second_of(fresh));
            fresh += 1;
        }
        sender.send(topic, &text, Some(timestamp_ms))?;
    }
    sender.flush()?;
    ensure!(kafka.count(topic, PARTITIONS)? == records, "the topic does not hold what was sent");
    Ok(copies)
}

fn run(kafka: &Kafka, topic: &str, case: Case, records: u64, copies: u64) -> Result<Usage> {
    let old = project(kafka, "old", "d-old")?;
    if case.age != Age::Near {
        let (report, _) = ingest(&old, None)?;
        ensure!(Counts::of(&report)?.landed == OLD_DAYS * OLD_EVENTS_PER_DAY, "the old events did not land");
    }
    let project = project(kafka, topic, "d")?;
    if case.age != Age::Near {
        std::fs::rename(old.lake(), project.lake())?;
    }
    let (report, usage) = ingest(&project, None)?;
    let counts = Counts::of(&report)?;
    let expected = Counts { landed: records - copies, duplicates: copies, quarantined: 0 };
    ensure!(counts == expected, "{}: expected {expected:?}, found {counts:?}", case.name);
    Ok(usage)
}

/// The second at which an old event happened: spread evenly over the 30 days before the first new one.
fn old_second(number: u64) -> i64 {
    let second = number * DAY_S / OLD_EVENTS_PER_DAY;
    START_S - i64::try_from(OLD_DAYS * DAY_S).unwrap_or(0) + i64::try_from(second).unwrap_or(0)
}

fn write_old(text: &mut String, number: u64) {
    write_login(text, OLD_NUMBERS + number, old_second(number));
}
