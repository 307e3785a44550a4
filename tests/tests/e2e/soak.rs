//! Hours of bad luck in a minute.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidemill_tests::logins::{Plan, Traffic, traffic};
use tidemill_tests::seed::Seeded;
use tidemill_tests::wait::{self, PATIENCE};

use crate::balance::{SOURCE, Scene, assert_landed, assert_models, books, drain};

const EVENTS: u32 = 60_000;
const KILLS: usize = 24;
const FOLLOW: [&str; 4] = ["ingest", "--follow", "--select", SOURCE];

/// Two processes share a group, a third one reads everything again in a group of its own into the same table; one after the
/// other is killed at a moment of no choice and started again.
#[test]
fn three_processes_of_two_groups_on_one_table_survive_random_kills() -> Result<()> {
    let mut random = Seeded::from_environment(61)?;
    soak(&mut random).map_err(|error| random.told(error))
}

fn soak(random: &mut Seeded) -> Result<()> {
    let scene = Scene::new(6)?;
    let Traffic { records, truth } = traffic(&Plan::new(random.seed(), EVENTS, 6));
    let one = scene.project().ingest("max_batch_rows", "400").build()?;
    let two = scene.project().ingest("max_batch_rows", "900").lake(&one.lake()).build()?;
    let homes = [one.tidemill(), one.tidemill(), two.tidemill()];
    let mut processes = Vec::new();
    for home in &homes {
        processes.push(home.spawn(&FOLLOW)?);
    }
    let producer = scene.topics.producer()?;
    for part in records.chunks(records.len().div_ceil(KILLS)) {
        producer.deliver(&scene.topic, part)?;
        wait::pause(Duration::from_millis(random.below(1_200)));
        let victim = random.index(homes.len());
        ensure!(processes[victim].try_wait()?.is_none(), "it ended by itself: {}", processes[victim].output()?);
        processes[victim].kill()?;
        processes[victim] = homes[victim].spawn(&FOLLOW)?;
    }
    let tidemill = &homes[0];
    wait::until("all of it", 2 * PATIENCE, || {
        let landed: i64 = books(tidemill)?.iter().filter_map(|part| part["landed"].as_i64()).sum();
        Ok((landed >= truth.landed).then_some(()))
    })?;
    for process in &mut processes {
        let status = process.terminate(Duration::from_secs(20))?;
        ensure!(status.success(), "a clean stop ended with {status}: {}", process.output()?);
    }
    drain(&one.tidemill())?;
    drain(&two.tidemill())?;
    assert_landed(tidemill, &truth)?;
    tidemill.succeed(&["build", "--select", "logins_enriched+"])?;
    assert_models(tidemill, &truth)
}
