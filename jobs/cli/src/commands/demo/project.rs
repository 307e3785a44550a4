//! The project that the demo leaves behind, so that other commands work on it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tidemill_project::config::{self, Settings, SettingsRequest};
use tidemill_simulate::System;

use crate::commands::context::working_dir;
use crate::report::UsageError;

/// The shipped models project: path below `dbt-like-models/` and text.
static SHIPPED_MODELS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shipped_models.rs"));

/// First line of the demo's settings: only a folder that has it is emptied for another demo.
const MARK: &str = "# Written by `tidemill demo`.";

/// Followers from which an author is a celebrity in the demo: with the shipped 10,000 its few users would have none.
pub(super) const CELEBRITY_THRESHOLD: u64 = 100;

/// Makes the folder ready and returns its models project, in which the systems are switched on. What an earlier demo left
/// there goes away.
pub(super) fn prepare(dir: &Path, systems: &[System]) -> anyhow::Result<PathBuf> {
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
        let text = if *name == "dbt_project.yml" { switched_on(text, systems) } else { (*text).to_owned() };
        write(&models.join(name), &text)?;
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

/// The project file with the variables of the demo's systems: those that switch on the system, its topics of results and its
/// alerts, and the threshold of celebrities.
fn switched_on(project: &str, systems: &[System]) -> String {
    let switch = |line: &str| {
        let name = line.trim_start().split(':').next().unwrap_or_default();
        let is_of_demo = systems.iter().any(|system| {
            let part = name.strip_prefix(system.name()).and_then(|rest| rest.strip_suffix("_enabled"));
            matches!(part, Some("" | "_topics" | "_alerts"))
        });
        match name {
            _ if is_of_demo => format!("  {name}: true\n"),
            "zentry_celebrity_threshold" => format!("  {name}: {CELEBRITY_THRESHOLD}\n"),
            _ => format!("{line}\n"),
        }
    };
    project.lines().map(switch).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_systems_of_the_demo_are_switched_on() {
        let project = "vars:\n  clicks_enabled: false\n  clicks_topics_enabled: false\n  clicks_user_features_enabled: false\n  \
                       zentry_enabled: false\n  zentry_celebrity_threshold: 10000\n";
        let expected = "vars:\n  clicks_enabled: true\n  clicks_topics_enabled: true\n  clicks_user_features_enabled: false\n  \
                        zentry_enabled: false\n  zentry_celebrity_threshold: 100\n";
        assert_eq!(switched_on(project, &[System::Clicks]), expected);
    }
}
