//! A lake in memory whose process can be killed: for stories of crashes, told again and again in milliseconds.
//!
//! A kill is told by what the store has seen, which is all that a lake ever keeps of a process: up to the kill every request
//! was served, after it none. Files that were written stay; a commit that was not put was never made.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;
use tidemill_project::clock::Clock;
use tidemill_project::config::MaintenanceSettings;
use url::Url;

use crate::{Lake, TableId};

/// When a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Data files are written, the commit is not.
    BeforeCommit,
    /// The commit is there, and its answer never arrives.
    AfterCommit,
}

/// Kills whoever works on a rehearsal's lake.
#[derive(Clone, Debug)]
pub struct KillSwitch(Arc<Mutex<Fate>>);

#[derive(Debug, Default)]
struct Fate {
    armed: Option<(String, Moment)>,
    is_dead: bool,
}

impl KillSwitch {
    /// The next commit to the table after its first (which creates it) is the last thing that the process does, or tries to.
    pub fn arm(&self, table: &TableId, moment: Moment) {
        self.0.lock().armed = Some((format!("{}/_delta_log/", table.path()), moment));
    }

    /// A new process: everything works again. Returns whether the old one had died.
    #[must_use]
    pub fn restart(&self) -> bool {
        std::mem::take(&mut self.0.lock().is_dead)
    }

    /// Takes an order back that nobody has met.
    pub fn disarm(&self) {
        self.0.lock().armed = None;
    }

    /// Whether the process has died and not been started anew.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.0.lock().is_dead
    }

    /// Whether this put is the one that kills.
    fn strikes(&self, location: &Path) -> Option<Moment> {
        let fate = self.0.lock();
        let (log, moment) = fate.armed.as_ref()?;
        let entry = location.as_ref().split_once(log.as_str())?.1;
        let version: u64 = entry.strip_suffix(".json")?.parse().ok()?;
        (version > 0).then_some(*moment)
    }

    fn die(&self) {
        self.0.lock().is_dead = true;
    }

    fn check(&self, location: &Path) -> Result<()> {
        if self.0.lock().is_dead { Err(killed(location)) } else { Ok(()) }
    }
}

/// Refused for good, so that nobody tries again: the process that would is dead.
fn killed(location: &Path) -> object_store::Error {
    object_store::Error::PermissionDenied { path: location.to_string(), source: "the process was killed".into() }
}

impl Lake {
    /// An empty lake in memory, and the switch that kills who works on it.
    ///
    /// # Errors
    /// None in practice; the address is a constant.
    ///
    /// # Panics
    /// Never, for the same reason.
    pub fn rehearsal(clock: Clock) -> crate::Result<(Self, KillSwitch)> {
        let switch = KillSwitch(Arc::default());
        let store = Killable { inner: InMemory::new(), switch: switch.clone() };
        let url = Url::parse("memory:///lake/").expect("the text is a URL");
        let lake = Self::over(Arc::new(store), &url, &MaintenanceSettings::default(), clock)?;
        Ok((lake, switch))
    }
}

#[derive(Debug)]
struct Killable {
    inner: InMemory,
    switch: KillSwitch,
}

impl fmt::Display for Killable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Killable")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Killable {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.switch.check(location)?;
        match self.switch.strikes(location) {
            None => self.inner.put_opts(location, payload, options).await,
            Some(Moment::BeforeCommit) => {
                self.switch.die();
                Err(killed(location))
            }
            Some(Moment::AfterCommit) => {
                self.inner.put_opts(location, payload, options).await?;
                self.switch.die();
                Err(killed(location))
            }
        }
    }

    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.switch.check(to)?;
        self.inner.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.switch.check(location)?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.switch.check(location)?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.switch.check(&Path::default()) {
            Ok(()) => self.inner.delete_stream(locations),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.switch.check(prefix.unwrap_or(&Path::default())) {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.switch.check(offset) {
            Ok(()) => self.inner.list_with_offset(prefix, offset),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.switch.check(prefix.unwrap_or(&Path::default()))?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.switch.check(to)?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.switch.check(to)?;
        self.inner.rename_opts(from, to, options).await
    }
}
