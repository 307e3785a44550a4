//! `tidemill simulate verify`: books, models and, on request, the warehouse against a truth file.

use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use tidemill_publish::CheckedTable;
use tidemill_simulate::Truth;
use tidemill_transform::graph::Selection;

use super::compare::{self, Compared};
use crate::args::{GlobalArgs, VerifyArgs};
use crate::commands::build::runner;
use crate::commands::context::Context;
use crate::commands::publish::publications;
use crate::commands::reconcile;
use crate::exit::Exit;
use crate::printer::{Printer, table, thousands};
use crate::report::UsageError;
use crate::signals;

/// Compares and says what differs; done only when nothing does.
pub(super) async fn run(global: &GlobalArgs, args: &VerifyArgs, printer: Printer) -> anyhow::Result<Exit> {
    let truth = read_truth(&args.truth)?;
    for wanted in &args.select {
        if !truth.models.contains_key(wanted) {
            let near = tidemill_project::error::nearest(wanted, truth.models.keys().map(String::as_str));
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(UsageError { message: format!("the truth knows no model `{wanted}`{hint}") }.into());
        }
    }
    let context = Context::load(global)?;
    let runner = runner(&context)?;
    let session = runner.query_context().await?;
    let proofs = reconcile::prove(&context, &[], false).await?;
    let mut books = compare::books(&proofs, &truth);
    books.extend(compare::quarantine(&session, &truth).await?);
    let is_wanted = |model: &str| args.select.is_empty() || args.select.iter().any(|wanted| wanted == model);
    let models = compare::models(&session, &truth, is_wanted).await?;
    let mut warehouse = Vec::new();
    if args.warehouse {
        let mut publications = publications(&runner, &Selection::all())?;
        publications
            .retain(|publication| publication.target.table().is_some() && is_known(&truth, publication, is_wanted));
        let cancel = signals::cancel_on_signal()?;
        warehouse = tidemill_publish::check(&context.settings, &context.lake, &publications, &cancel).await?;
    }
    let equal =
        books.is_empty() && models.iter().all(Compared::is_equal) && warehouse.iter().all(CheckedTable::is_equal);
    let object = json!({ "equal": equal, "books": books, "models": models, "warehouse": warehouse });
    printer.result(&object, &text(&books, &models, &warehouse, args.limit));
    Ok(if equal { Exit::Done } else { Exit::Rejected })
}

fn is_known(truth: &Truth, publication: &tidemill_publish::Publication, is_wanted: impl Fn(&str) -> bool) -> bool {
    truth.models.contains_key(&publication.model_name) && is_wanted(&publication.model_name)
}

/// Reads truth files and merges them: each tells of other systems.
fn read_truth(paths: &[impl AsRef<Path>]) -> anyhow::Result<Truth> {
    let mut truth = Truth::default();
    for path in paths {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read the truth, path=`{}`", path.display()))?;
        let read = Truth::from_json(&text).map_err(|fault| UsageError {
            message: format!(
                "`{}` is no truth file: {fault}; `tidemill simulate … --truth FILE` writes one",
                path.display()
            ),
        })?;
        truth.merge(read);
    }
    Ok(truth)
}

fn text(books: &[String], models: &[Compared], warehouse: &[CheckedTable], limit: usize) -> String {
    let heading = ["model", "rows", "true rows", "missing", "extra", "changed"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for Compared { model, true_rows, differences } in models {
        let counts = [
            differences.num_rows,
            *true_rows,
            differences.missing.len() as u64,
            differences.extra.len() as u64,
            differences.changed.len() as u64,
        ];
        rows.push(std::iter::once(model.clone()).chain(counts.map(thousands)).collect());
    }
    let mut text = table(&rows);
    for Compared { model, differences, .. } in models {
        for example in differences.examples(limit) {
            text.push_str(&format!("{model}: {example}\n"));
        }
    }
    let verdict = if books.is_empty() { "books: equal to the truth\n".to_owned() } else { String::new() };
    text.push_str(&verdict);
    for difference in books {
        text.push_str(&format!("books: {difference}\n"));
    }
    for checked in warehouse {
        let verdict = if checked.is_equal() { "equal to its model" } else { "DIFFERS from its model" };
        text.push_str(&format!("warehouse: {} {verdict}\n", checked.target));
        for example in &checked.examples {
            text.push_str(&format!("  {example}\n"));
        }
    }
    text
}
