//! Lake and warehouse: can they be reached, may we write, do they keep their promises, do the clocks agree.

use std::collections::BTreeSet;
use std::fmt::Display;

use tidemill_lake::Lake;
use tidemill_project::Diagnostic as _;
use tidemill_project::config::WarehouseSettings;
use tidemill_publish::Target;
use tidemill_publish::snowflake::SnowflakeSink;
use tidemill_transform::graph::Selection;

use super::Finding;
use crate::commands::build::runner;
use crate::commands::context::Context;
use crate::commands::publish::publications;
use crate::report::one_line;

/// Beyond this, commits carry times that a person would call wrong, and `max_future` refuses events that are right.
const MAX_SKEW_S: i64 = 60;

/// Writes an object, reads the store's clock from it, sees that a second writer of the same name is refused, deletes it.
pub(super) async fn check_lake(what: &str, lake: &Lake, url: &impl Display) -> Finding {
    match lake.probe().await {
        Ok(probe) => {
            let skew_s = probe.clock_skew_us.abs() / 1_000_000;
            if !probe.refuses_second_writer {
                return Finding::bad(
                    what,
                    format!("{url}: a second writer of one name is not refused"),
                    "use a store with conditional put, or set its option (aws_conditional_put = \"etag\")",
                );
            }
            if skew_s > MAX_SKEW_S {
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
            Finding::bad(what, format!("{url}: {}", one_line(&error)), advice)
        }
    }
}

/// The local warehouse is a lake of its own; Snowflake is asked to let us into every database that models publish to.
pub(super) async fn check_warehouse(context: &Context) -> Vec<Finding> {
    let snowflake = match &context.settings.warehouse {
        WarehouseSettings::Local(local) => {
            let warehouse = Lake::connect(local, &context.settings.maintenance, context.clock.clone());
            return vec![match warehouse {
                Ok(warehouse) => check_lake("warehouse", &warehouse, &local.url).await,
                Err(error) => Finding::bad("warehouse", one_line(&error), "mend `url` or `options` of the warehouse"),
            }];
        }
        WarehouseSettings::Snowflake(snowflake) => snowflake,
    };
    // A project that cannot be read has its own finding.
    let published = runner(context).and_then(|runner| publications(&runner, &Selection::default())).unwrap_or_default();
    let own_name = |database: &String| snowflake.databases.get(database).unwrap_or(database).clone();
    let tables = published.iter().filter_map(|one| match &one.target {
        Target::Table(table) => Some(table),
        Target::Topic { .. } | Target::Keys { .. } => None,
    });
    let mut databases: BTreeSet<String> = tables.map(|table| own_name(&table.database)).collect();
    if databases.is_empty() {
        databases.insert("SNOWFLAKE".to_owned());
    }
    let sink = SnowflakeSink::new(snowflake.as_ref().clone(), context.lake.clone());
    let mut findings = Vec::new();
    for database in databases {
        let what = format!("warehouse {database}");
        let place = format!("snowflake account {}, user {}", snowflake.account, snowflake.user);
        findings.push(match sink.probe(&database).await {
            Ok(()) => Finding::good(what, format!("{place}: logged in; `tidemill publish --check` compares the rows")),
            Err(error) => {
                let advice = error.hint().unwrap_or_else(|| {
                    "check account, user, key, role and warehouse of the target, and that the role may use the database"
                        .to_owned()
                });
                Finding::bad(what, format!("{place}: {}", one_line(&error)), advice)
            }
        });
    }
    findings
}
