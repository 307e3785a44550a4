//! (j) The HTTP door: how many requests it takes, how long they wait, what it holds in memory, and that everything which it
//! acknowledged is in Kafka.

mod load;
mod message;
mod watch;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidemill_tests::process::Process;
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::{ports, wait};

use self::load::{Answers, Load, Pace};
use self::message::Shape;
use self::watch::{Memory, processor_time};
use crate::CollectArgs;
use crate::broker::Kafka;
use crate::results::Section;
use crate::stats::{quantile, thousands};

const TOPIC: &str = "raw_sensor_data";
const PARTITIONS: i32 = 6;
const API_KEY: &str = "bench";
/// `printf bench | tidemill collect --hash-key`
const API_KEY_SHA256: &str = "1b32c28cb38c05480eccc1bd60ff97029b57a05c96718b96dad7e9d84894f549";
/// Phones that take turns; a message's phone is the key of its records.
const PHONES: u64 = 100;
/// The design point (A21): 100 phones that post the 100 readings of a second, once a second.
const DESIGN_READINGS: usize = 100;
#[expect(clippy::cast_precision_loss, reason = "a hundred")]
const DESIGN_RATE: f64 = PHONES as f64;
/// Connections of an open loop: enough that none waits for another at the rates that are measured.
const OPEN_CONNECTIONS: u64 = 100;

/// Measures all shapes in closed loops, then latency in open ones, the last of them long.
pub(crate) fn measure(args: &CollectArgs) -> Result<Section> {
    let kafka = Kafka::start()?;
    kafka.create(TOPIC, PARTITIONS)?;
    let bench = Bench::start(&kafka)?;
    let seconds = Duration::from_secs(args.seconds);
    let (single, batch) = (Shape::new(1, false), Shape::new(args.readings, false));
    let (packed, design) = (Shape::new(args.readings, true), Shape::new(DESIGN_READINGS, false));
    let mut rows = Vec::new();
    let mut fastest = 0.0;
    // Connections, code and buffers that a first run would pay for.
    bench.run(&batch, Pace::Closed, 8, seconds.min(Duration::from_secs(3)))?;
    for shape in [&single, &batch, &packed] {
        for &connections in &args.connections {
            let run = bench.run(shape, Pace::Closed, connections, seconds)?;
            if std::ptr::eq(shape, &raw const batch) {
                fastest = run.answers.per_second().max(fastest);
            }
            rows.push(run.row(shape));
        }
    }
    rows.push(bench.run(&design, Pace::Open { per_second: DESIGN_RATE }, OPEN_CONNECTIONS, seconds)?.row(&design));
    let half = Pace::Open { per_second: fastest / 2.0 };
    let long = Duration::from_secs(60 * args.minutes);
    rows.push(bench.run(&batch, half, OPEN_CONNECTIONS, seconds.max(long))?.row(&batch));
    let (messages, readings) = bench.check(&kafka)?;
    Ok(Section {
        id: "j",
        title: "The HTTP door",
        command: format!(
            "benches/run j --seconds {} --minutes {} --readings {}",
            args.seconds, args.minutes, args.readings
        ),
        data: format!(
            "`tidemill collect` and Apache Kafka on loopback, the load's side on the same two cores; one API key, plain HTTP, 200 only\n\
             after the broker's acknowledgement (acks=all). *closed*: each connection asks again when it was answered, {} s a row; *open*: requests are due\n\
             at a fixed rate over {OPEN_CONNECTIONS} connections and their time counts from when they were due. The rows of open loops: the design point of {PHONES} phones\n\
             that post {DESIGN_READINGS} readings a second each, and half of the greatest rate for {} min. *processor time* is the collector's; *memory* the most that it held in\n\
             the row's time, and what a line through all but the row's first fifth gains in a minute. All {} acknowledged messages of\n\
             all rows were then read back from the topic: each of their {} readings is there, once.",
            args.seconds,
            args.minutes,
            thousands_of(messages),
            thousands_of(readings),
        ),
        heading: vec![
            "readings",
            "loop",
            "connections",
            "requests/s",
            "readings/s",
            "p50",
            "p99",
            "p99.9",
            "longest",
            "refused",
            "processor time per request",
            "memory",
            "per minute",
        ],
        rows,
    })
}

/// A running collector.
struct Bench {
    address: SocketAddr,
    door: Process,
    next: AtomicU64,
    /// Readings of each message that was acknowledged, by its number.
    acknowledged: std::sync::Mutex<Vec<u16>>,
    _project: Project,
}

/// One row's measurement.
struct Run {
    pace: Pace,
    connections: u64,
    answers: Answers,
    processor_time: Duration,
    memory: Memory,
}

impl Bench {
    fn start(kafka: &Kafka) -> Result<Self> {
        let port = ports::free_port();
        let settings = format!(
            "name = \"bench\"\ndefault_target = \"bench\"\n[target.bench.kafka]\ngroup = \"bench\"\n\
             \"bootstrap.servers\" = \"{}\"\n[target.bench.lake]\nurl = \"lake\"\n[target.bench.collect]\n\
             listen = \"127.0.0.1:{port}\"\nkeys = [{{ id = \"bench\", sha256 = \"{API_KEY_SHA256}\" }}]\n",
            kafka.bootstrap()
        );
        let project = ProjectBuilder::shipped().file("tidemill.toml", &settings).build()?;
        let mut door = project.tidemill().spawn(&["--vars", "{activity_enabled: true}", "collect"])?;
        door.wait_ready(wait::PATIENCE, || ports::is_open(port))?;
        Ok(Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            door,
            next: AtomicU64::new(0),
            acknowledged: std::sync::Mutex::default(),
            _project: project,
        })
    }

    fn run(&self, shape: &Shape, pace: Pace, connections: u64, length: Duration) -> Result<Run> {
        let load = Load { address: self.address, connections, pace, length };
        let before = processor_time(self.door.pid())?;
        let is_over = AtomicBool::new(false);
        let (answers, memory) = thread::scope(|scope| -> Result<_> {
            let watching = scope.spawn(|| Memory::watch(self.door.pid(), || is_over.load(Ordering::SeqCst)));
            let answers = load::run(&load, shape, &self.next);
            is_over.store(true, Ordering::SeqCst);
            let memory = watching.join().expect("the watcher does not panic");
            Ok((answers?, memory?))
        })?;
        let processor_time = processor_time(self.door.pid())?.saturating_sub(before);
        let mut acknowledged = self.acknowledged.lock().expect("nobody panics with it");
        for number in &answers.acknowledged {
            let index = usize::try_from(*number)?;
            if acknowledged.len() <= index {
                acknowledged.resize(index + 1, 0);
            }
            acknowledged[index] = u16::try_from(shape.readings)?;
        }
        eprintln!(
            "readings={} gzip={} {pace:?} connections={connections}: {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, {} refused",
            shape.readings,
            shape.is_gzip,
            answers.per_second(),
            quantile(&answers.latencies, 0.5),
            quantile(&answers.latencies, 0.99),
            answers.refused
        );
        Ok(Run { pace, connections, answers, processor_time, memory })
    }

    /// Reads the topic and compares it with what was acknowledged: messages, readings.
    fn check(&self, kafka: &Kafka) -> Result<(u64, u64)> {
        let acknowledged = self.acknowledged.lock().expect("nobody panics with it");
        let mut found = vec![0_u16; acknowledged.len()];
        kafka.read(TOPIC, PARTITIONS, |key, value| {
            let number = message_of(value)?;
            ensure!(key == format!("phone-{}", number % PHONES).as_bytes(), "message {number} has another key");
            // Messages that were refused may be there as well.
            if let Some(count) = found.get_mut(usize::try_from(number)?) {
                *count += 1;
            }
            Ok(())
        })?;
        let (mut messages, mut readings) = (0, 0);
        for (number, (acknowledged, found)) in acknowledged.iter().zip(&found).enumerate() {
            if *acknowledged > 0 {
                ensure!(
                    acknowledged == found,
                    "message {number} was acknowledged with {acknowledged} readings; {found} are in Kafka"
                );
                messages += 1;
                readings += u64::from(*found);
            }
        }
        Ok((messages, readings))
    }
}

/// The number of a record's message: its first field.
fn message_of(value: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(value)?;
    let digits = text.strip_prefix(r#"{"message_id":"#).and_then(|rest| rest.split(',').next());
    digits.and_then(|digits| digits.parse().ok()).with_context(|| format!("no message number in {text}"))
}

impl Run {
    fn row(&self, shape: &Shape) -> Vec<String> {
        let Self { pace, connections, answers, processor_time, memory } = self;
        let milliseconds = |share: f64| format!("{:.1} ms", quantile(&answers.latencies, share));
        let requests = answers.acknowledged.len() as u64 + answers.refused;
        let per_second = answers.per_second();
        #[expect(clippy::cast_precision_loss, reason = "a message has few readings")]
        let readings = shape.readings as f64;
        vec![
            format!("{}{}", shape.readings, if shape.is_gzip { ", gzip" } else { "" }),
            match pace {
                Pace::Closed => "closed".to_owned(),
                Pace::Open { per_second } => format!("open, {}/s", thousands(*per_second)),
            },
            connections.to_string(),
            thousands(per_second),
            thousands(per_second * readings),
            milliseconds(0.5),
            milliseconds(0.99),
            milliseconds(0.999),
            milliseconds(1.0),
            answers.refused.to_string(),
            format!("{:.0} us", 1e6 / crate::stats::rate(requests, *processor_time)),
            format!("{:.0} MiB", memory.most()),
            format!("{:+.1} MiB", memory.slope()),
        ]
    }
}

fn thousands_of(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let count = count as f64;
    thousands(count)
}
