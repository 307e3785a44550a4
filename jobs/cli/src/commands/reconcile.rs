//! `tidemill reconcile`

use std::collections::BTreeSet;

use serde_json::json;
use tidemill_ingest::reconcile::Reconciliation;
use tidemill_publish::{PageState, SinkPage};
use tidemill_transform::graph::Selection;

use super::build::runner;
use super::context::Context;
use super::publish::publications;
use crate::args::{GlobalArgs, ReconcileArgs};
use crate::exit::Exit;
use crate::printer::{Printer, table, thousands};
use crate::signals;

/// Proves that every offset has exactly one outcome, and that sinks hold what models say.
pub(crate) async fn run(global: &GlobalArgs, args: ReconcileArgs, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    let proofs = prove(&context, &args.source, args.deep).await?;
    let closed = proofs.iter().all(Reconciliation::is_closed);
    let sources: Vec<serde_json::Value> = proofs
        .iter()
        .map(|proof| {
            let mut object = serde_json::to_value(proof).unwrap_or_default();
            object["landed"] = json!(proof.landed());
            object["quarantined"] = json!(proof.quarantined());
            object["closed"] = json!(proof.is_closed());
            object
        })
        .collect();
    // A selection of sources asks about these alone.
    let pages = if args.source.is_empty() { pages(&context, args.deep).await? } else { Vec::new() };
    let closed = closed && pages.iter().all(|page| page.state != PageState::Open);
    let text = format!("{}{}", text(&proofs), sinks_text(&pages));
    printer.result(&json!({ "closed": closed, "sources": sources, "sinks": pages }), &text);
    Ok(if closed { Exit::Done } else { Exit::Rejected })
}

/// What every sink holds of every model.
async fn pages(context: &Context, deep: bool) -> anyhow::Result<Vec<SinkPage>> {
    let runner = runner(context)?;
    let publications = publications(&runner, &Selection::default())?;
    let cancel = signals::cancel_on_signal()?;
    Ok(tidemill_publish::books(&context.settings, &context.lake, &publications, deep, &cancel).await?)
}

fn sinks_text(pages: &[SinkPage]) -> String {
    if pages.is_empty() {
        return String::new();
    }
    let heading = ["model", "target", "sink", "version", "newest", "model rows", "held rows", "balance"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let number = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), thousands);
    for page in pages {
        rows.push(vec![
            page.model.clone(),
            page.target.to_string(),
            page.sink.to_owned(),
            page.version.map_or_else(|| "-".to_owned(), |version| version.to_string()),
            page.newest.to_string(),
            number(page.model_rows),
            number(page.held_rows),
            match page.state {
                PageState::Closed => "closed",
                PageState::Behind => "behind",
                PageState::Open => "OPEN",
            }
            .to_owned(),
        ]);
    }
    let examples = pages.iter().flat_map(|page| page.examples.iter().map(|line| format!("{}: {line}\n", page.target)));
    format!("\n{}{}", table(&rows), examples.collect::<String>())
}

/// One proof per selected source.
pub(crate) async fn prove(context: &Context, selection: &[String], deep: bool) -> anyhow::Result<Vec<Reconciliation>> {
    let mut proofs = Vec::new();
    for contract in context.selected_contracts(selection)? {
        proofs.push(tidemill_ingest::reconcile::reconcile(&context.lake, &contract.name, deep).await?);
    }
    Ok(proofs)
}

/// Per topic and partition: the span of offsets and what became of them.
pub(crate) fn text(proofs: &[Reconciliation]) -> String {
    let heading =
        ["source", "topic", "offsets", "landed", "duplicates", "quarantined", "tombstones", "skipped", "balance"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for proof in proofs {
        let topics: BTreeSet<&str> = proof.partitions.iter().map(|totals| totals.topic.as_str()).collect();
        for topic in topics {
            let of_topic: Vec<_> = proof.partitions.iter().filter(|totals| totals.topic == topic).collect();
            let offsets: i64 = of_topic.iter().map(|totals| totals.to - totals.from).sum();
            let sum = |count: fn(&tidemill_lake::metadata::PartitionTotals) -> u64| {
                of_topic.iter().map(|totals| count(totals)).sum::<u64>()
            };
            let counts = [
                sum(|totals| totals.landed),
                sum(|totals| totals.duplicates),
                sum(|totals| totals.quarantined),
                sum(|totals| totals.tombstones),
                sum(|totals| totals.skipped),
            ];
            let balanced = u64::try_from(offsets).is_ok_and(|offsets| offsets == counts.iter().sum::<u64>());
            let mut row = vec![proof.source.clone(), topic.to_owned(), thousands(u64::try_from(offsets).unwrap_or(0))];
            row.extend(counts.map(thousands));
            row.push(if balanced { "closed".to_owned() } else { "OPEN".to_owned() });
            rows.push(row);
        }
        if proof.files.landed + proof.files.duplicates + proof.files.quarantined > 0 {
            let sum = proof.files.landed + proof.files.duplicates + proof.files.quarantined;
            rows.push(vec![
                proof.source.clone(),
                "(files)".to_owned(),
                thousands(sum),
                thousands(proof.files.landed),
                thousands(proof.files.duplicates),
                thousands(proof.files.quarantined),
                "0".to_owned(),
                "0".to_owned(),
                "closed".to_owned(),
            ]);
        }
    }
    let mut text = table(&rows);
    for proof in proofs {
        if let Some(counted) = &proof.deep {
            text.push_str(&format!(
                "{}: counted {} rows, {} distinct keys, {} in quarantine\n",
                proof.source,
                thousands(counted.rows),
                thousands(counted.unique_keys),
                thousands(counted.quarantined)
            ));
        }
        for fault in &proof.faults {
            text.push_str(&format!("{}: {fault}\n", proof.source));
        }
    }
    text
}
