//! Where the demo's results go: tables of the local warehouse and topics of the in-process broker.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use serde::Serialize;
use tidemill_publish::{PageState, Publication, SinkPage, Target};
use tidemill_transform::graph::Selection;
use tokio_util::sync::CancellationToken;

use crate::commands::build::runner;
use crate::commands::context::Context;
use crate::commands::publish::publications;
use crate::printer::thousands;

/// Partitions of a topic of results.
const PARTITIONS: i32 = 2;

/// Makes the topics that models publish to, with their ledgers: the in-process broker would take its time. Returns all that is
/// published.
pub(super) fn prepare(
    context: &Context,
    broker: &MockCluster<'_, DefaultProducerContext>,
) -> anyhow::Result<Vec<Publication>> {
    let publications = publications(&runner(context)?, &Selection::all())?;
    for publication in &publications {
        let Target::Topic { topic } = &publication.target else { continue };
        let ledger = format!("{topic}{}", context.settings.sinks.ledger_suffix);
        for (name, partitions) in [(topic, PARTITIONS), (&ledger, 1)] {
            broker.create_topic(name, partitions, 1).with_context(|| format!("failed to create topic `{name}`"))?;
        }
    }
    Ok(publications)
}

/// What the sinks hold in the end, by kind of sink.
#[derive(Debug, Serialize)]
pub(super) struct Held(BTreeMap<&'static str, Sum>);

#[derive(Debug, Default, Serialize)]
struct Sum {
    targets: u64,
    rows: u64,
    /// Targets that do not hold what their models say.
    open: Vec<String>,
}

impl Held {
    /// Holds every row that sinks show against the models.
    pub(super) async fn of(
        context: &Context,
        publications: &[Publication],
        cancel: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let pages: Vec<SinkPage> =
            tidemill_publish::books(&context.settings, &context.lake, publications, true, cancel).await?;
        let mut sums: BTreeMap<&'static str, Sum> = BTreeMap::new();
        for page in pages {
            let sum = sums.entry(page.sink).or_default();
            sum.targets += 1;
            sum.rows += page.held_rows.unwrap_or_default();
            if page.state != PageState::Closed {
                let mut told = vec![page.target.to_string()];
                told.extend(page.examples.iter().take(2).cloned());
                sum.open.push(told.join("; "));
            }
        }
        Ok(Self(sums))
    }

    /// Whether every sink holds what the models say.
    pub(super) fn is_closed(&self) -> bool {
        self.0.values().all(|sum| sum.open.is_empty())
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (sink, sum) in &self.0 {
            let noun = if *sink == "kafka" { "topics" } else { "tables" };
            let verdict = if sum.open.is_empty() {
                "as their models say".to_owned()
            } else {
                format!("NOT as their models say: {}", sum.open.join(", "))
            };
            writeln!(f, "sinks   {} {noun} hold {} rows, {verdict}", thousands(sum.targets), thousands(sum.rows))?;
        }
        Ok(())
    }
}
