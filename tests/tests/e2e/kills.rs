//! `kill -9` at every named point and at random moments, while a producer sends.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tidemill_tests::failpoints;
use tidemill_tests::logins::{Plan, Traffic, traffic};
use tidemill_tests::process::Process;
use tidemill_tests::tidemill::{Tidemill, exit};
use tidemill_tests::wait::{self, PATIENCE};

use crate::balance::{SOURCE, Scene, assert_landed, assert_models};

const EVENTS: u32 = 200_000;
const KILLS: usize = 60;
const MODELS: &str = "logins_enriched+";

/// Where one process is to be killed.
enum Moment {
    /// At the n-th pass of a named point.
    Point(String, u32),
    /// After so many milliseconds of life.
    Random(u64),
}

/// The seed of this run: printed with every failure, chosen by `TIDEMILL_SEED`.
fn seed() -> Result<u64> {
    #[expect(clippy::disallowed_methods, reason = "a failed run is repeated by its seed")]
    match std::env::var("TIDEMILL_SEED") {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(20_250_308),
    }
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

#[test]
fn two_hundred_thousand_logins_survive_sixty_kills() -> Result<()> {
    let seed = seed()?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let scene = Scene::new(4)?;
    let Traffic { records, truth } = traffic(&Plan { events_per_s: 20, ..Plan::new(seed, EVENTS, 4) });
    let project = scene.project().ingest("max_batch_rows", "500").build()?;
    let tidemill = project.tidemill();

    let ingest_points = failpoints::named("ingest.")?;
    let build_points = failpoints::named("transform.")?;
    let publish_points = failpoints::named("publish.local.")?;
    let ingest = ["ingest", "--select", SOURCE];
    let follow = ["ingest", "--follow", "--select", SOURCE];
    let build = ["build", "--select", MODELS];
    let publish = ["publish", "--select", MODELS];

    let slices: Vec<_> = records.chunks(records.len().div_ceil(KILLS)).collect();
    let producer = scene.topics.producer()?;
    let mut kills = 0;
    let mut round = 0;
    while kills < KILLS || round < slices.len() {
        ensure!(round < 4 * KILLS, "only {kills} of {round} processes were killed in time, seed={seed}");
        let slice = slices.get(round).copied().unwrap_or_default();
        let killed = thread::scope(|scope| -> Result<usize> {
            let sender = scope.spawn(|| producer.deliver(&scene.topic, slice));
            let pass = 1 + u32::try_from(random.next_u64() % 3)?;
            let mut killed = 0;
            // Two of three rounds kill ingest, by name and at random in turn; the third kills what stands on it.
            if round % 3 < 2 {
                let point = &ingest_points[(round / 3) % ingest_points.len()];
                let (moment, command) = if round % 3 == 0 {
                    (Moment::Point(point.clone(), pass), &ingest[..])
                } else {
                    (Moment::Random(100 + random.next_u64() % 1_500), &follow[..])
                };
                killed += usize::from(run_until(&tidemill, &moment, command)?);
            } else {
                let point = &build_points[(round / 3) % build_points.len()];
                killed += usize::from(run_until(&tidemill, &Moment::Point(point.clone(), pass), &build)?);
                let point = &publish_points[(round / 3) % publish_points.len()];
                killed += usize::from(run_until(&tidemill, &Moment::Point(point.clone(), 1), &publish)?);
            }
            sender.join().expect("the sender does not panic")?;
            Ok(killed)
        })?;
        kills += killed;
        round += 1;
    }

    let told = |error: anyhow::Error| error.context(format!("after {kills} kills, seed={seed}"));
    tidemill.succeed(&ingest).map_err(told)?;
    assert_landed(&tidemill, &truth).map_err(told)?;
    tidemill.succeed(&build).map_err(told)?;
    assert_models(&tidemill, &truth).map_err(told)?;
    tidemill.succeed(&publish).map_err(told)?;
    tidemill.succeed(&["publish", "--check", "--select", MODELS]).map_err(told)?;
    Ok(())
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
