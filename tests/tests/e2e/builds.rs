//! Builds beside each other: processes of their own over one lake.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tidemill_tests::process::Process;
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::seed::Seeded;
use tidemill_tests::tidemill::exit;

const CONTRACT: &str =
    "{topic: orders, event_time: {column: created_at, unit: s}, partition_by: hour, idempotency_key: order_id}";
const COLUMNS: [(&str, &str); 4] =
    [("order_id", "text"), ("customer", "text"), ("created_at", "timestamp"), ("amount", "bigint")];

/// One model for each way of keeping rows.
const MODELS: &[(&str, &str)] = &[
    (
        "hours",
        "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='hour_start', batch_size='hour',
          begin='2025-03-08') }}
select date_trunc('hour', event_at) as hour_start, count(*) as orders, sum(amount) as amount
from {{ source('shop', 'orders') }} group by 1",
    ),
    (
        "customers",
        "{{ config(materialized='incremental', incremental_strategy='aggregate') }}
select customer, count(*) as orders, sum(amount) as amount from {{ source('shop', 'orders') }} group by 1",
    ),
    (
        "newest",
        "{{ config(materialized='incremental', incremental_strategy='merge', unique_key='customer',
          event_time='event_at', latest_by=['event_at', 'order_id']) }}
select customer, event_at, order_id, amount from {{ source('shop', 'orders') }}",
    ),
    (
        "totals",
        "{{ config(materialized='table') }}
select 'hours' as model, sum(orders) as orders, sum(amount) as amount from {{ ref('hours') }}
union all select 'customers', sum(orders), sum(amount) from {{ ref('customers') }}",
    ),
];

/// Orders of one file, and what all files so far add up to.
#[derive(Default)]
struct Truth {
    orders: i64,
    amount: i64,
    customers: BTreeMap<String, (i64, i64)>,
    /// Customer to (time, order).
    newest: BTreeMap<String, (i64, String)>,
}

const START_S: i64 = 1_741_392_000;

impl Truth {
    /// Writes the next file: some orders of two days, in no order.
    fn file(&mut self, number: u32, random: &mut Seeded) -> String {
        let mut text = String::new();
        for index in 0..200 {
            let id = format!("o{number:02}-{index:03}");
            let customer = format!("c{}", random.below(17));
            let at = START_S + below(random, 2 * 86_400);
            let amount = below(random, 1_000);
            let _ = writeln!(
                text,
                "{{\"order_id\": \"{id}\", \"customer\": \"{customer}\", \"created_at\": {at}, \"amount\": {amount}}}"
            );
            self.orders += 1;
            self.amount += amount;
            let sums = self.customers.entry(customer.clone()).or_default();
            *sums = (sums.0 + 1, sums.1 + amount);
            let newest = self.newest.entry(customer).or_default();
            *newest = newest.clone().max((at, id));
        }
        text
    }

    fn check(&self, project: &Project) -> Result<()> {
        let tidemill = project.tidemill();
        for row in tidemill.query("select model, orders, amount from totals")? {
            ensure!(row["orders"] == self.orders && row["amount"] == self.amount, "{row} instead of {}", self.orders);
        }
        let mut customers = BTreeMap::new();
        for row in tidemill.query("select customer, orders, amount from customers")? {
            let sums = (number(&row, "orders"), number(&row, "amount"));
            ensure!(customers.insert(text(&row, "customer"), sums).is_none(), "a customer stands twice: {row}");
        }
        ensure!(customers == self.customers, "{customers:?} instead of {:?}", self.customers);
        let newest: Vec<(String, String)> = tidemill
            .query("select customer, order_id from newest order by customer")?
            .iter()
            .map(|row| (text(row, "customer"), text(row, "order_id")))
            .collect();
        let wanted: Vec<(String, String)> =
            self.newest.iter().map(|(customer, (_, order))| (customer.clone(), order.clone())).collect();
        ensure!(newest == wanted, "{newest:?} instead of {wanted:?}");
        Ok(())
    }
}

fn below(random: &mut Seeded, bound: u32) -> i64 {
    i64::try_from(random.below(u64::from(bound))).expect("below a u32")
}

fn text(row: &Value, column: &str) -> String {
    row[column].as_str().unwrap_or_default().to_owned()
}

fn number(row: &Value, column: &str) -> i64 {
    row[column].as_i64().unwrap_or(-1)
}

fn shop() -> ProjectBuilder {
    let mut project = ProjectBuilder::shop(CONTRACT, &COLUMNS);
    for (name, sql) in MODELS {
        project = project.file(&format!("models/{name}.sql"), sql);
    }
    project
}

/// Each round lands a file and starts three builds at once; the next file lands while they run.
#[test]
fn builds_of_several_processes_at_once_double_nothing_and_mix_nothing() -> Result<()> {
    let project = shop().build()?;
    let tidemill = project.tidemill();
    let mut random = Seeded::from_environment(11)?;
    let mut truth = Truth::default();
    let land = |number: u32, text: &str| -> Result<Process> {
        let path = project.folder().join(format!("orders-{number}.jsonl"));
        fs::write(&path, text)?;
        tidemill.spawn(&["ingest", "--select", "shop.orders", "--from-files", &path.display().to_string()])
    };
    for round in 0..4 {
        let builds: Vec<Process> = (0..3).map(|_| tidemill.spawn(&["build"])).collect::<Result<_>>()?;
        let file = truth.file(round, &mut random);
        for mut process in builds.into_iter().chain([land(round, &file)?]) {
            let status = process.wait(Duration::from_mins(2))?;
            ensure!(status.code() == Some(exit::DONE), "{status}: {}", process.output()?);
        }
        // Whatever the three saw of the file, one more build sees all of it.
        tidemill.succeed(&["build"])?;
        truth.check(&project)?;
    }
    tidemill.succeed(&["build", "--full-refresh"])?;
    truth.check(&project)
}
