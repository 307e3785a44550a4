//! Teaches a decoder the schemas that its records name.

use tidemill_project::config::Settings;
use tidemill_project::contract::Contract;
use tidemill_project::{Diagnostic, SourceName};
use tracing::{debug, warn};

use super::Registry;
use crate::Result;
use crate::decode::{Decoder, RegisteredSchema, SchemaId};
use crate::error::Cause;
use crate::retry::{Retry, Tries};

/// Where the writers' schemas of one source come from.
#[derive(Clone, Debug)]
pub(crate) struct Schemas {
    name: SourceName,
    registry: Registry,
    retry: Retry,
}

impl Schemas {
    /// The schemas of a contract; `None` when its records name none.
    pub(crate) fn new(settings: &Settings, contract: &Contract, retry: Retry) -> Result<Option<Self>> {
        if !contract.format.needs_registry() {
            return Ok(None);
        }
        let name = contract.name.clone();
        let Some(registry) = &settings.registry else { return Err(Cause::NoRegistry { source_name: name }.into()) };
        let registry =
            Registry::new(registry).map_err(|source| Cause::Registry { source_name: name.clone(), source })?;
        Ok(Some(Self::of(name, registry, retry)))
    }

    /// The schemas of a registry.
    pub(crate) fn of(name: SourceName, registry: Registry, retry: Retry) -> Self {
        Self { name, registry, retry }
    }

    /// Teaches `decoder` the schemas of all of `values`, before any of them is decoded: a registry that is down quarantines
    /// nothing and cuts no batch.
    pub(crate) async fn teach<'v>(&self, decoder: &mut Decoder, values: impl Iterator<Item = &'v [u8]>) -> Result<()> {
        for value in values {
            if let Some(id) = decoder.wanted_schema(value) {
                let schema = self.ask(id).await?;
                debug!(source = %self.name, %id, is_known = schema.is_some(), "schema learnt");
                decoder.learn(id, schema.as_deref());
            }
        }
        Ok(())
    }

    /// Asks the registry, again and again while it may pass.
    async fn ask(&self, id: SchemaId) -> Result<Option<std::sync::Arc<RegisteredSchema>>> {
        let mut tries = Tries::default();
        loop {
            let source = match self.registry.schema(id).await {
                Ok(schema) => return Ok(schema),
                Err(source) => source,
            };
            if !source.kind().is_retryable() || !self.retry.may_try_again(&mut tries) {
                return Err(Cause::Registry { source_name: self.name.clone(), source }.into());
            }
            let error = &source as &dyn std::error::Error;
            warn!(source = %self.name, error, %id, tries = tries.count(), "schema registry does not answer, trying again");
            self.retry.pause(&tries).await;
        }
    }
}
