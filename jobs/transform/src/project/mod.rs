//! Reads a dbt project: `dbt_project.yml`, properties, models, seeds, tests, macros.
//!
//! Every reader collects all of its faults, each with file, line and column, before it gives up; a [`Project`] that exists
//! is valid.

mod batch;
mod config;
mod configure;
mod extras;
mod files;
mod fixtures;
mod folders;
mod keyed;
mod load;
mod model;
mod naming;
mod properties;
mod publish;
mod selectors;
mod settings;
mod unit_tests;
mod yaml;

pub use batch::{BatchSize, BatchWindow};
pub use config::{
    BatchContext, ContextSpan, Emit, Materialized, ModelConfig, PublishEntry, PublishStrategy, Severity, SinkKind,
    Span, Storage, Strategy, TestConfig, WatermarkRule,
};
pub(crate) use configure::parse_instant;
pub use extras::{Age, Exposure, Extras, Freshness, Group, ModelExtras, Period, SourceExtras};
pub use fixtures::{Fixture, FixtureRow};
pub use folders::{BuildFolders, build_folders};
pub use keyed::{Keeping, KeyColumns, KeyedConfig, OnSqlChange};
pub use load::{LoadOptions, load_project};
pub use model::{
    Column, EnvVars, GenericTest, MacroFile, Model, NodeId, Project, RefCall, Seed, SingularTest, SourceTable, Target,
    Uses,
};
pub use unit_tests::{Given, Overrides, UnitTest};

pub use selectors::{SelectorDefinition, SelectorRule, SelectorTerm};

#[cfg(test)]
pub(crate) mod tests;
