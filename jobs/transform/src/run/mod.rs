//! Builds what is stale: models, seeds, tests, in the order of the graph.
//!
//! Each model is planned when its inputs are done, computed, and committed at once with the versions of the inputs that it
//! was computed from. A run that is killed has built some models and not others, each of them old or new, never half; the
//! next run goes on from there.

mod append;
mod ask;
mod audit;
mod batches;
mod build;
mod check;
mod columns;
mod compile;
mod contract;
mod cut;
mod dependents;
mod described;
mod error;
mod execute;
mod history;
mod hooks;
mod inline;
mod keyed;
mod label;
mod lineage;
mod look;
mod neighbours;
mod prepared;
mod query;
mod refine;
mod report;
pub(crate) mod rows;
mod runner;
mod schedule;
pub(crate) mod seed;
pub(crate) mod session;
mod snapshots;
#[cfg(test)]
mod tests;
mod windowed;
pub(crate) mod writer;

pub(crate) use audit::AuditFailure;
pub use build::{BuildOptions, Kinds};
pub(crate) use compile::Compiler;
pub use dependents::Dependent;
pub use error::BuildError;
pub(crate) use error::{BuildFault, Result};
pub use lineage::{ColumnLineage, Derivation, Lineage};
pub use look::{Compiled, Listed};
pub use query::{QueryError, query};
pub(crate) use report::chain;
pub use report::{NodeReport, Observer, Outcome, Report, Silent, TestFacts};
pub(crate) use rows::hex;
pub use runner::Runner;
pub use seed::SeedPlan;
pub(crate) use session::Sessions;
pub(crate) use snapshots::Snapshots;
