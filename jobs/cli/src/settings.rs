//! From arguments to settings. The one place that reads the environment.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `TIDEMILL_TARGET` | target of `tidemill.toml`, like `--target` |
//! | `TIDEMILL_LOG` | log filter, e.g. `info,tidemill_ingest=debug` |
//! | `NO_COLOR` | no colours |
//! | any other | may be named in `tidemill.toml` as `${NAME}` |

use std::collections::BTreeMap;

use anyhow::Context;
use tidemill_lake::Lake;
use tidemill_project::clock::Clock;
use tidemill_project::config::{self, Settings, SettingsRequest};

use crate::args::GlobalArgs;

/// The process's environment, read once.
pub(crate) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Loads the settings that the global flags ask for.
pub(crate) fn load(global: &GlobalArgs) -> anyhow::Result<Settings> {
    let request = SettingsRequest {
        project_dir: global.project_dir.clone(),
        lake: global.lake.clone(),
        target: global.target.clone(),
        env: environment(),
        cwd: std::env::current_dir().context("failed to find the working directory")?,
    };
    Ok(config::load(&request)?)
}

/// Connects to the lake of the settings. Commands open its tables more than once, `run --every` in every cycle.
pub(crate) fn lake(settings: &Settings) -> anyhow::Result<Lake> {
    Ok(Lake::connect(&settings.lake, &settings.maintenance, Clock::system())?.remembering())
}
