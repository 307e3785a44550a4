//! Tries out whether the account lets us in, for `tidemill doctor`.

use super::SnowflakeSink;
use super::client::{Client, Purpose};
use super::statement::Statement;
use crate::{Result, Silent};

impl SnowflakeSink {
    /// Logs in, with the role and warehouse of the settings, and asks the simplest question in a database. Nothing changes.
    ///
    /// # Errors
    /// What keeps the loader out: a refused login, a role or database that is not there for it, a server that does not answer.
    pub async fn probe(&self, database: &str) -> Result<()> {
        let purpose = Purpose { database, run_id: "doctor" };
        let mut client = Client::new(&self.settings, purpose, self.lake.clock().clone(), &Silent)?;
        let answer = client.run(&Statement::idempotent("probe", "SELECT 1")).await;
        client.close().await;
        answer?;
        Ok(())
    }
}
