//! `tidemill doctor`: checks what a run needs, and says what to do.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use serde::Serialize;
use serde_json::json;
use tidemill_project::Diagnostic as _;
use tidemill_project::config::{KafkaSettings, Settings, WarehouseSettings};

use super::build::runner;
use super::context::Context;
use crate::args::GlobalArgs;
use crate::exit::Exit;
use crate::printer::{Printer, table};

const REQUEST: Duration = Duration::from_secs(5);

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    ok: bool,
    /// What was found.
    found: String,
    /// The way out, when it is not well.
    advice: String,
}

impl Finding {
    fn good(what: &str, found: impl Into<String>) -> Self {
        Self { what: what.to_owned(), ok: true, found: found.into(), advice: String::new() }
    }

    fn bad(what: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.to_owned(), ok: false, found: found.into(), advice: advice.into() }
    }
}

/// Looks at everything and prints what it found; exit 1 when something is not well.
pub(crate) async fn run(global: &GlobalArgs, printer: Printer) -> anyhow::Result<Exit> {
    // Faults of the settings are errors of their own, with places: nothing else can be looked at without settings.
    let context = Context::load(global)?;
    let mut findings = vec![Finding::good(
        "settings",
        format!("target `{}` of {}", context.settings.target, context.settings.project_dir.display()),
    )];
    findings.push(check_contracts(&context));
    findings.push(check_models(&context));
    findings.push(check_lake(&context).await);
    findings.extend(check_kafka(&context).await);
    findings.push(check_warehouse(&context.settings));

    let mut rows = vec![["check", "state", "found", "what to do"].map(str::to_owned).to_vec()];
    for finding in &findings {
        rows.push(vec![
            finding.what.clone(),
            if finding.ok { "ok" } else { "FAULT" }.to_owned(),
            finding.found.clone(),
            finding.advice.clone(),
        ]);
    }
    let well = findings.iter().all(|finding| finding.ok);
    printer.result(&json!({ "ok": well, "checks": findings }), &table(&rows));
    Ok(if well { Exit::Done } else { Exit::Failed })
}

fn check_contracts(context: &Context) -> Finding {
    match context.contracts() {
        Ok(contracts) if contracts.contracts.is_empty() => {
            Finding::good("contracts", "none: models only, fed by files or seeds")
        }
        Ok(contracts) => {
            let names: Vec<String> = contracts.contracts.iter().map(|contract| contract.name.to_string()).collect();
            Finding::good("contracts", names.join(", "))
        }
        Err(error) => Finding::bad(
            "contracts",
            error.to_string(),
            "see the places above: tidemill ls prints them with their lines",
        ),
    }
}

fn check_models(context: &Context) -> Finding {
    match runner(context) {
        Ok(runner) => Finding::good(
            "models",
            format!("{} models, {} seeds", runner.project().models.len(), runner.project().seeds.len()),
        ),
        Err(error) => {
            Finding::bad("models", error.to_string(), "tidemill ls prints every fault with its file and line")
        }
    }
}

/// Writes an object, reads the store's clock from it, and sees that a second writer of the same name is refused.
async fn check_lake(context: &Context) -> Finding {
    let what = "lake";
    let url = &context.settings.lake.url;
    match context.lake.probe().await {
        Ok(probe) => {
            let skew_s = probe.clock_skew_us.abs() / 1_000_000;
            if !probe.refuses_second_writer {
                return Finding::bad(
                    what,
                    format!("{url}: a second writer of one name is not refused"),
                    "use a store with conditional put, or set its option (aws_conditional_put = \"etag\")",
                );
            }
            if skew_s > 60 {
                return Finding::bad(
                    what,
                    format!("{url}: clocks differ by {skew_s} s"),
                    "let this machine follow a time server",
                );
            }
            Finding::good(what, format!("{url}: writable, second writers are refused, clocks differ by {skew_s} s"))
        }
        Err(error) => {
            let advice = error
                .hint()
                .unwrap_or_else(|| "check the address, the keys and their rights: list, get, put, delete".to_owned());
            Finding::bad(what, format!("{url}: {}", crate::report::one_line(&error)), advice)
        }
    }
}

async fn check_kafka(context: &Context) -> Vec<Finding> {
    let Some(kafka) = context.settings.kafka.clone() else {
        return vec![Finding::good("kafka", "not configured: files only")];
    };
    let servers = kafka.property("bootstrap.servers").unwrap_or_default().to_owned();
    let topics = tokio::task::spawn_blocking(move || topics_of(&kafka)).await;
    let topics = match topics {
        Ok(Ok(topics)) => topics,
        Ok(Err(error)) => {
            return vec![Finding::bad(
                "kafka",
                format!("{servers}: {error}"),
                "check bootstrap.servers, security.protocol and the credentials; the broker must be reachable from here",
            )];
        }
        Err(error) => return vec![Finding::bad("kafka", error.to_string(), "please report this")],
    };
    let mut findings = vec![Finding::good("kafka", format!("{servers}: {} topics are visible", topics.len()))];
    let Ok(contracts) = context.contracts() else { return findings };
    for contract in contracts.contracts.iter().filter(|contract| contract.enabled) {
        let what = format!("topics of {}", contract.name);
        let (there, missing): (Vec<&str>, Vec<&str>) = contract
            .topics
            .iter()
            .map(|rule| rule.pattern.as_str())
            .partition(|pattern| pattern.starts_with('^') || topics.iter().any(|topic| topic == pattern));
        findings.push(if there.is_empty() {
            Finding::bad(
                &what,
                format!("none of {} exists", missing.join(", ")),
                "create the topics, or allow this user to describe them; switch the contract off with `enabled: false`",
            )
        } else {
            let note = if missing.is_empty() { String::new() } else { format!("; not there: {}", missing.join(", ")) };
            Finding::good(&what, format!("{}{note}", there.join(", ")))
        });
    }
    findings
}

fn topics_of(kafka: &KafkaSettings) -> Result<Vec<String>, rdkafka::error::KafkaError> {
    let consumer: BaseConsumer =
        tidemill_project::kafka::client_config(kafka).set("group.id", &kafka.group).create()?;
    let metadata = consumer.fetch_metadata(None, REQUEST)?;
    Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
}

fn check_warehouse(settings: &Settings) -> Finding {
    match &settings.warehouse {
        WarehouseSettings::Local(local) => Finding::good("warehouse", format!("local, {}", local.url)),
        WarehouseSettings::Snowflake(snowflake) => Finding::good(
            "warehouse",
            format!(
                "snowflake account {}, user {}; `tidemill publish --check` compares it with the lake",
                snowflake.account, snowflake.user
            ),
        ),
    }
}
