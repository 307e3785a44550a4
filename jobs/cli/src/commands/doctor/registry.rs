//! The schema registry: is it there, does it let us in, does it know the subjects.

use tidemill_ingest::registry::Registry;
use tidemill_project::Diagnostic as _;

use super::Finding;
use crate::commands::context::Context;
use crate::report::one_line;

/// Asks the target's registry; a target without one is well as long as no contract needs it.
pub(super) async fn check(context: &Context) -> Option<Finding> {
    const WHAT: &str = "schema registry";
    let contracts = context.contracts().map(|all| all.contracts).unwrap_or_default();
    let needing: Vec<String> = contracts
        .iter()
        .filter(|contract| contract.enabled && contract.format.needs_registry())
        .map(|contract| contract.name.to_string())
        .collect();
    let Some(settings) = &context.settings.registry else {
        return (!needing.is_empty()).then(|| {
            Finding::bad(
                WHAT,
                format!("not configured, but needed by {}", needing.join(", ")),
                "add `[target.<name>.registry]` with its `url`, or read plain JSON with `format: json`",
            )
        });
    };
    let asked = match Registry::new(settings) {
        Ok(registry) => registry.ping().await,
        Err(error) => Err(error),
    };
    Some(match asked {
        Ok(()) if settings.url.scheme() == "http" && !settings.url.host_str().is_some_and(is_local) => Finding::bad(
            WHAT,
            format!("{}: answers, without TLS", settings.url),
            "use https, so that nobody on the way can change a schema or read the login",
        ),
        Ok(()) => Finding::good(WHAT, format!("{}: answers", settings.url)),
        Err(error) => {
            let advice = error.hint().unwrap_or_else(|| "check `url` and the login".to_owned());
            Finding::bad(WHAT, one_line(&error), advice)
        }
    })
}

/// Loopback, and names without a dot: a service beside us.
fn is_local(host: &str) -> bool {
    host.starts_with("127.") || !host.contains('.')
}
