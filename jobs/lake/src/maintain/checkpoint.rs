//! Checkpoints: what keeps opening a table cheap.

use std::sync::atomic::Ordering;

use deltalake::DeltaTable;
use deltalake::checkpoints::create_checkpoint;

use crate::error::Cause;
use crate::{Result, Table, replay};

/// Makes a checkpoint at the table's version when one is due; says whether it did.
///
/// Meant to be called after each commit: most calls compare two numbers. Writers of one table agree without talking, because
/// each makes the checkpoint of the versions that are multiples of the interval; one that was missed is made up for when the
/// newest is one and a half intervals behind.
///
/// # Errors
/// The store's faults. The table is as good as before; the next call tries again.
pub async fn maybe_checkpoint(table: &Table) -> Result<bool> {
    if !is_due(table).await? {
        return Ok(false);
    }
    create(table).await?;
    Ok(true)
}

pub(super) async fn is_due(table: &Table) -> Result<bool> {
    let (version, interval) = (table.state.version, table.lake.maintenance().checkpoint_interval.max(1));
    let behind = version.saturating_sub(table.state.checkpoint.load(Ordering::Relaxed));
    if version == 0 || behind == 0 {
        return Ok(false);
    }
    if version.is_multiple_of(interval) {
        return Ok(true);
    }
    if behind < interval + interval / 2 {
        return Ok(false);
    }
    // Another writer may have made one that we have not heard of.
    let newest = replay::hinted_version(&table.store).await?.unwrap_or(0);
    table.state.checkpoint.fetch_max(newest, Ordering::Relaxed);
    Ok(version.saturating_sub(newest) >= interval + interval / 2)
}

/// Makes a checkpoint at the table's version; one that is there already is fine.
pub(super) async fn create(table: &Table) -> Result<()> {
    let (log_store, version) = (table.store.log_store(), table.state.version);
    let runtime = tokio::runtime::Handle::current();
    // delta-rs encodes the checkpoint on the thread that asks for it, so it gets one that may block.
    let work = move || {
        runtime.block_on(async move {
            let mut delta = DeltaTable::new(log_store);
            delta.load_version(version).await?;
            create_checkpoint(&delta, None).await
        })
    };
    let fault = |source| Cause::Delta { act: "make a checkpoint", table: table.store.id.clone(), source };
    let made = tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| Cause::Worker { table: table.store.id.clone(), source })?;
    made.map_err(fault)?;
    table.state.checkpoint.fetch_max(version, Ordering::Relaxed);
    tracing::debug!(table = %table.store.id, version, "checkpoint made");
    Ok(())
}
