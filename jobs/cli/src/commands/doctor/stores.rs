//! Lake and warehouse: can they be reached, may we write, do they keep their promises, do the clocks agree.

use std::collections::BTreeSet;
use std::fmt::Display;

use tidemill_lake::Lake;
use tidemill_project::Diagnostic as _;
use tidemill_project::clock::ClockReading;
use tidemill_project::config::WarehouseSettings;
use tidemill_publish::RedisSink;
use tidemill_publish::snowflake::SnowflakeSink;
use tidemill_transform::graph::Selection;

use super::{Finding, clocks};
use crate::commands::build::runner;
use crate::commands::context::Context;
use crate::commands::publish::publications;
use crate::report::one_line;

/// Writes an object, reads the store's clock from it, sees that a second writer of the same name is refused, deletes it.
pub(super) async fn check_lake(what: &str, lake: &Lake, url: &impl Display) -> Finding {
    match lake.probe().await {
        Ok(probe) => {
            if !probe.refuses_second_writer {
                return Finding::bad(
                    what,
                    format!("{url}: a second writer of one name is not refused"),
                    "use a store with conditional put, or set its option (aws_conditional_put = \"etag\")",
                );
            }
            clocks::fault(what, &url.to_string(), probe.clock_skew_us).unwrap_or_else(|| {
                let clocks = clocks::agreement(probe.clock_skew_us);
                Finding::good(what, format!("{url}: writable, second writers are refused, {clocks}"))
            })
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
    let tables = published.iter().filter_map(|one| one.target.table());
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
            Ok(reading) => judge_snowflake(&what, &place, reading),
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

/// What is found of an account that let us in.
fn judge_snowflake(what: &str, place: &str, reading: Option<ClockReading>) -> Finding {
    let Some(reading) = reading else {
        let advice = "compare `select sysdate()` with this machine's clock by hand";
        return Finding::unknown(what, format!("{place}: logged in, but it does not say the time"), advice);
    };
    let skew_us = reading.skew_us();
    clocks::fault(what, place, skew_us).unwrap_or_else(|| {
        let clocks = clocks::agreement(skew_us);
        Finding::good(what, format!("{place}: logged in, {clocks}; `tidemill publish --check` compares the rows"))
    })
}

/// The Redis server of the target, when it has one.
pub(super) async fn check_redis(context: &Context) -> Option<Finding> {
    let redis = context.settings.sinks.redis.as_ref()?;
    let sink = RedisSink::new(redis.clone(), context.lake.clone());
    Some(match sink.probe().await {
        Ok(version) => Finding::good("redis", format!("version {version}; scripts run")),
        Err(error) => {
            let advice = error.hint().unwrap_or_else(|| "check sinks.redis.url, and that the server runs".to_owned());
            Finding::bad("redis", one_line(&error), advice)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_lets_us_in_is_well_when_its_clock_agrees_and_unknown_when_it_says_none() {
        let at = |said_us| Some(ClockReading { asked_us: 0, said_us, answered_us: 2_000_000 });
        let ok = |reading| judge_snowflake("warehouse A", "snowflake account A", reading).ok;
        assert_eq!([ok(at(1_000_000)), ok(at(-7_200_000_000)), ok(None)], [Some(true), Some(false), None]);
    }
}
