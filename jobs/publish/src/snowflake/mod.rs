//! Snowflake (being laid).
mod error;
pub use error::SnowflakeError;
use crate::*;
use std::sync::Arc;
/// Temp.
#[derive(Debug)]
pub struct SnowflakeSink {}
impl SnowflakeSink { pub(crate) fn new(_s: tidemill_project::config::SnowflakeSettings, _l: tidemill_lake::Lake) -> Self { Self {} } }
fn no<T>() -> Result<T> { Err(SnowflakeError::Settings { detail: "not built yet".into() }.into()) }
#[async_trait::async_trait]
impl Sink for SnowflakeSink {
    fn name(&self) -> &'static str { "snowflake" }
    fn group_of(&self, p: &Publication) -> String { p.target.database.clone() }
    async fn position(&self, _: &Publication) -> Result<Option<Position>> { no() }
    async fn refresh_position(&self, _: &Publication) -> Result<Option<Position>> { no() }
    async fn rows(&self, _: &Publication) -> Result<Option<tidemill_lake::Table>> { no() }
    async fn apply(&self, _: &[ChangeSet], _: ApplyContext<'_>) -> Result<Vec<Applied>> { no() }
    async fn skip(&self, _: &ChangeSet, _: ApplyContext<'_>) -> Result<Position> { no() }
    async fn check(&self, _: &Publication, _: Arc<tidemill_lake::Table>) -> Result<CheckedTable> { no() }
}
