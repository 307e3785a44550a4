//! Where `tests/servers/install` puts things.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The clone's root.
#[must_use]
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// The folder of an installed tool, e.g. `kafka`.
///
/// # Errors
/// When it is not installed, naming the command that installs it.
pub fn path_of(tool: &str) -> Result<PathBuf> {
    let installer = repository().join("tests/servers/install");
    let output =
        Command::new(&installer).args(["path", tool]).output().context("failed to run tests/servers/install")?;
    ensure!(output.status.success(), "no such tool: {tool}: {}", String::from_utf8_lossy(&output.stderr));
    let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    ensure!(path.is_dir(), "{tool} is not installed; run tests/servers/install {tool}");
    Ok(path)
}
