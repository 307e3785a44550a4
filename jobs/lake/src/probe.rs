//! Tries out whether a store can carry tables.

use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions};

use crate::error::Cause;
use crate::{Lake, Result};

/// What a store was seen to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whether a second writer of one name is refused, on which every commit depends.
    pub refuses_second_writer: bool,
    /// The store's clock less ours, microseconds; the time of one request is part of it.
    pub clock_skew_us: i64,
}

impl Lake {
    /// Writes an object, tries to write it again, reads the store's clock from it and removes it.
    ///
    /// # Errors
    /// The store refuses one of the four, or does not answer.
    pub async fn probe(&self) -> Result<Probe> {
        let store = self.store();
        let path = Path::from(format!("{}/_tidemill_probe_{}", store.base(), self.clock().new_id()));
        let failed = |source| Cause::Store { url: store.url().to_string(), source };
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.root().put_opts(&path, "first".into(), create()).await.map_err(failed)?;
        let second = store.root().put_opts(&path, "second".into(), create()).await;
        let head = store.root().head(&path).await.map_err(failed)?;
        store.root().delete(&path).await.map_err(failed)?;
        let refused =
            matches!(second, Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }));
        let clock_skew_us = head.last_modified.timestamp_micros() - self.clock().now_us();
        Ok(Probe { refuses_second_writer: refused, clock_skew_us })
    }
}
