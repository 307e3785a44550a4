//! Every table of the five systems in Snowflake (the emulator) and in the local warehouse: the same rows, value by value and
//! type by type, as events come late and change, and when everything is built again.
//!
//! Both are read from outside: the one by Snowflake's own connector, the other by `deltalake`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidemill_tests::snowflake::Address;
use tidemill_tests::tables::{self, TableRows};
use tidemill_tests::tidemill::Tidemill;
use tidemill_tests::{installed, shared};

use crate::systems::{ACTIVITY, CLICKS, LOGINS, Scene, ZENTRY, ZONER};

/// Columns that are documents in Snowflake, and texts of JSON here.
const DOCUMENTS: [&str; 7] =
    ["EXTRA", "PROPERTIES", "READINGS", "LOCATION_STATS", "DEVICE_STATS", "VERSION_STATS", "OPEN_ALERTS"];

/// A system's traffic, and two targets over one lake.
struct Warehouses {
    scene: Scene,
    snowflake: Tidemill,
    address: Address,
    /// As the models name it.
    shipped: String,
    /// In the emulator.
    database: String,
}

/// Rows that publications wrote into Snowflake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Written {
    inserted: u64,
    updated: u64,
    deleted: u64,
}

impl Warehouses {
    fn open(system: &'static str, traffic: &[&str], vars: &[&str]) -> Result<Self> {
        let (address, prefix) = (shared::snowflake()?, shared::unique_name("both").to_uppercase());
        let scene = Scene::open_with(system, traffic, vars, |project| project.also_snowflake(address, &prefix))?;
        let shipped = format!("{}_DB", system.to_uppercase());
        let database = format!("{prefix}_{shipped}");
        let snowflake = scene.tidemill.clone().target("snowflake");
        Ok(Self { scene, snowflake, address, shipped, database })
    }

    /// The system's models that are published.
    fn models(&self) -> String {
        format!("staging.{0} marts.{0}", self.scene.system)
    }

    /// Publishes to Snowflake too and compares every table.
    fn publish(&self) -> Result<Written> {
        let report = self.snowflake.json(&["publish", "--select", &self.models()])?;
        let mut written = Written::default();
        for table in report["report"]["tables"].as_array().context("a report lists tables")? {
            let count = |name: &str| table["counts"][name].as_u64().with_context(|| format!("no count: {table}"));
            written.inserted += count("inserted")?;
            written.updated += count("updated")?;
            written.deleted += count("deleted")?;
        }
        self.compare()?;
        Ok(written)
    }

    fn compare(&self) -> Result<()> {
        let local = tables::of_local(&self.scene.project.warehouse().join(&self.shipped))?;
        let there = tables::of_snowflake(self.address, &self.database)?;
        let names = |tables: &tables::Tables| tables.keys().cloned().collect::<BTreeSet<_>>();
        let published = published_tables(&self.shipped)?;
        ensure!(names(&there) == published, "Snowflake has {:?} and not {published:?}", names(&there));
        ensure!(names(&local) == published, "the local warehouse has {:?} and not {published:?}", names(&local));
        let faults: Vec<String> = there
            .iter()
            .zip(local.values())
            .filter_map(|((name, found), local)| Some(format!("{name}: {}", found.difference(local, &DOCUMENTS)?)))
            .collect();
        ensure!(faults.is_empty(), "{} tables differ:\n{}", faults.len(), faults.join("\n"));
        Ok(())
    }

    /// Half of the traffic, the rest with its late events and changes, and everything again from raw.
    fn hold_the_same(&self) -> Result<()> {
        self.scene.step(self.scene.num_records / 2)?;
        let first = self.publish()?;
        ensure!(first.inserted > 0 && first.updated + first.deleted == 0, "{first:?}");
        self.scene.drain()?;
        let second = self.publish()?;
        ensure!(second.inserted > 0 && second.updated > 0, "nothing came or changed: {second:?}");
        self.scene.verify()?;
        let there = tables::of_snowflake(self.address, &self.database)?;
        for (name, table) in &there {
            ensure!(!table.rows.is_empty(), "{name} has no row: nothing was proven of it");
        }
        self.scene.tidemill.succeed(&["build", "--full-refresh"])?;
        self.scene.tidemill.succeed(&["publish"])?;
        let rebuilt = self.publish()?;
        ensure!(rebuilt == Written::default(), "a rebuild changes no row: {rebuilt:?}");
        ensure!(tables::of_snowflake(self.address, &self.database)? == there, "a rebuild changed a table");
        // Our own eyes see the same.
        self.snowflake.succeed(&["publish", "--check", "--select", &self.models()])?;
        Ok(())
    }
}

/// `SCHEMA.TABLE` of all tables that the shipped models publish to a database.
fn published_tables(database: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![installed::repository().join("dbt-like-models/models")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yml") {
                let text = fs::read_to_string(path)?;
                let tables = text.lines().filter_map(|line| line.trim().strip_prefix("table: "));
                found.extend(
                    tables.filter_map(|table| table.strip_prefix(database)?.strip_prefix('.')).map(str::to_owned),
                );
            }
        }
    }
    ensure!(!found.is_empty(), "nothing is published to {database}");
    Ok(found)
}

#[test]
fn every_table_of_zoner_is_the_same_in_both_warehouses() -> Result<()> {
    Warehouses::open("zoner", &ZONER, &[])?.hold_the_same()
}

#[test]
fn every_table_of_activity_is_the_same_in_both_warehouses() -> Result<()> {
    Warehouses::open("activity", &ACTIVITY, &["activity_alerts_enabled: true"])?.hold_the_same()
}

#[test]
fn every_table_of_clicks_is_the_same_in_both_warehouses() -> Result<()> {
    let all = ["clicks_publish_system: true", "clicks_user_features_enabled: true"];
    Warehouses::open("clicks", &CLICKS, &all)?.hold_the_same()
}

#[test]
fn every_table_of_logins_is_the_same_in_both_warehouses() -> Result<()> {
    Warehouses::open("logins", &LOGINS, &[])?.hold_the_same()
}

/// E21 with it: the documented view shows every reader the rows of the model.
#[test]
fn every_table_of_zentry_is_the_same_in_both_warehouses_and_so_is_the_view_of_feeds() -> Result<()> {
    let warehouses = Warehouses::open("zentry", &ZENTRY, &[])?;
    warehouses.hold_the_same()?;
    let statement = documented_view(&installed::repository().join("docs/systems.md"))?;
    let statement = statement.replace("ZENTRY_DB", &warehouses.database);
    let columns = ["user_id", "author_id", "sleep_entry_id", "sleep_duration"];
    let query = format!(
        "SELECT {} FROM {}.PROCESSED_DATA.FEED",
        columns.map(str::to_uppercase).join(", "),
        warehouses.database
    );
    let shown = warehouses.address.query(&warehouses.database, &[&statement, &query])?;
    let modelled = warehouses.scene.tidemill.query(&format!("select {} from zentry_feed", columns.join(", ")))?;
    let rows = |rows: &mut dyn Iterator<Item = Vec<String>>| {
        let mut rows: Vec<Vec<String>> = rows.collect();
        rows.sort();
        rows
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let shown =
        rows(&mut shown.iter().map(|row| columns.iter().map(|name| text(&row[&name.to_uppercase()])).collect()));
    let modelled = rows(&mut modelled.iter().map(|row| columns.iter().map(|name| text(&row[*name])).collect()));
    ensure!(!modelled.is_empty() && shown == modelled, "{} rows of the view, {} rows", shown.len(), modelled.len());
    let celebrities = tables::of_snowflake(warehouses.address, &warehouses.database)?;
    let is_mixed = |table: &str| celebrities.get(table).is_some_and(|table: &TableRows| !table.rows.is_empty());
    ensure!(is_mixed("PROCESSED_DATA.FEEDS") && is_mixed("PROCESSED_DATA.CELEBRITY_ENTRIES"), "one side is empty");
    Ok(())
}

/// The statement that makes the view, as the page has it.
fn documented_view(page: &Path) -> Result<String> {
    let text = fs::read_to_string(page)?;
    let start = text.find("create or replace view ZENTRY_DB").context("the page makes the view")?;
    let rest = &text[start..];
    let end = rest.find(';').context("the statement ends")?;
    Ok(rest[..end].to_owned())
}
