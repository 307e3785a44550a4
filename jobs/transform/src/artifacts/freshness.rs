//! Freshness of sources, and `sources.json`.

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use serde::Serialize;
use serde_json::{Value as Json, json};
use tidemill_project::SourceName;
use tidemill_project::clock::Micros;

use super::ids::Ids;
use super::{Invocation, instant};
use crate::graph::Selection;
use crate::plan::PlanOptions;
use crate::project::{Freshness, NodeId};
use crate::run::{BuildError, BuildFault, Runner};

/// dbt's verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FreshnessStatus {
    /// Young enough.
    Pass,
    /// Older than `warn_after`.
    Warn,
    /// Older than `error_after`, or without any row.
    Error,
    /// It could not be looked at.
    #[serde(rename = "runtime error")]
    RuntimeError,
}

/// How fresh one source table is.
#[derive(Clone, Debug, Serialize)]
pub struct FreshnessResult {
    /// The table.
    #[serde(skip)]
    pub source: SourceName,
    /// The verdict.
    pub status: FreshnessStatus,
    /// The newest row's instant, microseconds UTC; `None` when there is no row.
    pub max_loaded_at_us: Option<Micros>,
    /// When it was looked at, microseconds UTC.
    pub snapshotted_at_us: Micros,
    /// What was asked for.
    pub criteria: Freshness,
    /// Why it could not be looked at.
    pub message: Option<String>,
    /// Milliseconds that it took.
    pub elapsed_ms: u64,
}

impl FreshnessResult {
    /// Age of the newest row in seconds; without a row, of the Unix epoch.
    #[must_use]
    pub fn age_seconds(&self) -> i64 {
        (self.snapshotted_at_us - self.max_loaded_at_us.unwrap_or(0)).max(0) / 1_000_000
    }
}

impl Runner {
    /// Looks at the newest row of each selected source that declares `freshness`. The instant is `loaded_at_query`'s, else the
    /// greatest `loaded_at_field`; a source that ingest lands has `_ingested_at` when it names neither.
    ///
    /// # Errors
    /// The selection, the lake's store. A source that cannot be read has a result that says so.
    pub async fn source_freshness(
        &self,
        selection: &Selection,
        options: &PlanOptions,
    ) -> Result<Vec<FreshnessResult>, BuildError> {
        let executor = self.executor(options, "source-freshness").await?;
        let render = Self::looking(&executor);
        let now_us = executor.planner.as_of_us;
        let mut results = Vec::new();
        for node in self.graph().select(selection)? {
            let NodeId::Source(name) = &node else { continue };
            let Some(source) = self.project().sources.get(name) else { continue };
            let extras = self.project().extras.sources.get(name).cloned().unwrap_or_default();
            let Some(criteria) = extras.freshness else { continue };
            let field =
                source.loaded_at_field.clone().or_else(|| source.has_contract.then(|| "_ingested_at".to_owned()));
            if extras.loaded_at_query.is_none() && field.is_none() {
                continue;
            }
            let watch = self.lake.clock().stopwatch();
            let newest = async {
                let context = executor.sessions.over([node.clone()], &render, None).await?;
                let relation =
                    self.compiler.relation(&node).ok_or_else(|| BuildFault::UnknownNode { node: node.clone() })?;
                let inner = match (&extras.loaded_at_query, &field) {
                    (Some(query), _) => format!("select ({query}) as newest"),
                    (None, field) => {
                        let filter =
                            criteria.filter.as_ref().map(|filter| format!(" where {filter}")).unwrap_or_default();
                        let field = field.as_deref().unwrap_or_default();
                        format!("select max({field}) as newest from {}{filter}", relation.sql)
                    }
                };
                let sql = format!(
                    "select arrow_cast(newest, 'Timestamp(Microsecond, Some(\"UTC\"))') as newest from ({inner}) as looked_at"
                );
                let location = Some(source.location.clone());
                let frame = context.sql(&sql).await.map_err(BuildFault::plan(&node, location.clone()))?;
                let rows = frame.collect().await.map_err(BuildFault::execute(&node, location))?;
                let newest = rows.iter().find(|rows| rows.num_rows() > 0).and_then(|rows| {
                    let column = rows.column(0).as_primitive_opt::<TimestampMicrosecondType>()?;
                    column.is_valid(0).then(|| column.value(0))
                });
                Ok::<_, BuildFault>(newest)
            };
            let (newest, message) = match Box::pin(newest).await {
                Ok(newest) => (newest, None),
                Err(fault) => (None, Some(crate::run::chain(&BuildError::from(fault)))),
            };
            let mut result = FreshnessResult {
                source: name.clone(),
                status: FreshnessStatus::RuntimeError,
                max_loaded_at_us: newest,
                snapshotted_at_us: now_us,
                criteria,
                message,
                elapsed_ms: u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX),
            };
            if result.message.is_none() {
                result.status = verdict(&result.criteria, result.age_seconds());
            }
            results.push(result);
        }
        Ok(results)
    }

    /// `sources.json`.
    #[must_use]
    pub fn sources_artifact(&self, results: &[FreshnessResult], invocation: &Invocation, elapsed_ms: u64) -> Json {
        let ids = Ids::of(self.graph());
        let told: Vec<Json> = results
            .iter()
            .map(|result| {
                let id = ids.get(&NodeId::Source(result.source.clone()));
                if let Some(message) = &result.message {
                    return json!({"unique_id": id, "error": message, "status": "runtime error"});
                }
                let began_us = invocation.started_at_us;
                json!({
                    "unique_id": id,
                    "max_loaded_at": instant(result.max_loaded_at_us.unwrap_or(0)),
                    "snapshotted_at": instant(result.snapshotted_at_us),
                    "max_loaded_at_time_ago_in_s": result.age_seconds(),
                    "status": result.status,
                    "criteria": result.criteria,
                    "adapter_response": {},
                    "timing": [{
                        "name": "execute",
                        "started_at": instant(began_us),
                        "completed_at": instant(began_us.saturating_add_unsigned(result.elapsed_ms.saturating_mul(1000))),
                    }],
                    "thread_id": "tidemill",
                    "execution_time": super::results::seconds(result.elapsed_ms),
                })
            })
            .collect();
        json!({
            "metadata": invocation.metadata("sources/v3"),
            "results": told,
            "elapsed_time": super::results::seconds(elapsed_ms),
        })
    }
}

fn verdict(criteria: &Freshness, age_seconds: i64) -> FreshnessStatus {
    let over = |age: Option<crate::project::Age>| {
        age.is_some_and(|age| u64::try_from(age_seconds).is_ok_and(|seconds| seconds > age.seconds()))
    };
    if over(criteria.error_after) {
        FreshnessStatus::Error
    } else if over(criteria.warn_after) {
        FreshnessStatus::Warn
    } else {
        FreshnessStatus::Pass
    }
}
