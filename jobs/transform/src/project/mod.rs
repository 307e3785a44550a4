//! Reads a dbt project: `dbt_project.yml`, properties, models, seeds, tests, macros.
//!
//! Every reader collects all of its faults, each with file, line and column, before it gives up; a [`Project`] that exists
//! is valid.

mod batch;
mod config;
mod configure;
mod files;
mod fixtures;
mod load;
mod model;
mod naming;
mod properties;
mod publish;
mod settings;
mod unit_tests;
mod yaml;

pub use batch::{BatchSize, BatchWindow};
pub use config::{
    BatchContext, ContextSpan, Emit, Materialized, ModelConfig, PublishEntry, PublishStrategy, Severity, SinkKind,
    Span, Storage, Strategy, TestConfig, WatermarkRule,
};
pub(crate) use configure::parse_instant;
pub use fixtures::{Fixture, FixtureRow};
pub use load::{LoadOptions, load_project};
pub use model::{
    Column, EnvVars, GenericTest, MacroFile, Model, NodeId, Project, RefCall, Seed, SingularTest, SourceTable, Target,
    Uses,
};
pub use unit_tests::{Given, Overrides, UnitTest};

#[cfg(test)]
pub(crate) mod tests;
