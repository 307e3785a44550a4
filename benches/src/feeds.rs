//! (g) One event of `zentry` on a million follows: what it writes and costs by who is followed.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidemill_tests::project::{Project, ProjectBuilder};

use crate::FeedsArgs;
use crate::child::{self, Usage};
use crate::results::Section;
use crate::stats::{median, thousands};

/// Followers of the author of rank `r`, counted from 1, are as `r` to this power: as in networks of people.
const EXPONENT: f64 = -0.8;
/// Shares no factor with a number of users that is a power of ten, so the followers of one author are different people.
const STRIDE: u64 = 7_919;
const MODELS: [&str; 4] = ["run-models", "--select", "+zentry_feed", "+zentry_sleep_stats"];
const ENTRIES: &str = "zentry.sleep_entries";
const FOLLOWS: &str = "zentry.follows";
/// Ids of events that are measured, above all that were there before.
const FIRST_NEW_ID: u64 = 1_000_000_000;

/// What one kind of event cost.
struct Measured {
    usages: Vec<Usage>,
    copies: u64,
    single: u64,
}

/// Who follows whom: followers of each author, most of them first.
struct Graph {
    users: u64,
    followers: Vec<u64>,
}

impl Graph {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "counts are far below 2^52"
    )]
    fn new(users: u64, follows: u64) -> Self {
        let weight = |rank: u64| (rank as f64).powf(EXPONENT);
        let scale = follows as f64 / (1..=users).map(weight).sum::<f64>();
        let followers = (1..=users).map(|rank| ((scale * weight(rank)).round() as u64).min(users - 1)).collect();
        Self { users, followers }
    }

    fn num_follows(&self) -> u64 {
        self.followers.iter().sum()
    }

    /// The reader at a place among the followers of an author; never the author.
    fn follower(&self, author: u64, place: u64) -> u64 {
        (author + (place + 1) * STRIDE) % self.users
    }

    /// The first author with fewer followers than this.
    fn first_below(&self, limit: u64) -> u64 {
        self.followers.partition_point(|count| *count >= limit) as u64
    }
}

/// Measures one event after the other.
pub(crate) fn measure(args: &FeedsArgs) -> Result<Section> {
    let graph = Graph::new(args.users, args.follows);
    let project = ProjectBuilder::shipped().build()?;
    let stage =
        Stage { project, vars: format!("{{zentry_enabled: true, zentry_celebrity_threshold: {}}}", args.threshold) };
    stage.fill(&graph, args.entries)?;
    let ordinary = graph.first_below(args.threshold);
    ensure!(ordinary > 1, "at least two authors are to reach the threshold of {} followers", args.threshold);
    let middle = graph.first_below(100);
    let authors = [
        ("entry of the most followed celebrity", 0),
        ("entry of the least followed celebrity", ordinary - 1),
        ("entry of the most followed ordinary author", ordinary),
        ("entry of an author with about 100 followers", middle),
    ];
    let mut next_id = FIRST_NEW_ID;
    let mut rows = Vec::new();
    for (title, author) in authors {
        let followers = graph.followers[usize::try_from(author)?];
        let measured = stage.rounds(args.rounds, &mut next_id, ENTRIES, |id| entry(id, author))?;
        let is_celebrity = author < ordinary;
        ensure!(measured.copies == if is_celebrity { 0 } else { followers }, "{title}: {} copies", measured.copies);
        ensure!(measured.single == u64::from(is_celebrity), "{title}: {} rows", measured.single);
        rows.push(row(title, followers, &measured));
    }
    for (title, author) in [("follow of the most followed celebrity", 0), ("follow of that ordinary author", middle)] {
        let followers = graph.followers[usize::try_from(author)?];
        let measured = stage.rounds(args.rounds, &mut next_id, FOLLOWS, |id| follow(id, id, author))?;
        rows.push(row(title, followers, &measured));
    }
    Ok(Section {
        id: "g",
        title: "Feeds: one event on many follows",
        command: format!(
            "benches/run g --users {} --follows {} --entries {} --threshold {} --rounds {}",
            args.users, args.follows, args.entries, args.threshold, args.rounds
        ),
        data: format!(
            "{} follows of {} users, followers by a power law (rank to the power of {EXPONENT}), {} entries; celebrities are authors\n\
             with {} followers or more. Measured: `tidemill run-models` of all models of feeds and nights after one event, a process\n\
             of its own, start included, medians of {}. *copies* are rows written to `zentry_feed_fanout`, *single* those to\n\
             `zentry_celebrity_entries`.",
            thousands_of(graph.num_follows()),
            thousands_of(args.users),
            thousands_of(args.entries),
            thousands_of(args.threshold),
            args.rounds,
        ),
        heading: vec!["event", "followers", "copies", "single", "ms", "ms of processor time", "peak MB"],
        rows,
    })
}

fn row(title: &str, followers: u64, measured: &Measured) -> Vec<String> {
    let middle = |pick: fn(&Usage) -> f64| median(measured.usages.iter().map(pick).collect());
    vec![
        title.to_owned(),
        thousands_of(followers),
        thousands_of(measured.copies),
        measured.single.to_string(),
        format!("{:.0}", middle(|usage| 1e3 * usage.wall.as_secs_f64())),
        format!("{:.0}", middle(|usage| 1e3 * usage.cpu.as_secs_f64())),
        format!("{:.0}", middle(megabytes)),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a process")]
fn megabytes(usage: &Usage) -> f64 {
    usage.peak_bytes as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn thousands_of(count: u64) -> String {
    thousands(count as f64)
}

struct Stage {
    project: Project,
    vars: String,
}

impl Stage {
    fn fill(&self, graph: &Graph, entries: u64) -> Result<()> {
        let mut text = String::new();
        let mut id = 0;
        for (author, count) in (0..).zip(&graph.followers) {
            for place in 0..*count {
                id += 1;
                writeln!(text, "{}", follow(id, graph.follower(author, place), author))?;
            }
        }
        self.ingest(FOLLOWS, &text)?;
        text.clear();
        for id in 1..=entries {
            writeln!(text, "{}", entry(id, id % graph.users))?;
        }
        self.ingest(ENTRIES, &text)?;
        self.project.tidemill().succeed(&["seed", "--vars", &self.vars])?;
        let (_, usage) = self.build()?;
        eprintln!("first build {usage:?}");
        Ok(())
    }

    fn rounds(
        &self,
        rounds: usize,
        next_id: &mut u64,
        source: &str,
        event: impl Fn(u64) -> String,
    ) -> Result<Measured> {
        let mut measured = Measured { usages: Vec::new(), copies: 0, single: 0 };
        for round in 0..rounds {
            *next_id += 1;
            self.ingest(source, &event(*next_id))?;
            let (report, usage) = self.build()?;
            measured.copies = rows_written(&report, "zentry_feed_fanout")?;
            measured.single = rows_written(&report, "zentry_celebrity_entries")?;
            eprintln!("{source} round={round} {usage:?}");
            measured.usages.push(usage);
        }
        Ok(measured)
    }

    fn ingest(&self, source: &str, lines: &str) -> Result<()> {
        let file = self.project.folder().join("events.jsonl");
        fs::write(&file, lines)?;
        let file = file.to_str().context("a temporary folder has a plain name")?;
        self.project.tidemill().succeed(&["ingest", "--vars", &self.vars, "--from-files", file, "--select", source])?;
        Ok(())
    }

    fn build(&self) -> Result<(Value, Usage)> {
        let arguments = [&["--format", "json", "--vars", &self.vars][..], &MODELS].concat();
        let (stdout, usage) = child::run(self.project.tidemill().command(&arguments)?)?;
        Ok((serde_json::from_str(&stdout).context("the report is JSON")?, usage))
    }
}

fn rows_written(report: &Value, model: &str) -> Result<u64> {
    let nodes = report["nodes"].as_array().context("a report has nodes")?;
    let node = nodes.iter().find(|node| node["name"] == model).with_context(|| format!("{model} was not built"))?;
    ensure!(node["whole_because"].is_null(), "{model} was computed as a whole: {}", node["whole_because"]);
    Ok(node["rows_written"].as_u64().unwrap_or_default())
}

fn entry(id: u64, author: u64) -> String {
    let day = 1 + id % 28;
    format!(
        r#"{{"event":"sleep_entry_created","occurred_at":"2025-05-01T06:00:00Z","data":{{"id":{id},"user_id":{author},"sleep_duration":27000,"sleep_start_at":"2025-04-{day:02}T22:00:00Z","created_at":"2025-05-01T06:00:00Z","updated_at":"2025-05-01T06:00:00Z"}}}}"#
    )
}

fn follow(id: u64, follower: u64, author: u64) -> String {
    format!(
        r#"{{"event":"follow_created","occurred_at":"2025-04-01T00:00:00Z","data":{{"id":{id},"follower_id":{follower},"followed_id":{author},"created_at":"2025-04-01T00:00:00Z"}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nobody_follows_anybody_twice_or_himself() {
        let graph = Graph::new(1_000, 10_000);
        assert!((9_500..10_500).contains(&graph.num_follows()), "{}", graph.num_follows());
        let mut pairs = BTreeSet::new();
        for (author, count) in (0..).zip(&graph.followers) {
            for place in 0..*count {
                let follower = graph.follower(author, place);
                assert!(follower != author && pairs.insert((follower, author)), "{follower} follows {author}");
            }
        }
        let first = graph.first_below(100);
        assert!(graph.followers[usize::try_from(first).unwrap()] < 100);
    }
}
