//! Reads a dbt project: `dbt_project.yml`, properties, models, seeds, tests, macros.
//!
//! Every reader collects all of its faults, each with file, line and column, before it gives up; a [`Project`] that exists
//! is valid.

mod batch;
mod config;
mod configure;
mod docs;
mod extras;
mod files;
mod fixtures;
mod folders;
mod keyed;
mod load;
mod model;
mod naming;
mod packages;
mod properties;
mod publish;
mod resolve;
mod scenarios;
mod selectors;
mod settings;
mod snapshots;
mod unit_tests;
mod yaml;

pub use batch::{BatchSize, BatchWindow};
pub use config::{
    BatchContext, ContextSpan, Emit, HardDeletes, Materialized, ModelConfig, OnSchemaChange, PublishEntry,
    PublishStrategy, Severity, SinkKind, SnapshotConfig, SnapshotStrategy, Span, Storage, Strategy, TestConfig,
    WatermarkRule,
};
pub(crate) use configure::parse_instant;
pub use extras::{Age, Exposure, Extras, Freshness, Group, ModelExtras, Period, SourceExtras};
pub use fixtures::{Fixture, FixtureRow};
pub use folders::{BuildFolders, build_folders};
pub use keyed::{Keeping, KeyColumns, KeyedConfig, OnSqlChange};
pub use load::{LoadOptions, load_project};
pub use model::{
    Column, Constraint, EnvVars, GenericTest, MacroFile, Model, NodeId, Project, RefCall, Seed, SingularTest,
    SourceTable, Target, Uses,
};
pub use scenarios::{Expected, Kill, Rewrite, ScenarioTest, SentRecord, Step};
pub use unit_tests::{Given, Overrides, UnitTest};

pub use selectors::{SelectorDefinition, SelectorRule, SelectorTerm};
pub(crate) use yaml::yaml_to_json;

#[cfg(test)]
pub(crate) mod tests;
