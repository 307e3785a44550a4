//! `tidemill collect`

use std::io::Read as _;

use anyhow::Context as _;
use serde_json::json;
use tidemill_collect::Collector;
use tidemill_project::metrics::Metrics;

use super::context::Context;
use crate::args::{CollectArgs, GlobalArgs};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::report::UsageError;
use crate::signals;

/// Serves until a signal comes.
pub(crate) async fn run(global: &GlobalArgs, args: &CollectArgs, printer: Printer) -> anyhow::Result<Exit> {
    if args.hash_key {
        return hash_key(printer);
    }
    let context = Context::load(global)?;
    let missing = |what: &str, key: &str| UsageError {
        message: format!("target `{name}` has no {what}; add [target.{name}.{key}]", name = context.settings.target),
    };
    let mut settings = context.settings.collect.clone().ok_or_else(|| missing("HTTP door", "collect"))?;
    let kafka = context.settings.kafka.as_ref().ok_or_else(|| missing("broker", "kafka"))?;
    if let Some(listen) = args.listen {
        settings.listen = listen;
    }
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let contracts = context.contracts()?.contracts;
    let cancel = signals::cancel_on_signal()?;
    let collector = Collector::bind(settings, kafka, &contracts, context.clock.clone(), Metrics::new()).await?;
    let url = format!("{scheme}://{}{}", collector.local_addr()?, tidemill_collect::ROUTE);
    // For people and for whoever started the process with port 0.
    printer.result(&json!({ "run_id": context.run_id, "url": url }), &format!("listening on {url}"));
    collector.serve(cancel).await?;
    Ok(Exit::Done)
}

fn hash_key(printer: Printer) -> anyhow::Result<Exit> {
    let mut key = String::new();
    std::io::stdin().read_to_string(&mut key).context("failed to read a key from stdin")?;
    let key = key.trim();
    if key.is_empty() {
        return Err(UsageError {
            message: "stdin holds no key; try: openssl rand -hex 32 | tidemill collect --hash-key".to_owned(),
        }
        .into());
    }
    let hash = tidemill_collect::hash_key(key);
    printer.result(&json!({ "sha256": hash }), &hash);
    Ok(Exit::Done)
}
