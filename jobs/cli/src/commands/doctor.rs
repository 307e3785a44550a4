//! `tidemill doctor`: checks what a run needs, and says what to do.

mod broker;
mod broker_clock;
mod clocks;
mod registry;
mod stores;

use serde::Serialize;
use serde_json::json;

use super::build::runner;
use super::context::Context;
use crate::args::{DoctorArgs, GlobalArgs};
use crate::exit::Exit;
use crate::printer::{Printer, table};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    /// `None`: from here it cannot be known.
    ok: Option<bool>,
    /// What was found.
    found: String,
    /// The way out, when it is not well.
    advice: String,
}

impl Finding {
    fn good(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), ok: Some(true), found: found.into(), advice: String::new() }
    }

    fn bad(what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), ok: Some(false), found: found.into(), advice: advice.into() }
    }

    /// Nothing is wrong that was seen, but what was asked for was not seen either.
    fn unknown(what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), ok: None, found: found.into(), advice: advice.into() }
    }

    fn state(&self) -> &'static str {
        match self.ok {
            Some(true) => "ok",
            Some(false) => "FAULT",
            None => "unknown",
        }
    }
}

/// Looks at everything and prints what it found; exit 1 when something is not well.
pub(crate) async fn run(global: &GlobalArgs, args: DoctorArgs, printer: Printer) -> anyhow::Result<Exit> {
    // Faults of the settings are errors of their own, with places: nothing else can be looked at without settings.
    let context = Context::load(global)?;
    let mut findings = vec![Finding::good(
        "settings",
        format!("target `{}` of {}", context.settings.target, context.settings.project_dir.display()),
    )];
    findings.push(check_contracts(&context, printer));
    findings.push(check_models(&context, printer));
    findings.push(stores::check_lake("lake", &context.lake, &context.settings.lake.url).await);
    findings.extend(broker::check(&context, args.probe_kafka).await);
    findings.extend(stores::check_warehouse(&context).await);
    findings.extend(stores::check_redis(&context).await);
    findings.extend(registry::check(&context).await);

    let mut rows = vec![["check", "state", "found", "what to do"].map(str::to_owned).to_vec()];
    for finding in &findings {
        rows.push(vec![
            finding.what.clone(),
            finding.state().to_owned(),
            finding.found.clone(),
            finding.advice.clone(),
        ]);
    }
    let well = findings.iter().all(|finding| finding.ok != Some(false));
    printer.result(&json!({ "ok": well, "checks": findings }), &table(&rows));
    Ok(if well { Exit::Done } else { Exit::Failed })
}

fn check_contracts(context: &Context, printer: Printer) -> Finding {
    match context.contracts() {
        Ok(contracts) if contracts.contracts.is_empty() => {
            Finding::good("contracts", "none: models only, fed by files or seeds")
        }
        Ok(contracts) => {
            let names: Vec<String> = contracts.contracts.iter().map(|contract| contract.name.to_string()).collect();
            Finding::good("contracts", names.join(", "))
        }
        Err(error) => project_fault("contracts", &error, printer),
    }
}

fn check_models(context: &Context, printer: Printer) -> Finding {
    match runner(context) {
        Ok(runner) => Finding::good(
            "models",
            format!("{} models, {} seeds", runner.project().models.len(), runner.project().seeds.len()),
        ),
        Err(error) => project_fault("models", &error, printer),
    }
}

/// Every fault of the project's files goes to stderr with its place; the table says how many there are.
fn project_fault(what: &str, error: &anyhow::Error, printer: Printer) -> Finding {
    printer.error(error);
    Finding::bad(what, error.to_string(), "mend the places that are named above the table")
}
