//! Models: a dbt project, read by our own engine.
//!
//! Parse -> graph -> plan -> execute, with plain data between the phases:
//!
//! | phase | module | gives |
//! | --- | --- | --- |
//! | parse | [`project`] | [`project::Project`]: what the files say, checked |
//! | graph | [`graph`] | [`graph::Graph`]: who reads whom, selectors |
//! | render | [`render`] | SQL of one model for one batch |
//! | SQL | [`sql`] | plans; words of other dialects; where a fault stands |
//! | functions | [`udf`] | what SQL may call beyond DataFusion's own |
//! | plan | [`plan`] | [`plan::Plan`]: which parts of which models are stale, and why |
//! | execute | [`run`] | [`run::Report`]: what was built, one commit a model |
//! | test | [`test`] | data tests, run behind what they test |
//! | tell | [`artifacts`] | dbt's artifacts and the facts that later commands read out of them |

pub mod artifacts;
pub mod docs;
mod error;
pub mod graph;
pub mod lint;
pub mod plan;
pub mod project;
pub mod render;
pub mod run;
pub mod sql;
pub mod test;
pub mod udf;

pub use datafusion::prelude::SessionContext;
pub use error::{Error, Result};
pub use project::{LoadOptions, load_project};
pub use run::Runner;
