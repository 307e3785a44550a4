//! `tidemill publish`

use serde_json::json;
use tidemill_publish::{
    Emit, Messages, Outcome, Publication, PublishReport, PublishRequest, Strategy, Target, TargetTable,
};
use tidemill_transform::Runner;
use tidemill_transform::graph::Selection;
use tidemill_transform::plan::PlanOptions;
use tidemill_transform::project::{Emit as EmitRule, NodeId, PublishEntry, PublishStrategy, SinkKind};

use super::build::{runner, selection};
use super::context::Context;
use super::meter::{Exposition, Meter};
use crate::args::{GlobalArgs, PublishArgs};
use crate::exit::Exit;
use crate::printer::{Printer, table, thousands};
use crate::report::UsageError;
use crate::signals;

/// Sends what changed to the warehouse, to topics and to Redis.
pub(crate) async fn run(global: &GlobalArgs, args: PublishArgs, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    let runner = runner(&context)?;
    let selection = selection(args.selection);
    let publications = publications(&runner, &selection)?;
    let cancel = signals::cancel_on_signal()?;
    if args.check {
        let checked = tidemill_publish::check(&context.settings, &context.lake, &publications, &cancel).await?;
        let mut rows = vec![
            ["model", "target", "model rows", "target rows", "missing", "extra", "different"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for table in &checked {
            rows.push(vec![
                table.model.clone(),
                table.target.to_string(),
                thousands(table.model_rows),
                thousands(table.target_rows),
                thousands(table.missing),
                thousands(table.extra),
                thousands(table.different),
            ]);
        }
        let mut text = crate::printer::table(&rows);
        for example in checked.iter().flat_map(|table| &table.examples) {
            text.push_str(&format!("{example}\n"));
        }
        let equal = checked.iter().all(tidemill_publish::CheckedTable::is_equal);
        printer.result(&json!({ "equal": equal, "tables": checked }), &text);
        return Ok(if equal { Exit::Done } else { Exit::Rejected });
    }
    let request =
        PublishRequest { publications, run_id: context.run_id.clone(), full: args.full, dry_run: args.dry_run };
    let meter = Meter::new(&context);
    let exposition = Exposition::start(&args.metrics, &meter, &context, None, printer).await?;
    if args.metrics.is_wanted() {
        // What the models hold is known from their logs alone here.
        let options = PlanOptions { as_of_us: context.as_of_us, ..PlanOptions::default() };
        let plan = runner.plan(&selection, &options).await?;
        let fresh = plan.models.iter().filter(|model| model.is_fresh());
        meter.note_fresh(&runner, fresh.map(|model| model.model.as_str()));
    }
    let observer = meter.publish();
    let report = tidemill_publish::publish(&context.settings, &context.lake, request, &observer, &cancel).await?;
    observer.finish();
    if !args.dry_run && !report.cancelled {
        meter.succeeded("publish");
    }
    exposition.finish(&context, !args.dry_run).await?;
    printer.result(&json!({ "run_id": context.run_id, "report": report }), &text(&report));
    Ok(Exit::Done)
}

/// A table of what was sent.
pub(crate) fn text(report: &PublishReport) -> String {
    let mut rows =
        vec![["target", "sink", "outcome", "version", "inserted", "updated", "deleted"].map(str::to_owned).to_vec()];
    for table in &report.tables {
        rows.push(vec![
            table.target.to_string(),
            table.sink.to_owned(),
            outcome(table.outcome).to_owned(),
            table.to.map(|version| version.to_string()).unwrap_or_default(),
            thousands(table.counts.inserted),
            thousands(table.counts.updated),
            thousands(table.counts.deleted),
        ]);
    }
    table(&rows)
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Published => "published",
        Outcome::UpToDate => "up to date",
        Outcome::NotBuilt => "not built yet",
        Outcome::Planned => "would be sent",
        Outcome::NoSink => "no such sink",
    }
}

/// What the selected models declare under `meta.tidemill.publish`.
pub(crate) fn publications(runner: &Runner, selection: &Selection) -> anyhow::Result<Vec<Publication>> {
    let mut publications = Vec::new();
    for node in runner.graph().select(selection)? {
        let NodeId::Model(name) = &node else { continue };
        let (Some(model), Some(id)) = (runner.project().models.get(name), runner.table_of(&node)) else { continue };
        for entry in model.config.publish.iter().filter(|entry| entry.enabled) {
            publications.push(Publication {
                model: id.clone(),
                model_name: name.clone(),
                target: target(name, entry)?,
                unique_key: entry.unique_key.clone(),
                strategy: match entry.strategy {
                    PublishStrategy::Merge => Strategy::Merge,
                    PublishStrategy::ReplaceBatches => Strategy::ReplaceBatches,
                    PublishStrategy::AppendOnly => Strategy::AppendOnly,
                },
                columns: columns(entry),
                json_columns: entry.json_columns.clone(),
                filter: entry.filter.clone(),
                messages: messages(entry),
                location: model.location.clone(),
            });
        }
    }
    Ok(publications)
}

fn target(model: &str, entry: &PublishEntry) -> anyhow::Result<Target> {
    match entry.to {
        SinkKind::Kafka => Ok(Target::Topic { topic: entry.topic.clone().unwrap_or_default() }),
        SinkKind::Redis => Ok(Target::Keys { keys: entry.key.clone().unwrap_or_default() }),
        SinkKind::Snowflake | SinkKind::Local => {
            let wanted = entry.table.as_deref().unwrap_or_default();
            let [database, schema, table] = wanted.split('.').collect::<Vec<_>>()[..] else {
                let message =
                    format!("model `{model}` publishes to `{wanted}`; write the table as DATABASE.SCHEMA.TABLE");
                return Err(UsageError { message }.into());
            };
            let (database, schema, table) = (database.to_owned(), schema.to_owned(), table.to_owned());
            Ok(TargetTable { database, schema, table }.into())
        }
    }
}

/// Column of the model -> name in the target, in the target's order.
fn columns(entry: &PublishEntry) -> Option<Vec<(String, String)>> {
    let columns = entry.columns.iter().map(|(from, to)| (from.clone(), to.clone()));
    let fields = entry.fields.iter().map(|(field, column)| (column.clone(), field.clone()));
    let all: Vec<_> = columns.chain(fields).collect();
    (!all.is_empty()).then_some(all)
}

fn messages(entry: &PublishEntry) -> Option<Messages> {
    matches!(entry.to, SinkKind::Kafka | SinkKind::Redis).then(|| Messages {
        emit: match entry.emit {
            EmitRule::OnChange => Emit::OnChange,
            EmitRule::OnClose => Emit::OnClose,
            EmitRule::OnFinal => Emit::OnFinal,
            EmitRule::Alert => Emit::Alert,
        },
        key: entry.key.clone(),
        window_end: entry.window_end.clone().unwrap_or_else(|| "window_end".to_owned()),
        ttl: entry.ttl,
    })
}
