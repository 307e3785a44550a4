//! Finds the project that a command works on.

use std::path::{Path, PathBuf};

/// The files that mark a project's folder.
pub const MARKERS: [&str; 2] = ["tidemill.toml", "dbt_project.yml"];

/// Finds the nearest folder, `start` included and upwards, that has one of [`MARKERS`].
#[must_use]
pub fn find_project_dir(start: &Path) -> Option<PathBuf> {
    start.ancestors().find(|dir| MARKERS.iter().any(|marker| dir.join(marker).is_file())).map(Path::to_path_buf)
}
