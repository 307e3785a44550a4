//! Ingest from Apache Kafka: rebalances, stopped and stalled processes, transactions, gaps, a broker that goes away.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tidemill_tests::kafka::Broker;
use tidemill_tests::logins::{Plan, Traffic, Truth, traffic};
use tidemill_tests::process::Process;
use tidemill_tests::tidemill::{Tidemill, exit};
use tidemill_tests::topics::Record;
use tidemill_tests::wait::{self, PATIENCE};

use crate::balance::{SOURCE, Scene, assert_landed, assert_models, books, drain};

const FOLLOW: [&str; 4] = ["ingest", "--follow", "--select", SOURCE];

/// Rows landed so far, out of the commits alone.
fn landed(tidemill: &Tidemill) -> Result<i64> {
    Ok(books(tidemill)?.iter().filter_map(|part| part["landed"].as_i64()).sum())
}

/// Waits until `count` rows have landed.
fn wait_landed(tidemill: &Tidemill, count: i64) -> Result<()> {
    wait::until(&format!("{count} rows"), PATIENCE, || {
        // Nothing is there before the first commit.
        Ok((landed(tidemill).unwrap_or(0) >= count).then_some(()))
    })
}

/// Stops a follower as an operator does; it must end in time, with success.
fn stop(follower: &mut Process) -> Result<()> {
    let status = follower.terminate(Duration::from_secs(20))?;
    ensure!(status.code() == Some(exit::DONE), "a clean stop ended with {status}: {}", follower.output()?);
    Ok(())
}

fn parts(records: &[Record], count: usize) -> impl Iterator<Item = &[Record]> {
    records.chunks(records.len().div_ceil(count))
}

#[test]
fn a_drain_lands_each_login_once_and_a_second_one_nothing() -> Result<()> {
    let scene = Scene::new(4)?;
    let traffic = traffic(&Plan::new(1, 20_000, 4));
    scene.send(&traffic)?;
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    drain(&tidemill)?;
    assert_landed(&tidemill, &traffic.truth)?;
    let before = tidemill.number("select count(*) from ops.quarantine")?;
    drain(&tidemill)?;
    assert_landed(&tidemill, &traffic.truth)?;
    ensure!(before == tidemill.number("select count(*) from ops.quarantine")?);
    tidemill.succeed(&["build", "--select", "logins_enriched+"])?;
    assert_models(&tidemill, &traffic.truth)
}

#[test]
fn a_cycle_reaches_the_local_warehouse_and_a_late_part_of_the_topic_is_added() -> Result<()> {
    let scene = Scene::new(2)?;
    let Traffic { records, truth } = traffic(&Plan::new(2, 6_000, 2));
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    let producer = scene.topics.producer()?;
    for part in parts(&records, 3) {
        producer.deliver(&scene.topic, part)?;
        tidemill.succeed(&["run", "--select", "logins_enriched+"])?;
    }
    assert_landed(&tidemill, &truth)?;
    assert_models(&tidemill, &truth)?;
    // Lake and warehouse agree, and a cycle with nothing new changes neither.
    tidemill.succeed(&["publish", "--check", "--select", "logins_enriched+"])?;
    tidemill.succeed(&["run", "--select", "logins_enriched+"])?;
    tidemill.succeed(&["publish", "--check", "--select", "logins_enriched+"])?;
    assert_models(&tidemill, &truth)
}

#[test]
fn cycles_that_follow_each_other_leave_the_reading_to_one_consumer() -> Result<()> {
    let scene = Scene::new(2)?;
    let Traffic { records, truth } = traffic(&Plan::new(12, 6_000, 2));
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    let producer = scene.topics.producer()?;
    let mut cycles = tidemill.spawn(&["run", "--every", "100ms", "--select", "logins_enriched+"])?;
    let mut sent = 0;
    for part in parts(&records, 3) {
        producer.deliver(&scene.topic, part)?;
        sent += part.len();
        // Each part is seen while the cycles go on.
        let done = i64::try_from(sent)?;
        wait::until(&format!("{done} records"), PATIENCE, || {
            let read = |books: Vec<serde_json::Value>| books.iter().filter_map(|part| part["to"].as_i64()).sum::<i64>();
            Ok((books(&tidemill).map_or(0, read) >= done).then_some(()))
        })?;
    }
    wait::until("the last part in the warehouse", PATIENCE, || {
        let counted = tidemill.number("select sum(message_count) from logins_usage_window").unwrap_or(0);
        let agrees = tidemill.run(&["publish", "--check", "--select", "logins_enriched+"])?.code == Some(exit::DONE);
        Ok((counted == truth.landed && agrees).then_some(()))
    })?;
    stop(&mut cycles)?;
    let output = cycles.output()?;
    ensure!(output.contains("since the last cycle"), "no cycle ran beside a reader: {output}");
    assert_landed(&tidemill, &truth)?;
    assert_models(&tidemill, &truth)
}

#[test]
fn aborted_transactions_never_land_and_markers_are_skipped() -> Result<()> {
    let scene = Scene::new(1)?;
    let Traffic { records, .. } = traffic(&Plan { duplicates: 0, malformed: 0, late: 0, ..Plan::new(3, 40, 1) });
    let producer = scene.topics.transactional_producer(&scene.topic)?;
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    producer.transaction(&scene.topic, &records[..10], true)?;
    producer.transaction(&scene.topic, &records[10..20], false)?;
    drain(&tidemill)?;
    ensure!(tidemill.number(&format!("select count(*) from {SOURCE}"))? == 10);
    // A transaction that was aborted and nothing else: no row, and still the offsets move on.
    producer.transaction(&scene.topic, &records[20..30], false)?;
    drain(&tidemill)?;
    producer.transaction(&scene.topic, &records[30..40], true)?;
    drain(&tidemill)?;
    ensure!(tidemill.number(&format!("select count(*) from {SOURCE}"))? == 20);
    tidemill.succeed(&["reconcile", "--deep"])?;
    let (_, end) = scene.topics.watermarks(&scene.topic, 0)?;
    let skipped: i64 = books(&tidemill)?.iter().filter_map(|part| part["skipped"].as_i64()).sum();
    // 20 records of aborted transactions and 4 markers.
    ensure!(end == 44 && skipped == 24, "the topic ends at {end}, {skipped} offsets were skipped");
    Ok(())
}

#[test]
fn tombstones_are_counted_and_not_landed() -> Result<()> {
    let scene = Scene::new(1)?;
    let Traffic { records, .. } = traffic(&Plan { duplicates: 0, malformed: 0, ..Plan::new(4, 5, 1) });
    let tombstone = Record { partition: Some(0), key: Some(b"gone".to_vec()), ..Record::default() };
    let producer = scene.topics.producer()?;
    producer.deliver(&scene.topic, &records)?;
    producer.deliver(&scene.topic, [&tombstone, &tombstone])?;
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    drain(&tidemill)?;
    let books = books(&tidemill)?;
    let sum = |name: &str| books.iter().filter_map(|part| part[name].as_i64()).sum::<i64>();
    ensure!((sum("landed"), sum("tombstones"), sum("quarantined")) == (5, 2, 0), "{books:?}");
    tidemill.succeed(&["reconcile", "--deep"])?;
    Ok(())
}

#[test]
fn a_batch_of_nothing_but_broken_records_still_advances() -> Result<()> {
    let scene = Scene::new(1)?;
    let broken: Vec<Record> = (0..50).map(|number| Record::value(format!("broken {number}")).to_partition(0)).collect();
    scene.topics.producer()?.deliver(&scene.topic, &broken)?;
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    for _ in 0..2 {
        drain(&tidemill)?;
        assert_landed(&tidemill, &Truth { quarantined: 50, ..Truth::default() }).or_else(|error| {
            // A sum over no rows is null, not 0; everything else must hold.
            ensure!(format!("{error:#}").contains("timestamp_sum"), "{error:#}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn processes_of_one_group_share_the_topic_while_some_come_and_go() -> Result<()> {
    let scene = Scene::new(6)?;
    let Traffic { records, truth } = traffic(&Plan::new(5, 24_000, 6));
    let project = scene.project().ingest("max_batch_rows", "500").build()?;
    let tidemill = project.tidemill();
    let producer = scene.topics.producer()?;
    let mut first = tidemill.spawn(&FOLLOW)?;
    let mut sent = 0;
    for part in parts(&records, 6) {
        producer.deliver(&scene.topic, part)?;
        sent += part.len();
        // A second process takes some of the partitions and is gone again, once cleanly and once by a kill.
        let mut second = tidemill.spawn(&FOLLOW)?;
        let mut third = tidemill.spawn(&FOLLOW)?;
        wait::pause(Duration::from_millis(1_500));
        stop(&mut second)?;
        third.kill()?;
    }
    ensure!(sent == records.len());
    wait_landed(&tidemill, truth.landed)?;
    stop(&mut first)?;
    drain(&tidemill)?;
    assert_landed(&tidemill, &truth)
}

#[test]
fn two_groups_by_mistake_on_one_table_land_each_login_once() -> Result<()> {
    let scene = Scene::new(4)?;
    let Traffic { records, truth } = traffic(&Plan::new(6, 20_000, 4));
    let first = scene.project().ingest("max_batch_rows", "300").build()?;
    let second = scene.project().ingest("max_batch_rows", "700").lake(&first.lake()).build()?;
    let (one, two) = (first.tidemill(), second.tidemill());
    let mut followers = [one.spawn(&FOLLOW)?, two.spawn(&FOLLOW)?];
    let producer = scene.topics.producer()?;
    for part in parts(&records, 10) {
        producer.deliver(&scene.topic, part)?;
        wait::pause(Duration::from_millis(300));
    }
    wait_landed(&one, truth.landed)?;
    for follower in &mut followers {
        stop(follower)?;
    }
    drain(&one)?;
    drain(&two)?;
    assert_landed(&one, &truth)
}

#[test]
fn a_stalled_process_that_wakes_after_its_partitions_moved_changes_nothing() -> Result<()> {
    let scene = Scene::new(2)?;
    let Traffic { records, truth } = traffic(&Plan::new(7, 12_000, 2));
    let project = scene.project().ingest("max_batch_rows", "200").build()?;
    let tidemill = project.tidemill();
    let producer = scene.topics.producer()?;
    let parts: Vec<&[Record]> = parts(&records, 4).collect();
    for pair in parts.chunks(2) {
        // Stopped while it has records in hand.
        producer.deliver(&scene.topic, pair[0])?;
        let mut zombie = tidemill.spawn(&FOLLOW)?;
        let before = landed(&tidemill).unwrap_or(0);
        wait_landed(&tidemill, before + 1)?;
        zombie.signal(Signal::SIGSTOP)?;
        producer.deliver(&scene.topic, pair[1])?;
        let mut heir = tidemill.spawn(&FOLLOW)?;
        let sent: i64 = scene.topics.watermarks(&scene.topic, 0)?.1 + scene.topics.watermarks(&scene.topic, 1)?.1;
        wait::until("the heir to take over", PATIENCE, || {
            let done: i64 = books(&tidemill)?.iter().filter_map(|part| part["to"].as_i64()).sum();
            Ok((done == sent).then_some(()))
        })?;
        zombie.signal(Signal::SIGCONT)?;
        wait::pause(Duration::from_secs(2));
        stop(&mut heir)?;
        stop(&mut zombie)?;
    }
    drain(&tidemill)?;
    assert_landed(&tidemill, &truth)
}

#[test]
fn a_broker_that_is_killed_and_comes_back_is_waited_for() -> Result<()> {
    let mut broker = Broker::start()?;
    let scene = Scene::on(&broker.bootstrap(), 3)?;
    let Traffic { records, truth } = traffic(&Plan::new(8, 15_000, 3));
    let project = scene.project().ingest("max_batch_rows", "250").build()?;
    let tidemill = project.tidemill();
    let producer = scene.topics.producer()?;
    let mut follower = tidemill.spawn(&FOLLOW)?;
    let (first, rest) = records.split_at(records.len() / 2);
    producer.deliver(&scene.topic, first)?;
    wait_landed(&tidemill, 1)?;
    broker.kill()?;
    wait::pause(Duration::from_secs(1));
    ensure!(follower.try_wait()?.is_none(), "the follower gave up: {}", follower.output()?);
    broker.restart()?;
    producer.deliver(&scene.topic, rest)?;
    // And stalled: it accepts connections and answers nothing.
    broker.signal(Signal::SIGSTOP)?;
    wait::pause(Duration::from_secs(3));
    broker.signal(Signal::SIGCONT)?;
    wait_landed(&tidemill, truth.landed)?;
    stop(&mut follower)?;
    drain(&tidemill)?;
    assert_landed(&tidemill, &truth)
}

#[test]
fn a_broker_that_is_not_there_asks_for_a_retry() -> Result<()> {
    let mut broker = Broker::start()?;
    let scene = Scene::on(&broker.bootstrap(), 1)?;
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    broker.stop()?;
    tidemill.expect(exit::RETRY, &["ingest", "--select", SOURCE, "--max-duration", "20s"])?;
    Ok(())
}

#[test]
fn a_gap_stops_its_partition_alone_and_is_recorded_when_skipped() -> Result<()> {
    let scene = Scene::new(2)?;
    let plan = Plan { duplicates: 0, malformed: 0, ..Plan::new(9, 400, 2) };
    let Traffic { records, .. } = traffic(&plan);
    let producer = scene.topics.producer()?;
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    producer.deliver(&scene.topic, &records[..200])?;
    drain(&tidemill)?;
    let progress = scene.topics.watermarks(&scene.topic, 0)?.1;
    producer.deliver(&scene.topic, &records[200..])?;
    let low = progress + 20;
    scene.topics.delete_records(&scene.topic, 0, low)?;
    let stopped = tidemill.expect(exit::FAILED, &["ingest", "--select", SOURCE])?;
    for offset in [progress, low] {
        ensure!(stopped.stderr.contains(&offset.to_string()), "the error does not name {offset}: {}", stopped.stderr);
    }
    ensure!(stopped.stderr.contains("--on-gap skip"), "the error does not say what to do: {}", stopped.stderr);
    let of_partition = |number: i64| -> Result<i64> {
        books(&tidemill)?
            .iter()
            .filter(|part| part["partition"].as_i64() == Some(number))
            .filter_map(|part| part["to"].as_i64())
            .max()
            .context("both partitions have books")
    };
    ensure!(of_partition(0)? == progress, "the partition with the gap moved");
    ensure!(of_partition(1)? == scene.topics.watermarks(&scene.topic, 1)?.1, "the other partition did not go on");
    tidemill.succeed(&["ingest", "--select", SOURCE, "--on-gap", "skip"])?;
    ensure!(of_partition(0)? == scene.topics.watermarks(&scene.topic, 0)?.1);
    ensure!(tidemill.number(&format!("select count(*) from {SOURCE}"))? == 400 - 20);
    tidemill.succeed(&["reconcile", "--deep"])?;
    Ok(())
}

#[test]
fn a_topic_that_was_made_again_stops_with_an_error() -> Result<()> {
    let scene = Scene::new(1)?;
    let Traffic { records, .. } = traffic(&Plan { duplicates: 0, malformed: 0, ..Plan::new(10, 100, 1) });
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    let producer = scene.topics.producer()?;
    producer.deliver(&scene.topic, &records)?;
    drain(&tidemill)?;
    scene.topics.delete(&scene.topic)?;
    scene.topics.create(&scene.topic, 1, &[])?;
    // Fewer records than before: the offset that the lake knows lies ahead of the log's end.
    scene.topics.producer()?.deliver(&scene.topic, &records[..10])?;
    tidemill.expect(exit::FAILED, &["ingest", "--select", SOURCE])?;
    ensure!(tidemill.number(&format!("select count(*) from {SOURCE}"))? == 100);
    Ok(())
}

#[test]
fn partitions_that_are_added_while_following_are_read() -> Result<()> {
    let scene = Scene::new(1)?;
    let plan = Plan { duplicates: 0, malformed: 0, ..Plan::new(11, 200, 3) };
    let Traffic { records, truth } = traffic(&plan);
    let (old, new): (Vec<Record>, Vec<Record>) = records.into_iter().partition(|record| record.partition == Some(0));
    // The client asks for new partitions every five minutes unless it is told otherwise.
    let project = scene.project().kafka_property("topic.metadata.refresh.interval.ms", "1000").build()?;
    let tidemill = project.tidemill();
    scene.topics.producer()?.deliver(&scene.topic, &old)?;
    let mut follower = tidemill.spawn(&FOLLOW)?;
    wait_landed(&tidemill, i64::try_from(old.len())?)?;
    scene.topics.grow(&scene.topic, 3)?;
    scene.topics.producer()?.deliver(&scene.topic, &new)?;
    wait_landed(&tidemill, truth.landed)?;
    stop(&mut follower)?;
    assert_landed(&tidemill, &truth)
}

#[test]
fn a_follower_lands_what_is_sent_while_it_runs_and_stops_on_a_signal() -> Result<()> {
    let scene = Scene::new(4)?;
    let Traffic { records, truth } = traffic(&Plan::new(12, 10_000, 4));
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    let mut follower = tidemill.spawn(&FOLLOW)?;
    thread::scope(|scope| -> Result<()> {
        let sender = scope.spawn(|| -> Result<()> {
            let producer = scene.topics.producer()?;
            parts(&records, 20).try_for_each(|part| producer.deliver(&scene.topic, part))
        });
        wait_landed(&tidemill, truth.landed)?;
        sender.join().expect("the sender does not panic")
    })?;
    stop(&mut follower)?;
    drain(&tidemill)?;
    assert_landed(&tidemill, &truth)
}

#[test]
fn a_first_run_starts_at_the_instant_of_the_settings_and_later_runs_where_the_lake_stands() -> Result<()> {
    // Four seconds after the first login; records are sent in the order of their timestamps.
    const START_MS: i64 = 1_741_392_004_000;
    let scene = Scene::new(2)?;
    let Traffic { records, .. } = traffic(&Plan { duplicates: 0, malformed: 0, late: 0, ..Plan::new(41, 400, 2) });
    scene.topics.producer()?.deliver(&scene.topic, &records)?;
    let is_at_or_after = |record: &&Record| record.timestamp_ms.is_some_and(|at_ms| at_ms >= START_MS);
    let expected = i64::try_from(records.iter().filter(is_at_or_after).count())?;
    ensure!((1..400).contains(&expected), "the instant lies inside the traffic, {expected} records after it");
    let project = scene.project().ingest("start", "\"2025-03-08T00:00:04Z\"").build()?;
    let tidemill = project.tidemill();
    drain(&tidemill)?;
    ensure!(landed(&tidemill)? == expected, "{} landed, not {expected}", landed(&tidemill)?);
    // From the second run on the lake decides: the records before the instant stay unread, new ones are read once.
    scene.topics.producer()?.deliver(&scene.topic, &[Record { partition: Some(1), ..one_login(START_MS) }])?;
    drain(&tidemill)?;
    ensure!(landed(&tidemill)? == expected + 1, "{} landed", landed(&tidemill)?);
    tidemill.succeed(&["reconcile", "--deep", "--source", SOURCE])?;
    Ok(())
}

/// A login that the traffic does not hold.
fn one_login(timestamp_ms: i64) -> Record {
    let seconds = timestamp_ms / 1000;
    let login = format!(
        r#"{{"user_id":"after","app_version":"1","device_type":"iOS","ip":"203.0.113.9","locale":"CA","device_id":"after","timestamp":"{seconds}"}}"#
    );
    Record { value: Some(login.into_bytes()), timestamp_ms: Some(timestamp_ms), ..Record::default() }
}

#[test]
fn doctor_knows_the_brokers_clock_when_it_may_make_a_topic_and_says_so_when_not() -> Result<()> {
    let scene = Scene::new(1)?;
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    let clock = |arguments: &[&str]| -> Result<serde_json::Value> {
        // The project's other topics do not exist here, which is a fault of its own.
        let ended = tidemill.run(&[&["--format", "json", "doctor"][..], arguments].concat())?;
        let report: serde_json::Value = serde_json::from_str(&ended.stdout)?;
        let checks = report["checks"].as_array().context("a report has checks")?;
        checks.iter().find(|check| check["what"] == "kafka clock").cloned().context("the clock is a check")
    };
    let unknown = clock(&[])?;
    ensure!(unknown["ok"].is_null() && unknown["advice"].to_string().contains("--probe-kafka"), "{unknown}");
    let known = clock(&["--probe-kafka"])?;
    ensure!(known["ok"] == true && known["found"].to_string().contains("clocks differ by"), "{known}");
    wait::until("the topic is gone", PATIENCE, || {
        let names = scene.topics.names()?;
        Ok((!names.iter().any(|name| name.starts_with("tidemill-doctor-"))).then_some(()))
    })
}
