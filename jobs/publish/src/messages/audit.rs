//! What readers of a sink of messages should have: the model by its rule of sending, and the rows as they were sent.

use std::sync::Arc;

use futures::TryStreamExt;
use tidemill_lake::Table;
use xxhash_rust::xxh3::xxh3_128;

use super::Encoder;
use crate::diff::{HashedMap, MAX_KEYS_IN_MEMORY, PlanRequest, Shape, model_watermark, plan};
use crate::sink::Position;
use crate::{CheckedTable, Error, Publication, Result};

/// Keys that are named; more would not help a person.
const MAX_EXAMPLES: usize = 10;

/// The first half of a check; the sink compares the second.
#[derive(Debug)]
pub(crate) struct Audit {
    /// Differences between model and sent rows; the sink adds its own.
    pub(crate) checked: CheckedTable,
    /// Key -> value and key in plain text, of the sent rows; keys and values as hashes. Of rows with one key the last.
    pub(crate) expected: HashedMap<(u128, String)>,
    rows: Vec<(u128, (u128, String))>,
    /// Whether a key names one row.
    pub(crate) tells_ends: bool,
}

impl Audit {
    /// Compares `model` with the rows that were sent, and lists the messages that these are.
    pub(crate) async fn run(
        publication: &Publication,
        model: Arc<Table>,
        position: Option<Position>,
        sent: Option<Arc<Table>>,
        sink: &'static str,
    ) -> Result<Self> {
        let shape = Shape::resolve(publication, &model)?;
        let encoder = Encoder::new(publication, &shape)?;
        let watermark_us = model_watermark(&model, publication).await?;
        let known_us = position.as_ref().and_then(|position| position.watermark_us);
        let request = PlanRequest {
            publication: publication.clone(),
            model,
            base: position,
            target: sent.clone(),
            watermark_us: watermark_us.max(known_us),
            full: true,
            resend: false,
            max_keys: MAX_KEYS_IN_MEMORY,
            names_rows: false,
        };
        let counts = plan(request).await?.counts();
        let mut audit = Self {
            checked: CheckedTable {
                model: publication.model_name.clone(),
                target: publication.target.clone(),
                sink,
                model_rows: 0,
                target_rows: 0,
                missing: counts.inserted,
                extra: counts.deleted,
                different: counts.updated,
                examples: Vec::new(),
            },
            expected: HashedMap::default(),
            rows: Vec::new(),
            tells_ends: encoder.tells_ends(),
        };
        let mut num_sent = 0;
        if let Some(sent) = sent {
            let mut batches = sent.read_files(sent.files(), Some(shape.target_columns()));
            while let Some(batch) = batches.try_next().await.map_err(Error::lake("read the sent rows", publication))? {
                for message in encoder.encode(&batch, false, publication)? {
                    num_sent += 1;
                    let value = Self::hash(message.value.as_deref().unwrap_or_default());
                    let key = Self::hash(message.key.as_bytes());
                    if audit.tells_ends {
                        audit.expected.insert(key, (value, message.key));
                    } else {
                        audit.rows.push((key, (value, message.key)));
                    }
                }
            }
        }
        audit.checked.model_rows = (num_sent + counts.inserted).saturating_sub(counts.deleted);
        Ok(audit)
    }

    /// The sent rows of a publication whose keys name several.
    pub(crate) fn expected_rows(&mut self) -> Vec<(u128, (u128, String))> {
        std::mem::take(&mut self.rows)
    }

    /// Readers lack a row that was sent.
    pub(crate) fn misses(&mut self, key: &str) {
        self.checked.missing += 1;
        self.example("sent, and not there", key);
    }

    /// Readers have another value than was sent.
    pub(crate) fn differs(&mut self, key: &str) {
        self.checked.different += 1;
        self.example("another value than was sent", key);
    }

    fn example(&mut self, what: &str, key: &str) {
        if self.checked.examples.len() < MAX_EXAMPLES {
            self.checked.examples.push(format!("{what}: {key}"));
        }
    }

    pub(crate) fn hash(bytes: &[u8]) -> u128 {
        xxh3_128(bytes)
    }

    pub(crate) fn mix(key: u128, value: u128) -> u128 {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&key.to_le_bytes());
        bytes[16..].copy_from_slice(&value.to_le_bytes());
        xxh3_128(&bytes)
    }
}
