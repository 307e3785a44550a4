//! A store whose answers get lost.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;
use tidemill_project::{Diagnostic as _, ErrorKind, TableVersion};

use super::{append, committed, id, memory, over, request, rows, spec, values};
use crate::CommitOutcome;

/// What happens to the next conditional put.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is done and the answer is lost.
    AnswerLost,
    /// It is done, the answer is lost, and the client's own repetition finds the object taken.
    RepeatedByClient,
    /// It never arrives.
    NotDone,
    /// It is refused for good.
    Denied,
}

#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn ObjectStore>,
    script: Mutex<Vec<Fault>>,
    is_deaf: Mutex<bool>,
}

impl Faulty {
    fn new() -> Arc<Self> {
        Arc::new(Self { inner: Arc::new(InMemory::new()), script: Mutex::default(), is_deaf: Mutex::default() })
    }

    fn play(&self, faults: &[Fault]) {
        *self.script.lock() = faults.iter().rev().copied().collect();
    }

    fn lost() -> object_store::Error {
        object_store::Error::Generic { store: "faulty", source: "connection closed before message completed".into() }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let is_commit = location.as_ref().contains("_delta_log/0");
        let fault = if is_commit { self.script.lock().pop() } else { None };
        match fault {
            None => self.inner.put_opts(location, payload, options).await,
            Some(Fault::AnswerLost) => {
                self.inner.put_opts(location, payload, options).await?;
                Err(Self::lost())
            }
            Some(Fault::RepeatedByClient) => {
                self.inner.put_opts(location, payload.clone(), options.clone()).await?;
                self.inner.put_opts(location, payload, options).await
            }
            Some(Fault::NotDone) => Err(Self::lost()),
            Some(Fault::Denied) => {
                Err(object_store::Error::PermissionDenied { path: location.to_string(), source: "no".into() })
            }
        }
    }

    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if *self.is_deaf.lock() {
            return Err(Self::lost());
        }
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_counts_once() {
    for fault in [Fault::AnswerLost, Fault::RepeatedByClient] {
        let store = Faulty::new();
        let world = over(Arc::<Faulty>::clone(&store));
        let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
        store.play(&[fault]);
        assert_eq!(committed(append(&mut table, rows(9, 0..10)).await), TableVersion(1), "{fault:?}");
        assert_eq!(values(&table).await, (0..10).collect::<Vec<_>>());
        let again = world.lake.open(&id()).await.unwrap().unwrap();
        assert_eq!((again.version(), again.files()), (TableVersion(1), table.files()));
    }
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_put_again() {
    let store = Faulty::new();
    let world = over(Arc::<Faulty>::clone(&store));
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    store.play(&[Fault::NotDone, Fault::NotDone, Fault::AnswerLost]);
    assert_eq!(committed(append(&mut table, rows(9, 0..10)).await), TableVersion(1));
    assert!(world.lake.open_at(&id(), TableVersion(2)).await.is_err());
}

#[tokio::test]
async fn a_lost_answer_of_the_loser_is_a_loss() {
    let store = Faulty::new();
    let world = over(Arc::<Faulty>::clone(&store));
    let mut first = world.lake.open_or_create(&spec(), "test").await.unwrap();
    let mut second = world.neighbour().open(&id()).await.unwrap().unwrap();
    committed(append(&mut first, rows(9, 0..10)).await);
    store.play(&[Fault::NotDone]);
    assert!(matches!(append(&mut second, rows(9, 10..20)).await, CommitOutcome::Lost(winners) if winners.len() == 1));
}

#[tokio::test]
async fn an_outcome_that_cannot_be_found_out_is_reported_as_such() {
    let store = Faulty::new();
    let world = over(Arc::<Faulty>::clone(&store));
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    let files = table.write_files(vec![rows(9, 0..10)]).await.unwrap();
    store.play(&[Fault::AnswerLost]);
    *store.is_deaf.lock() = true;
    let request = request(&world.lake, files, Vec::new());
    let commit_id = request.note.commit_id;
    // The put is done; those after it find the object taken, and nobody can say by whom.
    let error = table.commit(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(table.version(), TableVersion(0));
    *store.is_deaf.lock() = false;
    let commits = table.refresh().await.unwrap();
    assert_eq!(commits[0].note.as_ref().unwrap().commit_id, commit_id);
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let store = Faulty::new();
    let world = over(Arc::<Faulty>::clone(&store));
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    store.play(&[Fault::Denied]);
    let error = table.commit(request(&world.lake, Vec::new(), Vec::new())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(committed(append(&mut table, rows(9, 0..10)).await), TableVersion(1));
}

#[tokio::test]
async fn what_a_crash_leaves_is_not_seen() {
    let world = memory();
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    // Files were written and the process died before the commit.
    table.write_files(vec![rows(9, 0..10)]).await.unwrap();
    let mut again = world.lake.open(&id()).await.unwrap().unwrap();
    assert!(again.files().is_empty());
    committed(append(&mut again, rows(9, 0..10)).await);
    table.refresh().await.unwrap();
    assert_eq!(values(&table).await, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_commit_reads_nothing() {
    let store = Faulty::new();
    let world = over(Arc::<Faulty>::clone(&store));
    let mut table = world.lake.open_or_create(&spec(), "test").await.unwrap();
    *store.is_deaf.lock() = true;
    for number in 1..=5 {
        assert_eq!(committed(append(&mut table, rows(9, [number])).await).0, u64::try_from(number).unwrap());
    }
    *store.is_deaf.lock() = false;
    assert_eq!(values(&table).await, [1, 2, 3, 4, 5]);
}
