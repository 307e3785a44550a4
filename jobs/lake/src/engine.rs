//! DataFusion sessions over tables.

use std::num::NonZeroUsize;
use std::sync::Arc;

use datafusion::common::config::Dialect;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use tidemill_project::config::TransformSettings;

/// Consumers that an "out of memory" names.
const NAMED_CONSUMERS: NonZeroUsize = NonZeroUsize::new(5).expect("five is not zero");

/// Where SQL runs. Local for now: embedded DataFusion with one memory budget for all sessions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    runtime: Arc<RuntimeEnv>,
    config: SessionConfig,
}

impl Engine {
    /// Builds the engine. Its sessions share `memory_budget_bytes`: operators that can spill do so into temporary files when
    /// their fair share is used up, others fail.
    ///
    /// # Panics
    /// Never: nothing is created before something spills.
    #[must_use]
    pub fn local(settings: &TransformSettings) -> Self {
        let pool = TrackConsumersPool::new(FairSpillPool::new(settings.memory_budget_bytes), NAMED_CONSUMERS);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .build_arc()
            .expect("temporary files are created when something spills, so that nothing can fail here");
        Self { runtime, config: session_config() }
    }

    /// A fresh session: UTC, identifiers as PostgreSQL has them, object stores known, budget shared, spill to temporary files.
    ///
    /// Stores need no registration: a table's provider brings its own.
    #[must_use]
    pub fn session(&self) -> SessionContext {
        SessionContext::new_with_config_rt(self.config.clone(), Arc::clone(&self.runtime))
    }

    /// Bytes that all sessions hold now.
    #[must_use]
    pub fn reserved_bytes(&self) -> usize {
        self.runtime.memory_pool.reserved()
    }
}

pub(crate) fn session_config() -> SessionConfig {
    let mut config = SessionConfig::new().with_information_schema(true);
    let options = config.options_mut();
    options.execution.time_zone = Some("UTC".to_owned());
    options.sql_parser.dialect = Dialect::PostgreSQL;
    // Text is `Utf8` everywhere: one representation from the decoder to the sinks.
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
    // Filters run while columns are decoded; late columns of rows that do not pass are never decoded.
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    config
}
