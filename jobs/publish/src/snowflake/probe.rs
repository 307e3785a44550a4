//! Tries out whether the account lets us in and what its clock says, for `tidemill doctor`.

use tidemill_project::clock::ClockReading;

use super::client::{Client, Purpose};
use super::statement::Statement;
use super::{SnowflakeError, SnowflakeSink};
use crate::{Result, Silent};

/// The service's clock in milliseconds since the epoch, whatever zone the session has.
const CLOCK: &str = "SELECT CAST(DATE_PART(EPOCH_MILLISECOND, SYSDATE()) AS VARCHAR)";

impl SnowflakeSink {
    /// Logs in, with the role and warehouse of the settings, and asks in a database for the service's clock. Nothing changes.
    /// `None`: it answers, but with no time.
    ///
    /// # Errors
    /// What keeps the loader out: a refused login, a role or database that is not there for it, a server that does not answer.
    pub async fn probe(&self, database: &str) -> Result<Option<ClockReading>> {
        let purpose = Purpose { database, run_id: "doctor" };
        let clock = self.lake.clock();
        let mut client = Client::new(&self.settings, purpose, clock.clone(), &Silent)?;
        let reading = async {
            // The login happens with the first statement, and its seconds would make the reading worse.
            client.run(&Statement::idempotent("probe", "SELECT 1")).await?;
            let asked_us = clock.now_us();
            let answer = client.run(&Statement::idempotent("clock", CLOCK)).await?;
            let said_ms: Option<i64> = answer.cell(0, 0).and_then(|text| text.parse().ok());
            let read = |said_ms: i64| ClockReading {
                asked_us,
                said_us: said_ms.saturating_mul(1000),
                answered_us: clock.now_us(),
            };
            Ok::<_, SnowflakeError>(said_ms.map(read))
        };
        let reading = reading.await;
        client.close().await;
        Ok(reading?)
    }
}
