//! Compares models and books with the simulator's truth.

use std::collections::BTreeMap;

use anyhow::Context as _;
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::Value;
use tidemill_ingest::reconcile::Reconciliation;
use tidemill_simulate::{Differences, ModelTruth, Options, System, TopicTruth, Truth};
use tidemill_transform::SessionContext;

use crate::commands::query::json_array;

/// One model beside the truth.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    pub(crate) model: String,
    pub(crate) true_rows: u64,
    /// Differences by key; its `num_rows` are those found.
    #[serde(flatten)]
    pub(crate) differences: Differences,
}

impl Compared {
    /// Whether the model is equal to the truth.
    pub(crate) fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Compares models of the truth that a filter lets pass. A model that cannot be read is one that differs.
pub(crate) async fn models(
    session: &SessionContext,
    truth: &Truth,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<Compared>> {
    let mut compared = Vec::new();
    for (model, truth) in truth.models.iter().filter(|(model, _)| wanted(model)) {
        let differences = match compare(session, model, truth).await {
            Ok(differences) => differences,
            Err(error) => Differences { changed: vec![format!("cannot be read: {error:#}")], ..Differences::default() },
        };
        compared.push(Compared { model: model.clone(), true_rows: truth.num_rows, differences });
    }
    Ok(compared)
}

/// Reads a model's rows one batch at a time.
async fn compare(session: &SessionContext, model: &str, truth: &ModelTruth) -> anyhow::Result<Differences> {
    let query = truth.query(model);
    let frame = session.sql(&query).await.with_context(|| format!("failed to plan `{query}`"))?;
    let mut batches = frame.execute_stream().await.with_context(|| format!("failed to run `{query}`"))?;
    let mut check = truth.check();
    while let Some(batch) = batches.next().await {
        let batch = batch.with_context(|| format!("failed to read rows of `{query}`"))?;
        let rows: Vec<Value> = serde_json::from_slice(&json_array(&[batch])?)?;
        for row in &rows {
            check.row(row);
        }
    }
    Ok(check.finish())
}

/// What the lake's commits say of a topic, or of the topics of a system together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    records: u64,
    landed: u64,
    duplicates: u64,
    quarantined: u64,
    tombstones: u64,
}

impl Counts {
    fn add_truth(&mut self, topic: &TopicTruth) {
        self.records += topic.records;
        self.landed += topic.landed;
        self.duplicates += topic.duplicates;
        self.quarantined += topic.quarantined.values().sum::<u64>();
        self.tombstones += topic.tombstones;
    }
}

/// Compares the books of the lake's commits with those of the truth: one sentence per difference.
pub(crate) fn books(proofs: &[Reconciliation], truth: &Truth) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, options) in &truth.options {
        let Some(system) = System::of_name(name) else {
            differences.push(format!("`{name}` is no system that this version knows"));
            continue;
        };
        for topics in groups(system, options, truth) {
            let mut expected = Counts::default();
            topics.iter().filter_map(|topic| truth.topics.get(*topic)).for_each(|books| expected.add_truth(books));
            let found = if options.stamped { of_topics(proofs, &topics) } else { of_files(proofs, system) };
            if found != expected {
                differences.push(format!("{}: {found:?} instead of {expected:?}", topics.join(", ")));
            }
        }
    }
    differences
}

/// Topics whose books are known apart. A copy on another topic may land instead of the first, and files tell no topic.
fn groups(system: System, options: &Options, truth: &Truth) -> Vec<Vec<&'static str>> {
    let sent = system.topics().iter().map(|(topic, _)| *topic).filter(|topic| truth.topics.contains_key(*topic));
    if options.cross_topic || !options.stamped { vec![sent.collect()] } else { sent.map(|topic| vec![topic]).collect() }
}

fn of_topics(proofs: &[Reconciliation], topics: &[&str]) -> Counts {
    let mut counts = Counts::default();
    let partitions = proofs.iter().flat_map(|proof| &proof.partitions);
    for totals in partitions.filter(|totals| topics.contains(&totals.topic.as_str())) {
        counts.records += totals.offsets - totals.skipped;
        counts.landed += totals.landed;
        counts.duplicates += totals.duplicates;
        counts.quarantined += totals.quarantined;
        counts.tombstones += totals.tombstones;
    }
    counts
}

fn of_files(proofs: &[Reconciliation], system: System) -> Counts {
    let mut counts = Counts::default();
    let prefix = format!("{}.", system.name());
    for totals in proofs.iter().filter(|proof| proof.source.starts_with(&prefix)).map(|proof| &proof.files) {
        counts.records += totals.records;
        counts.landed += totals.landed;
        counts.duplicates += totals.duplicates;
        counts.quarantined += totals.quarantined;
    }
    counts
}

/// Compares classes of the quarantine with the truth, where records have topics: one sentence per difference.
pub(crate) async fn quarantine(session: &SessionContext, truth: &Truth) -> anyhow::Result<Vec<String>> {
    const QUERY: &str =
        "select topic, class, count(*) as records from ops.quarantine where topic is not null group by topic, class";
    let mut expected: BTreeMap<(String, String), u64> = BTreeMap::new();
    for options in truth.options.iter().filter(|(_, options)| options.stamped && !options.cross_topic) {
        let Some(system) = System::of_name(options.0) else { continue };
        for (topic, _) in system.topics() {
            let classes = truth.topics.get(*topic).into_iter().flat_map(|books| &books.quarantined);
            expected.extend(classes.map(|(class, count)| (((*topic).to_owned(), class.clone()), *count)));
        }
    }
    let batches = session.sql(QUERY).await.context("failed to plan a look into quarantine")?.collect().await?;
    let rows: Vec<Value> = serde_json::from_slice(&json_array(&batches)?)?;
    let mut differences = Vec::new();
    for row in &rows {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let (topic, class, found) = (text("topic"), text("class"), row["records"].as_u64().unwrap_or_default());
        if !truth.topics.contains_key(&topic) {
            continue;
        }
        let wanted = expected.remove(&(topic.clone(), class.clone())).unwrap_or_default();
        if found != wanted && truth_is_by_topic(truth, &topic) {
            differences.push(format!("quarantine of {topic}: {found} of class {class} instead of {wanted}"));
        }
    }
    let lost = expected.into_iter();
    differences.extend(
        lost.map(|((topic, class), count)| format!("quarantine of {topic}: 0 of class {class} instead of {count}")),
    );
    Ok(differences)
}

fn truth_is_by_topic(truth: &Truth, topic: &str) -> bool {
    truth.options.iter().any(|(name, options)| {
        let of_system =
            System::of_name(name).is_some_and(|system| system.topics().iter().any(|(own, _)| *own == topic));
        of_system && options.stamped && !options.cross_topic
    })
}
