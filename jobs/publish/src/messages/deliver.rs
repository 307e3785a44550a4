//! One pass over the changes of a publication: messages go to the sink, rows into the table of sent rows.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Encoder, Message};
use crate::diff::{ChangeBatch, ChangeConsumer, ChangeKind};
use crate::edits::Edits;
use crate::{Error, Publication, Result};

/// Takes messages to where they are read. Nothing of them is visible, or binding, before the sink's own commit.
#[async_trait]
pub(crate) trait Transport: Send {
    /// Takes some messages, in order.
    async fn send(&mut self, messages: Vec<Message>) -> Result<()>;
}

/// Feeds a transport and the table of sent rows.
pub(crate) struct Delivery<'a, 'e> {
    pub(crate) publication: &'a Publication,
    pub(crate) encoder: Arc<Encoder>,
    pub(crate) edits: &'a mut Edits<'e>,
    pub(crate) transport: &'a mut dyn Transport,
    /// Messages handed to the transport.
    pub(crate) num_messages: u64,
}

#[async_trait]
impl ChangeConsumer for Delivery<'_, '_> {
    async fn consume(&mut self, batch: ChangeBatch) -> Result<()> {
        let is_end = batch.kind == ChangeKind::Delete;
        let is_told = match batch.kind {
            ChangeKind::Upsert => true,
            ChangeKind::Delete => self.encoder.tells_ends(),
            ChangeKind::MoveOut => false,
        };
        if is_told {
            let (encoder, rows, publication) =
                (Arc::clone(&self.encoder), batch.rows.clone(), self.publication.clone());
            let work = tokio::task::spawn_blocking(move || encoder.encode(&rows, is_end, &publication));
            let messages = work.await.map_err(Error::join("encode rows"))??;
            self.num_messages += messages.len() as u64;
            self.transport.send(messages).await?;
        }
        self.edits.consume(batch).await
    }
}
