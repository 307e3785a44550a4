//! `tidemill maintain`

use serde_json::json;
use tidemill_lake::maintain::{MaintainOptions, maintain};

use super::context::Context;
use crate::args::{GlobalArgs, MaintainArgs};
use crate::exit::Exit;
use crate::printer::{Printer, table, thousands};
use crate::report::UsageError;

/// Compacts, checkpoints, cleans up.
pub(crate) async fn run(global: &GlobalArgs, args: MaintainArgs, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    let all = context.lake.list().await?;
    let mut tables = Vec::new();
    for wanted in &args.tables {
        let Some(found) = all.iter().find(|id| id.path() == *wanted) else {
            let names: Vec<String> = all.iter().map(tidemill_lake::TableId::path).collect();
            return Err(
                UsageError { message: format!("no table is at `{wanted}`; there are: {}", names.join(", ")) }.into()
            );
        };
        tables.push(found.clone());
    }
    if args.tables.is_empty() {
        tables = all;
    }
    let heading = ["table", "checkpoint", "files compacted", "into", "log entries removed", "files removed"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let mut objects = Vec::new();
    for id in tables {
        let options = MaintainOptions { dry_run: args.dry_run, ..MaintainOptions::full(&context.run_id) };
        let report = maintain(&context.lake, &id, &options).await?;
        rows.push(vec![
            id.path(),
            report.checkpoint.map_or_else(|| "-".to_owned(), |version| version.to_string()),
            thousands(report.files_removed as u64),
            thousands(report.files_added as u64),
            thousands(report.log_objects_deleted as u64),
            thousands(report.data_files_deleted as u64),
        ]);
        objects.push(json!({ "table": id.path(), "report": report }));
    }
    printer.result(&json!({ "run_id": context.run_id, "dry_run": args.dry_run, "tables": objects }), &table(&rows));
    Ok(Exit::Done)
}
