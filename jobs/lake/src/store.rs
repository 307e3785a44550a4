//! Stores by URL.
//!
//! A store is built once per lake from the user's own options and handed to whoever needs it: the log, the Parquet reader,
//! delta-rs, DataFusion. Nothing is looked up in the process-wide registries of those libraries, so that two lakes with
//! different credentials can live in one process.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::execution::object_store::ObjectStoreUrl;
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore, RetryConfig};
use tidemill_project::Secret;
use tidemill_project::config::LakeSettings;
use url::Url;

use crate::error::Cause;
use crate::{Result, TableId};

/// An object store and the folder in it that a lake owns.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    /// The lake's address, with a trailing slash.
    url: Url,
    /// The store at the root of its bucket or file system, as delta-rs wants it.
    root: Arc<dyn ObjectStore>,
    /// The lake's folder under `root`.
    base: Path,
    /// The name under which DataFusion finds `root`; no other store of the process has it.
    alias: ObjectStoreUrl,
}

impl Store {
    /// Builds the store of an address; a local folder is created, no request is sent.
    pub(crate) fn connect(settings: &LakeSettings) -> Result<Self> {
        let url = &settings.url;
        let address = |source| Cause::Address { url: url.to_string(), source };
        let root: Arc<dyn ObjectStore> = match url.scheme() {
            "file" => {
                if let Ok(folder) = url.to_file_path() {
                    create_folder(&folder).map_err(address)?;
                }
                // A dropped table must not leave folders behind that look like one.
                Arc::new(LocalFileSystem::new().with_automatic_cleanup(true))
            }
            "memory" => Arc::new(InMemory::new()),
            "s3" | "s3a" => Arc::new(s3(url, &settings.options).map_err(address)?),
            "gs" => Arc::new(gcs(url, &settings.options).map_err(address)?),
            "az" | "azure" | "abfs" | "abfss" | "adl" => Arc::new(azure(url, &settings.options).map_err(address)?),
            scheme => {
                let text = format!("no store is known for the scheme, scheme=`{scheme}`");
                return Err(address(object_store::Error::NotSupported { source: text.into() }).into());
            }
        };
        Self::over(url, root)
    }

    /// Takes a store that is there already; `root` stands at the root of the bucket or file system of `url`.
    pub(crate) fn over(url: &Url, root: Arc<dyn ObjectStore>) -> Result<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);

        let mut url = url.clone();
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let address = |source| Cause::Address { url: url.to_string(), source };
        let base = Path::from_url_path(url.path()).map_err(|source| address(source.into()))?;
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let alias = ObjectStoreUrl::parse(format!("tidemill://store-{number}"))
            .expect("the text is a scheme and a host, whatever the number");
        Ok(Self { url, root, base, alias })
    }

    /// The lake's address, with a trailing slash.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Whether it is a folder of this machine: a question costs next to nothing there.
    pub(crate) fn is_folder(&self) -> bool {
        self.url.scheme() == "file"
    }

    /// The store at the root of its bucket or file system.
    pub(crate) fn root(&self) -> &Arc<dyn ObjectStore> {
        &self.root
    }

    /// The lake's folder under the root.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// The name under which a DataFusion session must register the root.
    pub(crate) fn alias(&self) -> &ObjectStoreUrl {
        &self.alias
    }
}

/// The folder of one table in its store.
#[derive(Clone, Debug)]
pub(crate) struct TableStore {
    pub(crate) id: TableId,
    pub(crate) store: Store,
    /// The table's folder under the store's root.
    folder: String,
}

impl TableStore {
    pub(crate) fn new(store: &Store, id: &TableId) -> Self {
        let base = store.base().as_ref();
        let folder = if base.is_empty() { id.path() } else { format!("{base}/{}", id.path()) };
        Self { id: id.clone(), store: store.clone(), folder }
    }

    /// The table's address, with a trailing slash.
    pub(crate) fn url(&self) -> Url {
        let mut url = self.store.url().clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(self.id.path().split('/')).push("");
        }
        url
    }

    pub(crate) fn object_store(&self) -> &Arc<dyn ObjectStore> {
        self.store.root()
    }

    /// The place of a file by its path under the table's folder, percent-decoded. Names are taken as they are: encoding them
    /// once more would look for another object than the one that the log means.
    pub(crate) fn path(&self, relative: &str) -> Result<Path> {
        let path = format!("{}/{relative}", self.folder);
        Path::parse(&path)
            .map_err(|source| Cause::Object { act: "name", table: self.id.clone(), path, source: source.into() }.into())
    }

    /// The table's folder.
    pub(crate) fn folder(&self) -> Path {
        self.folder.split('/').filter(|part| !part.is_empty()).collect()
    }

    /// The folder of the log.
    pub(crate) fn log_folder(&self) -> Path {
        self.folder().join("_delta_log")
    }

    /// The place of one commit's log entry.
    pub(crate) fn log_path(&self, version: u64) -> Path {
        self.log_folder().join(format!("{version:020}.json"))
    }

    /// delta-rs's view of the same folder, for checkpoints and for reading what we do not read ourselves.
    pub(crate) fn log_store(&self) -> LogStoreRef {
        let prefixed = Arc::new(PrefixStore::new(Arc::clone(self.object_store()), self.folder()));
        default_logstore(prefixed, Arc::clone(self.object_store()), &self.url(), &StorageConfig::default())
    }

    /// Lists all objects under a folder.
    pub(crate) async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        match self.object_store().list(Some(folder)).try_collect().await {
            Ok(listed) => Ok(listed),
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            Err(source) => Err(self.fault("list", folder, source).into()),
        }
    }

    /// Deletes objects; one that is gone already is fine. Returns how many were asked for.
    pub(crate) async fn delete(&self, paths: Vec<Path>) -> Result<usize> {
        let count = paths.len();
        let mut answers = self.object_store().delete_stream(stream::iter(paths).map(Ok).boxed());
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(self.fault("delete", &self.folder(), source).into()),
            }
        }
        Ok(count)
    }

    /// Wraps a fault of the store.
    pub(crate) fn fault(&self, act: &'static str, path: &Path, source: object_store::Error) -> Cause {
        Cause::Object { act, table: self.id.clone(), path: path.to_string(), source }
    }
}

fn create_folder(folder: &FilePath) -> object_store::Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|source| object_store::Error::Generic { store: "LocalFileSystem", source: source.into() })
}

/// A commit decides by itself what a lost answer means, and ingest repeats what failed for minutes, so the client below them
/// gives up early: a command that only looks at a store that is down ends after this time, instead of the library's three
/// minutes. Each of its own retries is told in the log.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 8, retry_timeout: std::time::Duration::from_secs(20), ..RetryConfig::default() }
}

fn s3(url: &Url, options: &BTreeMap<String, Secret>) -> object_store::Result<impl ObjectStore + use<>> {
    // Commits need put-if-absent; with S3's own, no lock table is needed.
    let start = AmazonS3Builder::from_env()
        .with_url(url.as_str())
        .with_retry(retry())
        .with_config(AmazonS3ConfigKey::ConditionalPut, "etag");
    configure(start, options, |builder, key, value| Ok(builder.with_config(AmazonS3ConfigKey::from_str(key)?, value)))?
        .build()
}

fn gcs(url: &Url, options: &BTreeMap<String, Secret>) -> object_store::Result<impl ObjectStore + use<>> {
    let start = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry());
    configure(start, options, |builder, key, value| Ok(builder.with_config(GoogleConfigKey::from_str(key)?, value)))?
        .build()
}

fn azure(url: &Url, options: &BTreeMap<String, Secret>) -> object_store::Result<impl ObjectStore + use<>> {
    let start = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry());
    configure(start, options, |builder, key, value| Ok(builder.with_config(AzureConfigKey::from_str(key)?, value)))?
        .build()
}

/// Applies the user's options by object_store's own names; an unknown name is an error, not a silent default.
fn configure<B>(
    start: B,
    options: &BTreeMap<String, Secret>,
    set: impl Fn(B, &str, &str) -> object_store::Result<B>,
) -> object_store::Result<B> {
    options
        .iter()
        .try_fold(start, |builder, (key, value)| set(builder, &key.to_ascii_lowercase(), value.expose_secret()))
}
