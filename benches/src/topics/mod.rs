//! (k) From an event to the topic that tells of it, for each of the five systems at its design point.

mod cases;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use tidemill_project::clock::{Clock, Micros};
use tidemill_tests::project::ProjectBuilder;
use tidemill_tests::wait;

use self::cases::{CASES, Case, Expected, Output, Word};
use crate::TopicsArgs;
use crate::broker::{Follower, Kafka, Sender};
use crate::results::Section;
use crate::stats::{quantile, thousands};

const PARTITIONS: i32 = 6;
const SECOND_US: i64 = 1_000_000;
/// Of the first seconds nothing counts: tables are created in them, consumers join their group.
const WARM_UP_S: u64 = 10;
/// How long a message may take that is due.
const LIMIT: Duration = Duration::from_mins(1);
/// How often the sender sends what is due.
const STEP: Duration = Duration::from_millis(5);

/// Measures one system after the other.
pub(crate) fn measure(args: &TopicsArgs) -> Result<Section> {
    ensure!(args.seconds > WARM_UP_S, "the first {WARM_UP_S} seconds are not counted: --seconds is too small");
    let kafka = Kafka::start()?;
    let mut rows = Vec::new();
    let wanted = |case: &&Case| args.systems.is_empty() || args.systems.iter().any(|name| name == case.system);
    for case in CASES.iter().filter(wanted) {
        rows.extend(run(&kafka, case, args.seconds)?);
    }
    Ok(Section {
        id: "k",
        title: "From an event to a topic",
        command: format!("benches/run k --seconds {}", args.seconds),
        data: format!(
            "`tidemill run --every 0s` goes round without a pause over the models of one system: ingest, build with tests, publish in\n\
             transactions. Events go to Apache Kafka on the same two cores at the system's design point; their time is the time of\n\
             sending. A reader of committed messages follows each output topic; a message's age counts from the sending of its\n\
             event, that of a window from when it was closed (its end and the grace). Counted are events and windows of {} s after the\n\
             first {WARM_UP_S} s; each of them was told of.",
            args.seconds - WARM_UP_S,
        ),
        heading: vec![
            "requirement",
            "told",
            "topic",
            "events/s",
            "messages",
            "p50",
            "p95",
            "p99",
            "longest",
            "p95 allowed",
        ],
        rows,
    })
}

fn run(kafka: &Kafka, case: &Case, seconds: u64) -> Result<Vec<Vec<String>>> {
    for topic in case.inputs.iter().copied().chain(case.outputs.iter().map(|output| output.topic)) {
        kafka.create(topic, PARTITIONS)?;
    }
    let project = ProjectBuilder::shipped().kafka(&kafka.bootstrap(), case.system).build()?;
    let tidemill = project.tidemill();
    let mut sender = kafka.sender(PARTITIONS)?;
    for (topic, value) in (case.before)() {
        sender.send(topic, &value, None)?;
    }
    sender.flush()?;
    tidemill.succeed(&["seed", "--vars", case.vars])?;
    let run = [&["--vars", case.vars, "run", "--select"], case.select].concat();
    tidemill.succeed(&run)?;
    let mut cycle = tidemill.spawn(&[&run[..], &["--every", "0s"]].concat())?;
    let start_us = Clock::system().now_us();
    let is_over = AtomicBool::new(false);
    let measured = thread::scope(|scope| -> Result<_> {
        let mut readers = Vec::new();
        for output in case.outputs {
            let follower = kafka.follower(output.topic, PARTITIONS)?;
            let due = Due { expected: output.expected, rate: case.rate, seconds, start_us };
            let is_over = &is_over;
            readers.push(scope.spawn(move || look(&follower, output, &due, is_over)));
        }
        // Traffic does not end with what is measured: windows close behind it.
        let sent =
            send(&mut sender, case, start_us, seconds, || readers.iter().all(thread::ScopedJoinHandle::is_finished));
        is_over.store(true, Ordering::SeqCst);
        let seen = readers.into_iter().map(|reader| reader.join().map_err(|_| anyhow!("a reader died"))?);
        let seen = seen.collect::<Result<Vec<_>>>()?;
        Ok((sent?, seen))
    });
    let ended = cycle.terminate(wait::PATIENCE)?;
    ensure!(ended.success(), "{}", cycle.output()?);
    let (sent, seen) = measured?;
    let rows = case.outputs.iter().zip(&seen).map(|(output, seen)| {
        let due = Due { expected: output.expected, rate: case.rate, seconds, start_us };
        let wanted = due.count();
        ensure!(
            seen.len() as u64 == wanted,
            "{}: {} of {wanted} were told\n{}",
            output.topic,
            seen.len(),
            cycle.output()?
        );
        Ok(row(case, output, &ages(&sent, seen)?))
    });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    for topic in case.inputs.iter().copied().chain(case.outputs.iter().map(|output| output.topic)) {
        kafka.delete(topic)?;
    }
    Ok(rows)
}

/// Which words must be seen.
#[derive(Clone, Copy, Debug)]
struct Due {
    expected: Expected,
    rate: u64,
    seconds: u64,
    start_us: Micros,
}

impl Due {
    fn includes(&self, word: Word) -> bool {
        match (self.expected, word) {
            (Expected::Events { of, rest }, Word::Event(number)) => {
                self.numbers().contains(&number) && number % of == rest
            }
            (Expected::Windows { per_step, grace_s, .. }, Word::Closed { at_us, of }) => {
                let (first_us, last_us) = self.ends_us();
                (first_us..=last_us).contains(&(at_us - grace_s * SECOND_US)) && of < per_step
            }
            _ => false,
        }
    }

    fn count(&self) -> u64 {
        match self.expected {
            Expected::Events { of, rest } => self.numbers().filter(|number| number % of == rest).count() as u64,
            Expected::Windows { every_s, per_step, .. } => {
                let (first_us, last_us) = self.ends_us();
                let steps_before = |us: Micros| us.div_euclid(every_s * SECOND_US);
                per_step * u64::try_from(steps_before(last_us) - steps_before(first_us - 1)).unwrap_or_default()
            }
        }
    }

    fn numbers(&self) -> std::ops::Range<u64> {
        WARM_UP_S * self.rate..self.seconds * self.rate
    }

    /// The first and the last instant at which a window may end that counts.
    fn ends_us(&self) -> (Micros, Micros) {
        let after = |seconds: u64| self.start_us + i64::try_from(seconds).unwrap_or_default() * SECOND_US;
        (after(WARM_UP_S), after(self.seconds) - SECOND_US)
    }
}

/// Sends at the rate until `is_seen` or time is up; returns when each event was sent.
fn send(
    sender: &mut Sender,
    case: &Case,
    start_us: Micros,
    seconds: u64,
    is_seen: impl Fn() -> bool,
) -> Result<Vec<Micros>> {
    let clock = Clock::system();
    let end_us = start_us + i64::try_from(seconds + case.grace_s())? * SECOND_US + i64::try_from(LIMIT.as_micros())?;
    let mut sent: Vec<Micros> = Vec::new();
    let mut text = String::new();
    loop {
        let now_us = clock.now_us();
        let is_measured = sent.len() as u64 >= seconds * case.rate;
        if now_us >= end_us || (is_measured && is_seen()) {
            break;
        }
        let due = usize::try_from((now_us - start_us) * i64::try_from(case.rate)? / SECOND_US)?;
        while sent.len() < due {
            text.clear();
            let input = (case.event)(&mut text, sent.len() as u64, now_us);
            sender.send(case.inputs[input], &text, None)?;
            sent.push(now_us);
        }
        sender.serve();
        wait::pause(STEP);
    }
    sender.flush()?;
    Ok(sent)
}

/// When each word that is due was first seen.
fn look(follower: &Follower, output: &Output, due: &Due, is_over: &AtomicBool) -> Result<HashMap<Word, Micros>> {
    let clock = Clock::system();
    let wanted = due.count();
    let mut seen = HashMap::new();
    while (seen.len() as u64) < wanted && !is_over.load(Ordering::SeqCst) {
        let Some((key, value)) = follower.next(Duration::from_millis(100))? else { continue };
        let now_us = clock.now_us();
        if let Some(word) = (output.tells)(&key, &value).filter(|word| due.includes(*word)) {
            seen.entry(word).or_insert(now_us);
        }
    }
    Ok(seen)
}

/// Seconds from the sending or closing to the sight, sorted.
#[expect(clippy::cast_precision_loss, reason = "microseconds of minutes")]
fn ages(sent: &[Micros], seen: &HashMap<Word, Micros>) -> Result<Vec<f64>> {
    let mut ages = Vec::with_capacity(seen.len());
    for (word, seen_us) in seen {
        let from_us = match word {
            Word::Event(number) => {
                *sent.get(usize::try_from(*number)?).ok_or_else(|| anyhow!("nobody sent {word:?}"))?
            }
            Word::Closed { at_us, .. } => *at_us,
        };
        ages.push((seen_us - from_us) as f64 / 1e6);
    }
    ages.sort_by(f64::total_cmp);
    Ok(ages)
}

fn row(case: &Case, output: &Output, ages: &[f64]) -> Vec<String> {
    let seconds = |share: f64| format!("{:.2} s", quantile(ages, share));
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let count = |count: u64| thousands(count as f64);
    let row = vec![
        output.id.to_owned(),
        output.title.to_owned(),
        format!("`{}`", output.topic),
        count(case.rate),
        count(ages.len() as u64),
        seconds(0.5),
        seconds(0.95),
        seconds(0.99),
        seconds(1.0),
        format!("{} s", output.limit_s),
    ];
    eprintln!("{}", row.join(" | "));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_are_due_are_counted_as_they_are_recognised() {
        let expected = Expected::Windows { every_s: 10, per_step: 2, grace_s: 30 };
        for start_us in [0, 3_000_000, 9_999_999, 10_000_000] {
            let due = Due { expected, rate: 1, seconds: 47, start_us };
            let ends = (0..20).map(|step| (step * 10 + 30) * SECOND_US);
            let found = ends.flat_map(|at_us| (0..3).map(move |of| Word::Closed { at_us, of }));
            assert_eq!(found.filter(|word| due.includes(*word)).count() as u64, due.count(), "{start_us}");
        }
        let due = Due { expected: Expected::Events { of: 20, rest: 7 }, rate: 100, seconds: 12, start_us: 0 };
        assert_eq!((0..5_000).filter(|number| due.includes(Word::Event(*number))).count() as u64, due.count());
        assert_eq!(due.count(), 10);
    }
}
