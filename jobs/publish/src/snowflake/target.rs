//! The target as the warehouse has it: its columns, and whether anybody else wrote into it.

use super::SnowflakeError;
use super::client::Client;
use super::ddl;
use super::heads::Head;
use super::names::Names;
use super::protocol::Leg;
use super::sql;
use crate::error::Cause;
use crate::{Error, Result};

/// Step 3, second half: adds columns that the model gained, refuses types that do not fit and targets that somebody edited.
pub(super) async fn prepare(client: &mut Client<'_>, database: &str, legs: &[Leg<'_>], heads: &[&Head]) -> Result<()> {
    let names: Vec<&Names> = legs.iter().map(|leg| &leg.load.names).collect();
    let known = client.run(&ddl::known_columns(database, &names)).await?;
    for leg in legs {
        let own = &leg.load.names;
        let columns: Vec<(&str, &str)> = known
            .rows
            .iter()
            .filter_map(|row| match row.as_slice() {
                [Some(schema), Some(table), Some(column), Some(data_type), ..]
                    if *schema == own.schema_name && *table == own.table_name =>
                {
                    Some((column.as_str(), data_type.as_str()))
                }
                _ => None,
            })
            .collect();
        if columns.is_empty() {
            return Err(SnowflakeError::NoHead { target: own.table.clone() }.into());
        }
        fit_columns(client, leg, &columns).await?;
    }
    let counts = client.run(&sql::counts("state", &names)).await?;
    let entries = client.run(&sql::last_entries(database, &names)).await?;
    for (leg, head) in legs.iter().zip(heads) {
        refuse_edits(leg, head, &counts.rows, &entries.rows)?;
    }
    Ok(())
}

async fn fit_columns(client: &mut Client<'_>, leg: &Leg<'_>, known: &[(&str, &str)]) -> Result<()> {
    for column in &leg.load.columns {
        let found = known.iter().find(|(name, _)| *name == column.name).map(|(_, data_type)| *data_type);
        if let Some(found) = found
            && family(found) != family(&column.column_type.target_sql)
        {
            let (target, wanted) = (leg.changes.publication().target.clone(), column.column_type.target_sql.clone());
            let cause = Cause::ColumnType { target, column: column.name.clone(), wanted, found: found.to_owned() };
            return Err(Error::new(cause).at(&leg.changes.publication().location));
        }
    }
    let own = ddl::own_columns(&leg.load).into_iter().map(|(name, _)| name.to_owned());
    let missing: Vec<String> = leg
        .load
        .columns
        .iter()
        .map(|column| column.name.clone())
        .chain(own)
        .filter(|name| !known.iter().any(|(known, _)| known == name))
        .collect();
    for statement in ddl::add_columns(&leg.load, &missing) {
        client.run(&statement).await?;
    }
    Ok(())
}

/// Types that the warehouse converts between without losing anything have one family.
fn family(data_type: &str) -> &str {
    let base = data_type.split('(').next().unwrap_or(data_type).trim();
    match base {
        "VARCHAR" | "STRING" | "TEXT" | "CHAR" => "TEXT",
        "NUMBER" | "DECIMAL" | "NUMERIC" | "INT" | "INTEGER" | "BIGINT" => "NUMBER",
        "FLOAT" | "DOUBLE" | "REAL" | "DOUBLE PRECISION" => "FLOAT",
        "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ" | "DATETIME" | "TIMESTAMP" => "TIMESTAMP",
        "VARIANT" | "ARRAY" | "OBJECT" => "VARIANT",
        "BINARY" | "VARBINARY" => "BINARY",
        other => other,
    }
}

/// Rows and greatest sequence must be what the last publication left; `--full` compares by key and repairs.
fn refuse_edits(
    leg: &Leg<'_>,
    head: &Head,
    counts: &[Vec<Option<String>>],
    entries: &[Vec<Option<String>>],
) -> Result<()> {
    let label = &leg.load.names.label;
    let row_of =
        |rows: &[Vec<Option<String>>]| rows.iter().find(|row| row.first() == Some(&Some(label.clone()))).cloned();
    let (Some(found), Some(entry)) = (row_of(counts), row_of(entries)) else {
        if head.seq > 0 {
            tracing::warn!(table = %label, "the ledger has no entry of the last publication, going on from the head");
        }
        return Ok(());
    };
    let is_last = entry.get(1) == Some(&Some(head.seq.to_string()));
    if leg.load.full || !is_last || found.get(1..3) == entry.get(2..4) {
        return Ok(());
    }
    let show = |cells: Option<&[Option<String>]>| {
        let cells = cells.unwrap_or_default().iter().map(|cell| cell.as_deref().unwrap_or("none"));
        cells.collect::<Vec<_>>().join(" rows, greatest sequence ")
    };
    let difference = format!("it has {}, the last publication left {}", show(found.get(1..3)), show(entry.get(2..4)));
    let target = leg.changes.publication().target.clone();
    Err(Error::new(Cause::TargetEdited { target, difference }).at(&leg.changes.publication().location))
}
