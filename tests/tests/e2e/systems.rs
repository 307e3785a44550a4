//! Each system whole, from its simulated producers through Apache Kafka to the warehouse, equal to the simulator's truth.
//!
//! `simulate` sends and says what must come of it; ingest, build and publish work in small batches and are killed at random;
//! `simulate verify` compares books, quarantine, every mart row by row, and the local warehouse.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidemill_tests::installed;
use tidemill_tests::kafka::Broker;
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::redis::Redis;
use tidemill_tests::seed::Seeded;
use tidemill_tests::tidemill::{Tidemill, exit};

/// All faults ten times as often as by default, and everything once more after eight days.
const MISFORTUNE: [&str; 12] = [
    "--duplicates",
    "0.1",
    "--late",
    "0.2",
    "--out-of-order",
    "0.5",
    "--malformed",
    "0.01",
    "--missing",
    "0.05",
    "--replay-after",
    "8d",
];
const KILLS: usize = 6;

/// A system's traffic in its topics, and a project that has seen none of it.
pub(crate) struct Scene {
    pub(crate) project: Project,
    pub(crate) tidemill: Tidemill,
    pub(crate) system: &'static str,
    pub(crate) truth: PathBuf,
    /// Records in the topics.
    pub(crate) num_records: u64,
    pub(crate) broker: Broker,
}

impl Scene {
    /// Sends traffic to the topics of the shipped contracts: so the broker is the scene's own.
    fn open(system: &'static str, traffic: &[&str]) -> Result<Self> {
        Self::open_with(system, traffic, &[], |project| project)
    }

    /// The same with further variables and in a project that has more to it.
    pub(crate) fn open_with(
        system: &'static str,
        traffic: &[&str],
        vars: &[&str],
        set_up: impl FnOnce(ProjectBuilder) -> ProjectBuilder,
    ) -> Result<Self> {
        let broker = Broker::start()?;
        let project = ProjectBuilder::shipped()
            .kafka(&broker.bootstrap(), "systems")
            // A killed process leaves its partitions soon.
            .kafka_property("session.timeout.ms", "2000")
            .kafka_property("heartbeat.interval.ms", "300")
            .ingest("max_batch_rows", "500");
        let project = set_up(project).build()?;
        let truth = project.folder().join("truth.json");
        let sent = ["simulate", system, "--create-topics", "--truth", truth.to_str().context("a path is UTF-8")?];
        let sent = project.tidemill().json(&[&sent[..], traffic].concat())?;
        let as_of = sent["as_of"].as_str().context("simulate says for which clock its truth holds")?.to_owned();
        let always = [format!("{system}_enabled: true"), "zentry_celebrity_threshold: 20".to_owned()];
        let vars: Vec<String> = always.into_iter().chain(vars.iter().map(|one| (*one).to_owned())).collect();
        let vars = format!("{{{}}}", vars.join(", "));
        let tidemill = project.tidemill().as_of(&as_of).vars(&vars);
        let num_records = sent["records"].as_u64().context("simulate counts its records")?;
        Ok(Self { project, tidemill, system, truth, num_records, broker })
    }

    /// Reads a part of what is in the topics, builds and publishes.
    pub(crate) fn step(&self, max_records: u64) -> Result<()> {
        self.tidemill.succeed(&["ingest", "--select", self.system, "--max-records", &max_records.to_string()])?;
        self.finish()
    }

    /// Reads what is left, builds and publishes.
    pub(crate) fn drain(&self) -> Result<()> {
        self.tidemill.succeed(&["ingest", "--select", self.system])?;
        self.finish()
    }

    fn finish(&self) -> Result<()> {
        self.tidemill.succeed(&["build"])?;
        self.tidemill.succeed(&["publish"])?;
        Ok(())
    }

    /// Starts a command and kills it after a while, if it lives that long.
    fn kill(&self, command: &[&str], after: Duration) -> Result<bool> {
        let mut process = self.tidemill.spawn(command)?;
        if let Ok(status) = process.wait(after) {
            ensure!(matches!(status.code(), Some(exit::DONE | exit::RETRY)), "it failed: {}", process.output()?);
            return Ok(false);
        }
        process.kill()?;
        Ok(true)
    }

    /// Books, quarantine, marts and warehouse are those of the truth.
    pub(crate) fn verify(&self) -> Result<()> {
        let truth = self.truth.to_str().context("a path is UTF-8")?;
        self.tidemill.succeed(&["simulate", "verify", "--truth", truth, "--warehouse"])?;
        Ok(())
    }

    /// The books close for readers that share no code with ours, from the topics, the Parquet files and the warehouse alone.
    pub(crate) fn balance_from_outside(&self) -> Result<()> {
        self.balance_from_outside_with(None)
    }

    /// The same with what a Redis server holds.
    pub(crate) fn balance_from_outside_with(&self, redis: Option<&Redis>) -> Result<()> {
        let reconciled = self.project.folder().join("reconciled.json");
        std::fs::write(&reconciled, self.tidemill.json(&["reconcile", "--deep"])?.to_string())?;
        let output = Command::new(installed::path_of("python")?.join("bin/python"))
            .arg(installed::repository().join("tests/python/outside_books.py"))
            .arg(self.project.folder())
            .arg(self.broker.bootstrap())
            .arg(reconciled)
            .args(redis.map(|redis| redis.port().to_string()))
            .output()
            .context("failed to start Python")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.status.success(), "the books differ:\n{}{}", text(&output.stdout), text(&output.stderr));
        Ok(())
    }

    /// Two small batches, the rest, everything again from raw: each time the same tables, and these the true ones.
    pub(crate) fn comes_to_its_truth_in_any_batches(&self) -> Result<()> {
        for _ in 0..2 {
            self.step(self.num_records / 4)?;
        }
        self.drain()?;
        self.verify()?;
        self.balance_from_outside()?;
        self.tidemill.succeed(&["build", "--full-refresh"])?;
        self.tidemill.succeed(&["publish"])?;
        self.verify()
    }

    /// Steps that are killed at moments of no choice, then the rest.
    fn survives_kills(&self, random: &mut Seeded) -> Result<()> {
        let part = (self.num_records / (KILLS as u64 + 2)).to_string();
        let commands: [&[&str]; 3] =
            [&["ingest", "--select", self.system, "--max-records", &part], &["build"], &["publish"]];
        let mut kills = 0;
        for round in 0..4 * KILLS {
            let after = Duration::from_millis(100 + random.below(1_500));
            kills += usize::from(self.kill(commands[round % 3], after)?);
            if kills == KILLS {
                break;
            }
        }
        ensure!(kills > 0, "no process lived long enough to be killed");
        self.drain()?;
        self.verify()?;
        self.balance_from_outside()
    }
}

fn survive(system: &'static str, traffic: &[&str]) -> Result<()> {
    let mut random = Seeded::from_environment(20_250_309)?;
    let scene = Scene::open(system, &[traffic, &MISFORTUNE].concat())?;
    scene.survives_kills(&mut random).map_err(|error| random.told(error))
}

/// An hour of clicks by few users: bots, experiments and orders come together.
pub(crate) const CLICKS: [&str; 6] = ["--events", "6000", "--rate", "4", "--users", "500"];
/// Three minutes of two phones.
pub(crate) const ACTIVITY: [&str; 6] = ["--events", "8000", "--rate", "60", "--users", "2"];
pub(crate) const ZENTRY: [&str; 6] = ["--events", "4000", "--users", "200", "--celebrity-threshold", "20"];
pub(crate) const ZONER: [&str; 4] = ["--events", "6000", "--users", "100"];
pub(crate) const LOGINS: [&str; 2] = ["--events", "4000"];

#[test]
fn zoner_comes_to_its_truth_in_any_batches() -> Result<()> {
    Scene::open("zoner", &ZONER)?.comes_to_its_truth_in_any_batches()
}

#[test]
fn activity_comes_to_its_truth_in_any_batches() -> Result<()> {
    Scene::open("activity", &ACTIVITY)?.comes_to_its_truth_in_any_batches()
}

#[test]
fn clicks_come_to_their_truth_in_any_batches() -> Result<()> {
    let aborted = ["--aborted", "0.3"];
    Scene::open("clicks", &[&CLICKS[..], &aborted].concat())?.comes_to_its_truth_in_any_batches()
}

#[test]
fn logins_come_to_their_truth_in_any_batches() -> Result<()> {
    Scene::open("logins", &LOGINS)?.comes_to_its_truth_in_any_batches()
}

#[test]
fn zentry_comes_to_its_truth_in_any_batches() -> Result<()> {
    Scene::open("zentry", &ZENTRY)?.comes_to_its_truth_in_any_batches()
}

#[test]
fn zoner_survives_kills_a_replay_and_copies_on_other_topics() -> Result<()> {
    survive("zoner", &[&ZONER[..], &["--cross-topic"]].concat())
}

#[test]
fn activity_survives_kills_and_a_replay() -> Result<()> {
    survive("activity", &ACTIVITY)
}

#[test]
fn clicks_survive_kills_and_a_replay() -> Result<()> {
    survive("clicks", &CLICKS)
}

#[test]
fn logins_survive_kills_a_replay_and_copies_in_other_partitions() -> Result<()> {
    survive("logins", &[&LOGINS[..], &["--cross-partition"]].concat())
}

#[test]
fn zentry_survives_kills_and_a_replay() -> Result<()> {
    survive("zentry", &ZENTRY)
}

/// A changed row, a lost one and wrong books are told, and the command does not succeed.
#[test]
fn verify_tells_what_differs_and_ends_with_its_own_code() -> Result<()> {
    let scene = Scene::open("logins", &["--events", "500"])?;
    scene.drain()?;
    scene.verify()?;
    let text = std::fs::read_to_string(&scene.truth)?;
    let mut truth: serde_json::Value = serde_json::from_str(&text)?;
    let hours = truth["models"]["logins_hour_of_day"]["table"].as_array_mut().context("few rows are kept")?;
    hours[0][2] = serde_json::json!(1_000_000);
    truth["topics"]["user-login"]["duplicates"] = serde_json::json!(77);
    std::fs::write(&scene.truth, truth.to_string())?;
    let path = scene.truth.to_str().context("a path is UTF-8")?;
    let told = scene.tidemill.expect(exit::REJECTED, &["simulate", "verify", "--truth", path])?.stdout;
    ensure!(told.contains("logins_hour_of_day: changed [20155,0]: logins is "), "{told}");
    ensure!(told.contains("books: user-login: "), "{told}");
    std::fs::write(&scene.truth, "{")?;
    let refused = scene.tidemill.expect(exit::USAGE, &["simulate", "verify", "--truth", path])?.stderr;
    ensure!(refused.contains("truth.json") && refused.contains("line 1"), "{refused}");
    Ok(())
}
