//! A plan as a file: made by `build --dry-run --format json`, looked at, run by `build --plan`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tidemill_project::SourceName;
use tidemill_project::clock::Micros;

use super::{ModelPlan, Plan, PlanOptions, TimeRange};
use crate::graph::Selection;
use crate::run::{BuildError, BuildFault};

/// The form of plan files; another one is refused.
pub const PLAN_FORMAT: u32 = 1;

/// What a plan was made for, so that running it asks for the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFor {
    /// Selectors, as they were given.
    pub select: Vec<String>,
    /// See `select`.
    pub exclude: Vec<String>,
    /// `--full-refresh`.
    pub full_refresh: bool,
    /// `--event-time-start` and `--event-time-end`.
    pub event_time: Option<TimeRange>,
    /// Batches by model, of a retry.
    pub batches: BTreeMap<String, Vec<String>>,
    /// W by source.
    pub watermarks: BTreeMap<String, Micros>,
}

#[derive(Debug, Deserialize)]
struct Parsed {
    format: u32,
    as_of_us: Micros,
    planned_for: PlannedFor,
    models: Vec<Json>,
}

/// A plan that was read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanFile {
    as_of_us: Micros,
    planned_for: PlannedFor,
    models: BTreeMap<String, Json>,
}

impl PlanFile {
    /// Reads a plan. `path` is where it came from, for the fault.
    ///
    /// # Errors
    /// Code TM0374 for text that is no plan of this version.
    pub fn parse(path: &str, text: &str) -> Result<Self, BuildError> {
        let fault = |because: String| BuildError::from(BuildFault::PlanFile { path: path.to_owned(), because });
        let parsed: Parsed = serde_json::from_str(text).map_err(|error| fault(error.to_string()))?;
        if parsed.format != PLAN_FORMAT {
            return Err(fault(format!("its format is {} and not {PLAN_FORMAT}", parsed.format)));
        }
        let mut models = BTreeMap::new();
        for plan in parsed.models {
            let Some(name) = plan.get("model").and_then(Json::as_str).map(str::to_owned) else {
                return Err(fault("a model has no name".to_owned()));
            };
            models.insert(name, plan);
        }
        Ok(Self { as_of_us: parsed.as_of_us, planned_for: parsed.planned_for, models })
    }

    /// What the plan was made for.
    #[must_use]
    pub fn selection(&self) -> Selection {
        Selection {
            select: self.planned_for.select.clone(),
            exclude: self.planned_for.exclude.clone(),
            ..Selection::default()
        }
    }

    /// Options with which a build does exactly what the plan says: of each model whose plan does not wait for another, or
    /// nothing. A model that waits is planned when its turn comes, as the plan says it will be.
    #[must_use]
    pub fn options(self) -> PlanOptions {
        let source = |name: &str| name.split_once('.').map(|(source, table)| SourceName::new(source, table));
        let watermarks = self.planned_for.watermarks.iter();
        PlanOptions {
            full_refresh: self.planned_for.full_refresh,
            as_of_us: Some(self.as_of_us),
            event_time: self.planned_for.event_time,
            watermarks: Some(watermarks.filter_map(|(name, at_us)| Some((source(name)?, *at_us))).collect()),
            batches: self.planned_for.batches.clone(),
            exactly: Some(std::sync::Arc::new(self)),
        }
    }

    /// Whether `now` is what the plan says.
    pub(crate) fn allows(&self, now: &ModelPlan) -> bool {
        let Some(planned) = self.models.get(&now.model) else { return false };
        let waits = planned.get("after").and_then(Json::as_array).is_some_and(|after| !after.is_empty());
        waits || serde_json::to_value(now).is_ok_and(|now| now == *planned)
    }
}

impl Plan {
    pub(crate) fn new(
        models: Vec<ModelPlan>,
        as_of_us: Micros,
        selection: &Selection,
        options: &PlanOptions,
        watermarks: &BTreeMap<SourceName, Micros>,
    ) -> Self {
        let planned_for = PlannedFor {
            select: selection.select.clone(),
            exclude: selection.exclude.clone(),
            full_refresh: options.full_refresh,
            event_time: options.event_time,
            batches: options.batches.clone(),
            watermarks: watermarks.iter().map(|(name, at_us)| (name.to_string(), *at_us)).collect(),
        };
        Self { format: PLAN_FORMAT, as_of_us, planned_for, models }
    }
}
