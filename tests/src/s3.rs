//! An S3 server with conditional puts (SeaweedFS), in memory of nobody once it is dropped.

use std::fs;
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::process::Process;
use crate::{http, installed, ports, wait};

/// The bucket that exists.
pub const BUCKET: &str = "lake";
/// Access key that is let in.
pub const ACCESS_KEY: &str = "tidemill";
/// Its secret.
pub const SECRET_KEY: &str = "tidemill-secret";

/// A running server with the bucket [`BUCKET`]. Tests share it under prefixes of their own: each bucket would reserve
/// volumes.
#[derive(Debug)]
pub struct S3 {
    // Dropped before the folder: SIGKILL, as a clean stop takes 20 s and the data are thrown away.
    _process: Process,
    _folder: TempDir,
    endpoint: String,
}

impl S3 {
    /// Starts the server on an empty folder and creates the bucket.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start() -> Result<Self> {
        let install = installed::path_of("seaweedfs")?;
        let folder = TempDir::with_prefix("tidemill-s3-")?;
        let identities = serde_json::json!({"identities": [{
            "name": "tidemill",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        let config = folder.path().join("s3.json");
        fs::write(&config, identities.to_string())?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        let (master, volume, filer, s3) =
            (ports::free_port(), ports::free_port(), ports::free_port(), ports::free_port());
        let mut command = Command::new(install.join("bin/weed"));
        command
            .args(["-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"])
            .arg(format!("-dir={}", data.display()))
            .arg(format!("-s3.config={}", config.display()))
            .args([format!("-master.port={master}"), format!("-volume.port={volume}")])
            .args([format!("-filer.port={filer}"), format!("-s3.port={s3}")])
            // Without these each server also takes fixed ports.
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .args([
                "-master.volumeSizeLimitMB=64",
                "-volume.max=100",
                "-master.telemetry=false",
                "-volume.preStopSeconds=0",
            ]);
        let log = folder.path().join("log");
        let mut process = Process::start("seaweedfs", &mut command, &log)?;
        let health = format!("http://127.0.0.1:{s3}/healthz");
        process.wait_ready(wait::PATIENCE, || http::succeed("GET", &health, None).is_ok())?;
        // A bucket is a folder of the filer, whose own port asks for no signature.
        http::succeed("POST", &format!("http://127.0.0.1:{filer}/buckets/{BUCKET}/"), None)?;
        Ok(Self { _process: process, _folder: folder, endpoint: format!("http://127.0.0.1:{s3}") })
    }

    /// Base URL.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// Options of object_store for a server at `endpoint`, as `tidemill.toml` takes them.
#[must_use]
pub fn options(endpoint: &str) -> Vec<(String, String)> {
    [
        ("aws_endpoint", endpoint),
        ("aws_access_key_id", ACCESS_KEY),
        ("aws_secret_access_key", SECRET_KEY),
        ("aws_region", "us-east-1"),
        ("aws_allow_http", "true"),
        ("aws_virtual_hosted_style_request", "false"),
        ("aws_conditional_put", "etag"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}
