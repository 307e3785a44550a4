//! Reads files: archives, exports, what Kafka no longer has.
//!
//! A file is what it holds: its identity is the XXH3 hash of its bytes, so a copy under another name adds nothing and a file
//! that grew is another file, whose known rows are copies. Progress is a `txn` of the raw table, `file/<source>/<hash>` =
//! next record, moved in the commit that lands the rows, so a killed run resumes inside the file. Every record is a JSON
//! object for the decoder, whatever the file's format; the Kafka columns of its row are null and it is never late (X11, X19).
//!
//! Where a contract's last resort for a key is a record's coordinates, those of a record of a file are all records from the
//! file's beginning up to it, hashed. So a copy, a file that grew and one that was packed anew add nothing but what is new,
//! whatever they are called, and another file's rows are its own. Two files that begin with the same records share these.

mod formats;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tidemill_lake::{Lake, TableId};
use tidemill_project::SourceName;
use tidemill_project::clock::{Clock, Micros};
use tidemill_project::contract::{Contract, KeyRule};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use xxhash_rust::xxh3::Xxh3;

use super::chunk::{Chunk, HeadersRef};
use crate::batch::{Batch, Limits, Origin, OriginKey, Refused};
use crate::books::file_app_id;
use crate::commit::{Committer, Verdict};
use crate::decode::{Decoder, Record};
use crate::error::Cause;
use crate::{Error, Result};
use formats::Records;

/// Records that a batch makes room for at first.
const CAPACITY: usize = 4_096;

/// Brings what a file holds beyond the lake's progress into the lake.
pub(crate) async fn ingest_file(
    committer: &mut Committer,
    contract: &Contract,
    path: &Path,
    limits: Limits,
    cancel: &CancellationToken,
) -> Result<()> {
    let content = {
        let path = path.to_owned();
        blocking(contract, move || hash(&path)).await?
    };
    while !cancel.is_cancelled() {
        committer.refresh().await?;
        let base = committer.table().txn_version(&file_app_id(&contract.name, &content));
        if !read_from(committer, contract, path, &content, base, limits, cancel).await? {
            return Ok(());
        }
        warn!(source = %contract.name, path = %path.display(), "another process reads this file, going on behind it");
    }
    Ok(())
}

/// What the lake has of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilePreview {
    /// Path as given.
    pub path: String,
    /// Hash of the content, which is the file's identity.
    pub content: String,
    /// Records that are in the lake already; `None` for a file that it has never seen.
    pub records: Option<u64>,
}

/// Says what a run over files would find in the lake, and changes nothing. Reads the files whole, for their hashes.
///
/// # Errors
/// When a file or the lake cannot be read.
pub async fn preview_files(lake: &Lake, contract: &Contract, files: Vec<PathBuf>) -> Result<Vec<FilePreview>> {
    let lake_error = |source| Cause::Lake { act: "open the raw table", source_name: contract.name.clone(), source };
    let table = lake.open(&TableId::Raw(contract.name.clone())).await.map_err(lake_error)?;
    let mut previews = Vec::with_capacity(files.len());
    for path in files {
        let shown = path.display().to_string();
        let content = blocking(contract, move || hash(&path)).await?;
        let next = table.as_ref().and_then(|table| table.txn_version(&file_app_id(&contract.name, &content)));
        previews.push(FilePreview { path: shown, content, records: next.and_then(|next| u64::try_from(next).ok()) });
    }
    Ok(previews)
}

/// Reads a file from record `base` on. Returns whether another process took it over.
async fn read_from(
    committer: &mut Committer,
    contract: &Contract,
    path: &Path,
    content: &str,
    base: Option<i64>,
    limits: Limits,
    cancel: &CancellationToken,
) -> Result<bool> {
    let (sender, mut batches) = mpsc::channel(1);
    let reader = FileReader {
        contract: contract.clone(),
        path: path.to_owned(),
        content: content.to_owned(),
        base,
        limits,
        clock_us: committer.clock_us(),
        clock: committer.clock().clone(),
        cancel: cancel.clone(),
    };
    let reading = tokio::task::spawn_blocking(move || reader.run(&sender));
    let mut is_taken_over = false;
    let mut num_records = 0;
    while let Some(batch) = batches.recv().await {
        num_records += batch.origin_of.len();
        let done = Box::pin(committer.commit(batch)).await?;
        if done.verdicts.iter().any(|verdict| *verdict != Verdict::Landed) {
            is_taken_over = true;
            break;
        }
    }
    drop(batches);
    let stage_gone = |_| Cause::StageGone { source_name: contract.name.clone(), stage: "files" };
    reading.await.map_err(stage_gone)??;
    if !is_taken_over {
        info!(source = %contract.name, path = %path.display(), num_records, "file read");
    }
    Ok(is_taken_over)
}

/// XXH3-128 of the file's bytes, 32 hex digits.
fn hash(path: &Path) -> Result<String> {
    let read_error = |source| Error::from(Cause::ReadFile { path: path.to_owned(), source });
    let mut file = std::fs::File::open(path).map_err(read_error)?;
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let len = std::io::Read::read(&mut file, &mut buffer).map_err(read_error)?;
        if len == 0 {
            return Ok(format!("{:032x}", hasher.digest128()));
        }
        hasher.update(&buffer[..len]);
    }
}

async fn blocking<T: Send + 'static>(
    contract: &Contract,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let gone = |_| Cause::StageGone { source_name: contract.name.clone(), stage: "files" };
    tokio::task::spawn_blocking(work).await.map_err(gone)?
}

/// Reads and decodes one file on a blocking thread.
struct FileReader {
    contract: Contract,
    path: std::path::PathBuf,
    content: String,
    base: Option<i64>,
    limits: Limits,
    clock_us: Micros,
    clock: Clock,
    cancel: CancellationToken,
}

impl FileReader {
    fn run(self, batches: &mpsc::Sender<Batch>) -> Result<()> {
        let name: SourceName = self.contract.name.clone();
        let contract_error = |source| Cause::Contract { source_name: name.clone(), source };
        let mut decoder = Decoder::new(&self.contract).map_err(contract_error)?;
        let mut records = Records::open(&self.path, &self.contract)?;
        let mut next = 0;
        let mut base = self.base;
        let first = base.unwrap_or(0);
        let mut buffer = Vec::new();
        let mut place = PlaceInFile::of(&self.contract);
        while next < first {
            if !records.read(&mut buffer)? {
                return Ok(());
            }
            place.pass(&buffer);
            next += 1;
        }
        let mut is_complete = false;
        while !is_complete && !self.cancel.is_cancelled() {
            let opened = self.clock.stopwatch();
            let from = next;
            let mut chunk = Chunk::default();
            decoder.begin(CAPACITY);
            while chunk.len() < self.limits.rows && chunk.num_bytes() < self.limits.bytes {
                if !records.read(&mut buffer)? {
                    is_complete = true;
                    break;
                }
                chunk.push(0, next, None, Some(&buffer), None, std::iter::empty());
                place.pass(&buffer);
                decoder.push(&Record {
                    payload: Some(&buffer),
                    headers: &HeadersRef::default(),
                    topic: None,
                    topic_rule: None,
                    partition: None,
                    offset: None,
                    place_in_file: place.text(),
                    timestamp_us: None,
                    clock_us: self.clock_us,
                });
                next += 1;
            }
            if next == from {
                return Ok(());
            }
            let decoded = decoder.finish().map_err(contract_error)?;
            let refuse = |rejection: &crate::decode::Rejection| Refused {
                origin: 0,
                rejection: rejection.clone(),
                record: chunk.get(rejection.record).to_owned_record(),
            };
            let refused = decoded.rejections.iter().map(refuse).collect();
            let key = OriginKey::File {
                path: self.path.display().to_string(),
                content: self.content.clone(),
                is_complete,
                base,
            };
            let records = u64::try_from(next - from).unwrap_or_default();
            let origin = Origin { key, from, to: next, records, tombstones: 0, skipped: 0, gap: 0, last: None };
            let batch = Batch {
                origin_of: vec![0; chunk.len()],
                decoded,
                origins: vec![origin],
                refused,
                drained: Vec::new(),
                num_bytes: chunk.num_bytes(),
                opened,
            };
            base = Some(next);
            if batches.blocking_send(batch).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Where a record stands in its file, as the hash of all records up to and with it; nothing where no key asks for it.
struct PlaceInFile {
    hasher: Option<Xxh3>,
    text: String,
}

impl PlaceInFile {
    fn of(contract: &Contract) -> Self {
        let is_wanted = contract.key.contains(&KeyRule::Coordinates);
        Self { hasher: is_wanted.then(Xxh3::new), text: String::new() }
    }

    fn pass(&mut self, record: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            // The length first: where one record ends and the next begins is part of what was read.
            hasher.update(&(record.len() as u64).to_le_bytes());
            hasher.update(record);
        }
    }

    /// Of the record that was passed last.
    fn text(&mut self) -> Option<&str> {
        let hasher = self.hasher.as_ref()?;
        self.text.clear();
        write!(self.text, "file/{:032x}", hasher.digest128()).expect("a string takes whatever is written to it");
        Some(&self.text)
    }
}
