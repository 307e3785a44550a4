//! The project that the demo leaves behind, so that other commands work on it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tidemill_project::config::{self, Settings, SettingsRequest};

use crate::commands::context::working_dir;
use crate::report::UsageError;

/// The shipped models project: path below `dbt-like-models/` and text.
static SHIPPED_MODELS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shipped_models.rs"));

/// First line of the demo's settings: only a folder that has it is emptied for another demo.
const MARK: &str = "# Written by `tidemill demo`.";

/// Makes the folder ready and returns its models project. What an earlier demo left there goes away.
pub(super) fn prepare(dir: &Path) -> anyhow::Result<PathBuf> {
    let settings = dir.join("tidemill.toml");
    let used = dir.exists()
        && std::fs::read_dir(dir).with_context(|| format!("failed to look into `{}`", dir.display()))?.next().is_some();
    if used {
        let ours = std::fs::read_to_string(&settings).is_ok_and(|text| text.starts_with(MARK));
        if !ours {
            let message =
                format!("`{}` is not empty and no earlier demo; choose another folder with --keep", dir.display());
            return Err(UsageError { message }.into());
        }
        for part in ["lake", "warehouse", "dbt-like-models"] {
            let part = dir.join(part);
            if part.exists() {
                std::fs::remove_dir_all(&part).with_context(|| format!("failed to remove `{}`", part.display()))?;
            }
        }
    }
    let models = dir.join("dbt-like-models");
    for (name, text) in SHIPPED_MODELS {
        write(&models.join(name), text)?;
    }
    write(
        &settings,
        &format!(
            "{MARK} The broker was part of that process and is gone; lake and warehouse are here.\n\
             default_target = \"demo\"\n\n\
             [target.demo.lake]\nurl = \"lake\"\n\n\
             [target.demo.warehouse]\ntype = \"local\"\npath = \"warehouse\"\n"
        ),
    )?;
    Ok(models)
}

/// The settings of that project.
pub(super) fn settings(dir: &Path) -> anyhow::Result<Settings> {
    Ok(config::load(&SettingsRequest {
        project_dir: Some(dir.to_path_buf()),
        lake: None,
        target: Some("demo".to_owned()),
        env: std::collections::BTreeMap::new(),
        cwd: working_dir()?,
    })?)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("failed to write `{}`", path.display()))
}
