//! A store that fails by script: what may pass is borne, what cannot ends with the right kind, nothing is doubled.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use tidemill_lake::Lake;
use tidemill_project::clock::Clock;
use tidemill_project::config::MaintenanceSettings;
use tidemill_project::{Diagnostic, ErrorKind, TopicPartition};

use super::support::{Process, assert_closed, contract, event, keys};

/// What happens to the next write whose path ends like this.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Refused; nothing happened.
    Refuse(&'static str),
    /// It happened, but the answer is lost.
    LoseAnswer(&'static str),
    /// The rights are gone.
    Forbid(&'static str),
    /// The next read of such a path is refused.
    RefuseRead(&'static str),
}

#[derive(Debug)]
struct FaultyStore {
    inner: InMemory,
    script: Mutex<VecDeque<Fault>>,
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

fn no_answer() -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: "503 slow down".into() }
}

#[async_trait::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = {
            let mut script = self.script.lock().unwrap();
            let is_next = |fault: &Fault| match fault {
                Fault::Refuse(end) | Fault::LoseAnswer(end) | Fault::Forbid(end) => location.as_ref().ends_with(end),
                Fault::RefuseRead(_) => false,
            };
            if script.front().is_some_and(is_next) { script.pop_front() } else { None }
        };
        match fault {
            None | Some(Fault::RefuseRead(_)) => self.inner.put_opts(location, payload, options).await,
            Some(Fault::Refuse(_)) => Err(no_answer()),
            Some(Fault::LoseAnswer(_)) => {
                self.inner.put_opts(location, payload, options).await?;
                Err(no_answer())
            }
            Some(Fault::Forbid(_)) => Err(object_store::Error::PermissionDenied {
                path: location.to_string(),
                source: "403 forbidden".into(),
            }),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        {
            let mut script = self.script.lock().unwrap();
            let is_next = |fault: &Fault| matches!(fault, Fault::RefuseRead(end) if location.as_ref().ends_with(end));
            if script.front().is_some_and(is_next) {
                script.pop_front();
                return Err(no_answer());
            }
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn faulty_lake() -> (Lake, Arc<FaultyStore>) {
    let store = Arc::new(FaultyStore { inner: InMemory::new(), script: Mutex::default() });
    let url = url::Url::parse("memory:///lake/").unwrap();
    let root: Arc<dyn ObjectStore> = Arc::<FaultyStore>::clone(&store);
    (Lake::over(root, &url, &MaintenanceSettings::default(), Clock::system()).unwrap(), store)
}

#[tokio::test]
async fn an_outage_is_borne_and_a_lost_answer_is_no_second_commit() {
    let (lake, store) = faulty_lake();
    let partition = TopicPartition::new("events", 0);
    let mut process = Process::start(&lake, &contract()).await;
    process.take(&partition).await;
    process.land(&[(&partition, 0, Some(&event("a", 1)))]).await;

    *store.script.lock().unwrap() = [
        Fault::Refuse(".parquet"),
        Fault::Refuse(".parquet"),
        Fault::Refuse("00002.json"),
        Fault::LoseAnswer("00002.json"),
        Fault::LoseAnswer("00003.json"),
    ]
    .into();
    process.land(&[(&partition, 1, Some(&event("b", 2))), (&partition, 2, Some(&event("a", 1)))]).await;
    process.land(&[(&partition, 3, Some(&event("c", 3)))]).await;
    assert!(store.script.lock().unwrap().is_empty(), "every fault has happened");
    assert_eq!(keys(&lake).await, ["a", "b", "c"]);
    assert_closed(&lake).await;
}

#[tokio::test]
async fn a_copy_is_found_although_its_first_is_hard_to_read() {
    for budget in [0, 1 << 20] {
        let (lake, store) = faulty_lake();
        let partition = TopicPartition::new("events", 0);
        let mut process = Process::with_budget(&lake, &contract(), budget).await;
        process.take(&partition).await;
        process.land(&[(&partition, 0, Some(&event("a", 1)))]).await;

        let mut process = Process::with_budget(&lake, &contract(), budget).await;
        process.take(&partition).await;
        *store.script.lock().unwrap() = [Fault::RefuseRead(".parquet"), Fault::RefuseRead(".parquet")].into();
        process.land(&[(&partition, 1, Some(&event("a", 1))), (&partition, 2, Some(&event("b", 2)))]).await;
        assert!(store.script.lock().unwrap().is_empty(), "every fault has happened");
        assert_eq!(keys(&lake).await, ["a", "b"]);
        assert_closed(&lake).await;
    }
}

#[tokio::test]
async fn missing_rights_end_the_run_at_once() {
    let (lake, store) = faulty_lake();
    let partition = TopicPartition::new("events", 0);
    let mut process = Process::start(&lake, &contract()).await;
    process.take(&partition).await;
    *store.script.lock().unwrap() = [Fault::Forbid(".parquet")].into();
    let batch = process.batch(&[(&partition, 0, Some(&event("a", 1)))]);
    let error = process.committer.commit(batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(keys(&lake).await, Vec::<String>::new());
}
