//! `kill -9` at every named point and at random moments, while a producer sends.

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tidemill_tests::failpoints;
use tidemill_tests::kafka::Broker;
use tidemill_tests::logins::{Plan, Traffic, traffic};
use tidemill_tests::process::Process;
use tidemill_tests::project::ProjectBuilder;
use tidemill_tests::seed::Seeded;
use tidemill_tests::simulated::{self, Simulated};
use tidemill_tests::tidemill::{Tidemill, exit};
use tidemill_tests::topics::Topics;
use tidemill_tests::wait::{self, PATIENCE};

use crate::balance::{SOURCE, Scene, assert_landed};
use crate::truth::{assert_books, assert_marts, assert_warehouse};

const EVENTS: u64 = 200_000;
/// The issue asks for fifty.
const KILLS: usize = 60;
/// How often each named point kills, each time at another pass.
const KILLS_PER_POINT: usize = 3;

/// Where one process is to be killed.
#[derive(Clone, Debug)]
enum Moment {
    /// At the n-th pass of a named point.
    Point(String, u32),
    /// After so many milliseconds of life.
    Random(u64),
}

fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SIGKILL as i32)
}

/// Runs a command that is killed at `moment`; tells whether the kill came before its end.
fn run_until(tidemill: &Tidemill, moment: &Moment, command: &[&str]) -> Result<bool> {
    let status = match moment {
        Moment::Point(point, pass) => {
            let mut process = tidemill.clone().crash_at(point, *pass).spawn(command)?;
            let status = process.wait(PATIENCE)?;
            check(&process, status, command)?;
            status
        }
        Moment::Random(after_ms) => {
            let mut process = tidemill.spawn(command)?;
            wait::pause(Duration::from_millis(*after_ms));
            let status = process.kill()?;
            check(&process, status, command)?;
            status
        }
    };
    Ok(was_killed(status))
}

/// A process that was not killed must have succeeded, or have asked for a retry because of a neighbour's kill.
fn check(process: &Process, status: ExitStatus, command: &[&str]) -> Result<()> {
    let fine = was_killed(status) || matches!(status.code(), Some(exit::DONE | exit::RETRY));
    ensure!(fine, "tidemill {} ended with {status}\n{}", command.join(" "), process.output()?);
    Ok(())
}

/// All named points several times, the rest at random, in random order.
fn schedule(points: &[String], random: &mut Seeded) -> Result<VecDeque<Moment>> {
    let mut moments = Vec::new();
    for point in points {
        // A cycle passes ingest's points once a source and batch, those of models and tables once each of them.
        let most = if point.starts_with("ingest.") { 3 } else { 6 };
        for _ in 0..KILLS_PER_POINT {
            moments.push(Moment::Point(point.clone(), 1 + u32::try_from(random.below(most))?));
        }
    }
    while moments.len() < KILLS {
        moments.push(Moment::Random(50 + random.below(3_000)));
    }
    random.shuffle(&mut moments);
    Ok(moments.into())
}

#[test]
fn two_hundred_thousand_events_survive_sixty_kills_of_the_whole_cycle() -> Result<()> {
    let mut random = Seeded::from_environment(20_250_308)?;
    survive(&mut random).map_err(|error| random.told(error))
}

fn survive(random: &mut Seeded) -> Result<()> {
    let Simulated { records, truth } = simulated::simulate(random.seed(), EVENTS);
    // Its own broker: the topics carry the names of the shipped contracts.
    let broker = Broker::start()?;
    simulated::create_topics(&Topics::connect(&broker.bootstrap())?)?;
    let mut sender = simulated::sender(&broker.bootstrap())?;
    let project = ProjectBuilder::shipped()
        .kafka(&broker.bootstrap(), "kills")
        // A killed process leaves its partitions soon.
        .kafka_property("session.timeout.ms", "2000")
        .kafka_property("heartbeat.interval.ms", "300")
        .ingest("max_batch_rows", "500")
        .build()?;
    let tidemill = project.tidemill().as_of(&truth.as_of());

    let mut points = Vec::new();
    for prefix in ["ingest.", "transform.", "publish.local."] {
        points.extend(failpoints::named(prefix)?);
    }
    let mut moments = schedule(&points, random)?;
    // Some are left over for the rounds in which there was too little to do to come to a late pass.
    let mut slices = records.chunks(records.len().div_ceil(moments.len() + points.len()));
    let mut reached = BTreeSet::new();
    let (mut kills, mut rounds) = (0, 0);
    while let Some(moment) = moments.pop_front() {
        rounds += 1;
        ensure!(rounds < 3 * KILLS, "only {kills} of {rounds} processes were killed in time; missing: {moments:?}");
        let slice = slices.next().unwrap_or_default();
        let killed = thread::scope(|scope| -> Result<bool> {
            let sending = scope.spawn(|| sender.send(slice));
            let command = match moment {
                Moment::Point(..) => &["run"][..],
                Moment::Random(_) => &["run", "--every", "100ms"],
            };
            let killed = run_until(&tidemill, &moment, command);
            sending.join().expect("the sender does not panic")?;
            killed
        })
        .with_context(|| format!("round {rounds}, {moment:?}"))?;
        match moment {
            Moment::Point(point, _) if killed => drop(reached.insert(point)),
            Moment::Point(point, _) => moments.push_back(Moment::Point(point, 1)),
            Moment::Random(_) => {}
        }
        kills += usize::from(killed);
    }
    ensure!(kills >= KILLS && reached.len() == points.len(), "{kills} kills, points reached: {reached:?}");
    for slice in slices {
        sender.send(slice)?;
    }
    tidemill.succeed(&["run"])?;
    assert_books(&tidemill, &truth)?;
    assert_marts(&tidemill, &truth)?;
    assert_warehouse(&project)
}

#[test]
fn every_named_point_of_ingest_is_reached_and_survived() -> Result<()> {
    let scene = Scene::new(2)?;
    let points = failpoints::named("ingest.")?;
    let Traffic { records, truth } = traffic(&Plan { malformed: 20, ..Plan::new(21, 4_000, 2) });
    let project = scene.project().ingest("max_batch_rows", "100").build()?;
    let tidemill = project.tidemill();
    let producer = scene.topics.producer()?;
    for (point, slice) in points.iter().zip(records.chunks(records.len().div_ceil(points.len()))) {
        producer.deliver(&scene.topic, slice)?;
        let killed = run_until(&tidemill, &Moment::Point(point.clone(), 1), &["ingest", "--select", SOURCE])?;
        ensure!(killed, "{point} was never reached");
    }
    tidemill.succeed(&["ingest", "--select", SOURCE])?;
    assert_landed(&tidemill, &truth)
}
