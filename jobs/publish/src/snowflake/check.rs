//! Target against model: the model's rows are staged in a private table, and the warehouse compares.

use std::sync::Arc;

use tidemill_lake::Table;

use super::client::{Client, Purpose};
use super::load::Load;
use super::parts::{Manifest, Stager};
use super::protocol::stage_rows;
use super::statement::Statement;
use super::{SnowflakeError, SnowflakeSink, ddl, sql};
use crate::diff::{ChangeSet, MAX_KEYS_IN_MEMORY, PlanRequest, plan};
use crate::{CheckedTable, Publication, Result, Silent};

impl SnowflakeSink {
    pub(super) async fn compare(&self, publication: &Publication, model: Arc<Table>) -> Result<CheckedTable> {
        let request = PlanRequest {
            watermark_us: None,
            publication: publication.clone(),
            model,
            base: None,
            target: None,
            full: true,
            resend: false,
            max_keys: MAX_KEYS_IN_MEMORY,
            names_rows: false,
        };
        let changes = plan(request).await?;
        let load = Load::new(&changes)?;
        let purpose = Purpose { database: &load.names.database, run_id: "check" };
        let mut client = Client::new(&self.settings, purpose, self.lake.clock().clone(), &Silent)?;
        let owner = self.lake.clock().new_id().simple().to_string();
        let staging = load.names.staging(0, &owner);
        let result = compare(&mut client, &changes, &load, &staging, &owner).await;
        if let Err(error) =
            client.run(&ddl::drop_staging(&load.names, staging.rsplit('.').next().unwrap_or(&staging))).await
        {
            tracing::info!(%error, "a staging table was left for the next publication to clear");
        }
        client.close().await;
        match result {
            // Nothing was ever set up: there is no stage to compare from, and no table.
            Err(error) if error.as_snowflake().is_some_and(SnowflakeError::is_missing_object) => {
                let missing = changes.num_changes();
                Ok(CheckedTable { model_rows: missing, missing, ..empty(publication) })
            }
            result => result,
        }
    }
}

async fn compare(
    client: &mut Client<'_>,
    changes: &ChangeSet,
    load: &Load,
    staging: &str,
    owner: &str,
) -> Result<CheckedTable> {
    let publication = changes.publication();
    let directory = load.names.directory(0, "check", owner);
    let mut stager = Stager::new(client, publication, load, directory.clone());
    changes.visit(&mut stager).await?;
    let manifest: Manifest = stager.finish().await?;
    stage_rows(client, load, &directory, &manifest, staging).await?;
    let mut checked = CheckedTable { model_rows: manifest.num_rows, ..empty(publication) };
    let answer = client
        .run(&Statement::idempotent("check", format!("SELECT COUNT(*)::VARCHAR FROM {}", load.names.table)))
        .await;
    checked.target_rows = match answer {
        Ok(answer) => number(answer.cell(0, 0))?,
        // No table holds no row.
        Err(fault) if fault.is_missing_object() => {
            checked.missing = manifest.num_rows;
            return Ok(checked);
        }
        Err(fault) => return Err(fault.into()),
    };
    if load.key.is_empty() {
        checked.missing = checked.model_rows.saturating_sub(checked.target_rows);
        checked.extra = checked.target_rows.saturating_sub(checked.model_rows);
        return Ok(checked);
    }
    let [missing, extra, different] = sql::differences(load, staging);
    for (query, count, what) in [
        (missing, &mut checked.missing, "missing in the target"),
        (extra, &mut checked.extra, "not in the model"),
        (different, &mut checked.different, "different in the target"),
    ] {
        let answer = client.run(&query.count).await?;
        *count = number(answer.cell(0, 0))?;
        if *count > 0 {
            let keys = client.run(&query.examples).await?;
            let lines = keys
                .rows
                .iter()
                .map(|row| row.iter().map(|cell| cell.as_deref().unwrap_or("null")).collect::<Vec<_>>().join(", "));
            checked.examples.extend(lines.map(|key| format!("{what}: {key}")));
        }
    }
    Ok(checked)
}

fn empty(publication: &Publication) -> CheckedTable {
    CheckedTable {
        model: publication.model_name.clone(),
        target: publication.target.clone(),
        sink: "snowflake",
        model_rows: 0,
        target_rows: 0,
        missing: 0,
        extra: 0,
        different: 0,
        examples: Vec::new(),
    }
}

fn number(cell: Option<&str>) -> Result<u64, SnowflakeError> {
    cell.and_then(|text| text.parse().ok())
        .ok_or_else(|| SnowflakeError::Answer { step: "check", detail: "a count is missing".to_owned() })
}
