//! The lake on S3: races for a commit, answers that are lost, a store that refuses.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};
use serde_json::json;
use tidemill_tests::faulty::FaultyHttp;
use tidemill_tests::logins::{Plan, Traffic, traffic};
use tidemill_tests::process::Process;
use tidemill_tests::project::Project;
use tidemill_tests::seed::Seeded;
use tidemill_tests::tidemill::{Tidemill, exit};
use tidemill_tests::toxiproxy::{Direction, Toxiproxy};
use tidemill_tests::wait::{self, PATIENCE};
use tidemill_tests::{s3, shared};

use crate::balance::{SOURCE, Scene, assert_landed, assert_models, books, drain};

const FOLLOW: [&str; 4] = ["ingest", "--follow", "--select", SOURCE];

fn host_of(endpoint: &str) -> Result<&str> {
    endpoint.strip_prefix("http://").context("the test server speaks plain HTTP")
}

fn wait_landed(tidemill: &Tidemill, count: i64) -> Result<()> {
    wait::until(&format!("{count} rows"), 2 * PATIENCE, || {
        let landed = books(tidemill).map(|books| books.iter().filter_map(|part| part["landed"].as_i64()).sum::<i64>());
        Ok((landed.unwrap_or(0) >= count).then_some(()))
    })
}

fn stop(follower: &mut Process) -> Result<()> {
    let status = follower.terminate(Duration::from_secs(30))?;
    ensure!(status.code() == Some(exit::DONE), "a clean stop ended with {status}: {}", follower.output()?);
    Ok(())
}

/// The server keeps the promise that every commit stands on: of several conditional puts of one key exactly one wins.
#[test]
fn of_conditional_puts_of_one_key_exactly_one_wins() -> Result<()> {
    const WRITERS: usize = 4;
    const KEYS: usize = 100;
    let endpoint = shared::s3()?;
    let prefix = shared::unique_name("race");
    let barrier = Arc::new(Barrier::new(WRITERS));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (endpoint, prefix, barrier) = (endpoint.clone(), prefix.clone(), Arc::clone(&barrier));
            thread::spawn(move || -> Result<Vec<usize>> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let mut builder = AmazonS3Builder::new().with_bucket_name(s3::BUCKET);
                for (key, value) in s3::options(&endpoint) {
                    builder = builder.with_config(key.parse::<AmazonS3ConfigKey>()?, value);
                }
                let store = builder.build()?;
                barrier.wait();
                let mut won = Vec::new();
                for key in 0..KEYS {
                    let path = Path::from(format!("{prefix}/_delta_log/{key:020}.json"));
                    let body = PutPayload::from(format!("{writer}").into_bytes());
                    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                    match runtime.block_on(store.put_opts(&path, body, options)) {
                        Ok(_) => won.push(key),
                        Err(object_store::Error::AlreadyExists { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(won)
            })
        })
        .collect();
    let mut wins = BTreeMap::new();
    for writer in writers {
        for key in writer.join().expect("a writer does not panic")? {
            *wins.entry(key).or_insert(0) += 1;
        }
    }
    ensure!(wins.len() == KEYS && wins.values().all(|count| *count == 1), "{wins:?}");
    Ok(())
}

#[test]
fn a_cycle_on_s3_lands_each_login_once() -> Result<()> {
    let scene = Scene::new(4)?;
    let Traffic { records, truth } = traffic(&Plan::new(31, 8_000, 4));
    let project = scene.project().s3(&shared::s3()?, &shared::unique_name("cycle")).build()?;
    let tidemill = project.tidemill();
    let producer = scene.topics.producer()?;
    for part in records.chunks(records.len().div_ceil(3)) {
        producer.deliver(&scene.topic, part)?;
        tidemill.succeed(&["run", "--select", "logins_enriched+"])?;
    }
    assert_landed(&tidemill, &truth)?;
    assert_models(&tidemill, &truth)
}

#[test]
fn processes_that_race_for_each_commit_on_s3_land_each_login_once() -> Result<()> {
    const PROCESSES: usize = 3;
    let scene = Scene::new(2)?;
    let Traffic { records, truth } = traffic(&Plan::new(32, 9_000, 2));
    let (endpoint, prefix) = (shared::s3()?, shared::unique_name("race"));
    // Groups of their own: each process reads everything and wants to commit it.
    let projects: Vec<Project> = (0..PROCESSES)
        .map(|number| {
            let rows = (150 + 50 * number).to_string();
            scene.project().ingest("max_batch_rows", &rows).s3(&endpoint, &prefix).build()
        })
        .collect::<Result<_>>()?;
    let mut followers = Vec::new();
    for project in &projects {
        followers.push(project.tidemill().spawn(&FOLLOW)?);
    }
    let producer = scene.topics.producer()?;
    for part in records.chunks(records.len().div_ceil(6)) {
        producer.deliver(&scene.topic, part)?;
        wait::pause(Duration::from_millis(500));
    }
    let tidemill = projects[0].tidemill();
    wait_landed(&tidemill, truth.landed)?;
    for follower in &mut followers {
        stop(follower)?;
    }
    for project in &projects {
        drain(&project.tidemill())?;
    }
    assert_landed(&tidemill, &truth)
}

/// The put arrives and its answer does not: the retry gets 412 for a commit that is our own.
#[test]
fn a_conditional_put_whose_answer_is_cut_off_is_committed_once() -> Result<()> {
    let scene = Scene::new(2)?;
    let Traffic { records, truth } = traffic(&Plan::new(33, 6_000, 2));
    let endpoint = shared::s3()?;
    let toxiproxy = Toxiproxy::start()?;
    let proxy = toxiproxy.proxy("s3", host_of(&endpoint)?)?;
    let prefix = shared::unique_name("cut");
    let spoiled =
        scene.project().ingest("max_batch_rows", "50").s3(&format!("http://{}", proxy.address()), &prefix).build()?;
    let direct = scene.project().s3(&endpoint, &prefix).build()?;
    let mut follower = spoiled.tidemill().spawn(&FOLLOW)?;
    let producer = scene.topics.producer()?;
    for part in records.chunks(records.len().div_ceil(8)) {
        producer.deliver(&scene.topic, part)?;
        wait::pause(Duration::from_millis(700));
        // Requests go through, answers are dropped and the connection is closed after 100 ms.
        proxy.add("timeout", Direction::Downstream, &json!({"timeout": 100}))?;
        wait::pause(Duration::from_millis(400));
        proxy.remove("timeout")?;
        ensure!(follower.try_wait()?.is_none(), "the follower gave up: {}", follower.output()?);
    }
    let tidemill = direct.tidemill();
    wait_landed(&tidemill, truth.landed)?;
    stop(&mut follower)?;
    drain(&tidemill)?;
    assert_landed(&tidemill, &truth)
}

#[test]
fn a_store_that_answers_500_and_503_is_asked_again() -> Result<()> {
    let scene = Scene::new(2)?;
    let Traffic { records, truth } = traffic(&Plan::new(34, 6_000, 2));
    let endpoint = shared::s3()?;
    let front = FaultyHttp::start(host_of(&endpoint)?)?;
    let prefix = shared::unique_name("faults");
    let spoiled =
        scene.project().ingest("max_batch_rows", "50").s3(&format!("http://{}", front.address()), &prefix).build()?;
    let direct = scene.project().s3(&endpoint, &prefix).build()?;
    let mut follower = spoiled.tidemill().spawn(&FOLLOW)?;
    let producer = scene.topics.producer()?;
    for (part, status) in records.chunks(records.len().div_ceil(6)).zip([500, 503, 500, 503, 500, 503]) {
        // With nothing to land it asks for nothing.
        let refused = front.refused();
        front.answer_with(status);
        producer.deliver(&scene.topic, part)?;
        wait::until("a request to be refused", PATIENCE, || Ok((front.refused() > refused).then_some(())))?;
        wait::pause(Duration::from_millis(300));
        front.pass();
        ensure!(follower.try_wait()?.is_none(), "the follower gave up: {}", follower.output()?);
    }
    let tidemill = direct.tidemill();
    wait_landed(&tidemill, truth.landed)?;
    stop(&mut follower)?;
    drain(&tidemill)?;
    assert_landed(&tidemill, &truth)
}

#[test]
fn a_store_that_is_not_there_asks_for_a_retry() -> Result<()> {
    let scene = Scene::new(1)?;
    scene.send(&traffic(&Plan::new(35, 100, 1)))?;
    let nobody = format!("http://127.0.0.1:{}", tidemill_tests::ports::free_port());
    let project = scene.project().s3(&nobody, "none").build()?;
    project.tidemill().expect(exit::RETRY, &["ingest", "--select", SOURCE, "--max-duration", "30s"])?;
    Ok(())
}

/// A prefix that is empty after all: a list of its keys, past our own code.
#[test]
fn a_dry_run_writes_nothing_to_s3() -> Result<()> {
    let scene = Scene::new(1)?;
    scene.send(&traffic(&Plan::new(36, 100, 1)))?;
    let (endpoint, prefix) = (shared::s3()?, shared::unique_name("dry"));
    let project = scene.project().s3(&endpoint, &prefix).build()?;
    let tidemill = project.tidemill();
    tidemill.succeed(&["build", "--dry-run"])?;
    tidemill.succeed(&["publish", "--dry-run"])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut builder = AmazonS3Builder::new().with_bucket_name(s3::BUCKET);
    for (key, value) in s3::options(&endpoint) {
        builder = builder.with_config(key.parse::<AmazonS3ConfigKey>()?, value);
    }
    let store = builder.build()?;
    let listed = runtime.block_on(store.list_with_delimiter(Some(&Path::from(prefix))))?;
    ensure!(listed.objects.is_empty() && listed.common_prefixes.is_empty(), "{listed:?}");
    Ok(())
}

/// Each request has a fate of its own: an error before or after the deed, an answer that is lost, cut or slow, silence.
#[test]
fn a_storm_of_faults_of_every_kind_loses_and_doubles_nothing() -> Result<()> {
    let mut random = Seeded::from_environment(36)?;
    weather_a_storm(&mut random).map_err(|error| random.told(error))
}

fn weather_a_storm(random: &mut Seeded) -> Result<()> {
    const MODELS: &str = "logins_enriched+";
    const FAULTS_PER_ROUND: u32 = 5;
    let scene = Scene::new(3)?;
    let Traffic { records, truth } = traffic(&Plan::new(random.seed(), 9_000, 3));
    let endpoint = shared::s3()?;
    let front = FaultyHttp::start(host_of(&endpoint)?)?;
    let prefix = shared::unique_name("storm");
    let spoiled = scene
        .project()
        .ingest("max_batch_rows", "200")
        .s3(&format!("http://{}", front.address()), &prefix)
        // Shorter than the front's silence.
        .lake_option("timeout", "2s")
        .build()?;
    let direct = scene.project().s3(&endpoint, &prefix).build()?;
    let direct = direct.tidemill();
    let mut follower = spoiled.tidemill().spawn(&FOLLOW)?;
    let producer = scene.topics.producer()?;
    for (number, part) in records.chunks(records.len().div_ceil(10)).enumerate() {
        let before = front.refused();
        front.storm(random.below(u64::MAX), 15 + 3 * number as u64);
        producer.deliver(&scene.topic, part)?;
        // Every build asks the store anew, whatever the follower does, so the storm is met.
        wait::until("some requests of this round to go wrong", PATIENCE, || {
            // What a scheduler runs beside it may ask for a retry, and nothing else.
            let finished = spoiled.tidemill().run(&["build", "--select", MODELS])?;
            ensure!(
                matches!(finished.code, Some(exit::DONE | exit::RETRY)),
                "a build ended with {:?}: {}",
                finished.code,
                finished.stderr
            );
            ensure!(follower.try_wait()?.is_none(), "the follower gave up: {}", follower.output()?);
            Ok((front.refused() >= before + FAULTS_PER_ROUND).then_some(()))
        })?;
        front.pass();
    }
    wait_landed(&direct, truth.landed)?;
    stop(&mut follower)?;
    drain(&direct)?;
    assert_landed(&direct, &truth)?;
    direct.succeed(&["run", "--select", MODELS])?;
    assert_models(&direct, &truth)
}
