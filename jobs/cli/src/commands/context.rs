//! What most commands need: settings, lake, contracts, models, a name for the run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use tidemill_lake::{Engine, Lake};
use tidemill_project::clock::{Clock, Micros};
use tidemill_project::config::{self, Settings};
use tidemill_project::contract::{self, Contract, Contracts, Vars};

use tidemill_transform::project::Target;

use crate::args::GlobalArgs;
use crate::report::UsageError;
use crate::settings;

/// One invocation's ground. Cheap enough to clone for a task beside the command.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) lake: Lake,
    pub(crate) clock: Clock,
    pub(crate) run_id: String,
    pub(crate) as_of_us: Option<Micros>,
    pub(crate) overrides: BTreeMap<String, serde_json::Value>,
}

impl Context {
    /// Loads the settings and connects to the lake.
    pub(crate) fn load(global: &GlobalArgs) -> anyhow::Result<Self> {
        let mut settings = settings::load(global)?;
        if let Some(threads) = global.threads {
            settings.transform.threads = usize::from(threads);
        }
        Self::with_settings(global, settings)
    }

    /// Connects to the lake of settings that were made elsewhere.
    pub(crate) fn with_settings(global: &GlobalArgs, settings: Settings) -> anyhow::Result<Self> {
        let lake = settings::lake(&settings)?;
        let clock = Clock::system();
        let run_id = global.run_id.clone().unwrap_or_else(|| clock.new_id().to_string());
        crate::logging::name_run(&run_id);
        let as_of_us = global.as_of.as_deref().map(instant).transpose()?;
        let overrides = match &global.vars {
            Some(text) => Vars::parse_overrides(text)
                .map_err(|fault| UsageError { message: format!("--vars is not usable: {fault}") })?,
            None => BTreeMap::new(),
        };
        Ok(Self { settings, lake, clock, run_id, as_of_us, overrides })
    }

    /// Variables of the models project under those of the command line.
    pub(crate) fn vars(&self) -> anyhow::Result<Vars> {
        Ok(Vars::load(&self.settings.models_dir, &self.overrides)?)
    }

    /// All contracts of the project.
    pub(crate) fn contracts(&self) -> anyhow::Result<Contracts> {
        let contracts = contract::load_dir(&self.settings.models_dir, &self.vars()?)?;
        let all = contracts.contracts.iter();
        crate::logging::name_systems(all.map(|contract| (contract.name.clone(), &contract.system)));
        Ok(contracts)
    }

    /// The enabled contracts that a selection names: `source`, `source.table`, or all when it is empty.
    pub(crate) fn selected_contracts(&self, selection: &[String]) -> anyhow::Result<Vec<Contract>> {
        let contracts = self.contracts()?.contracts;
        for wanted in selection {
            if !contracts.iter().any(|contract| selects(wanted, contract)) {
                let names: Vec<String> = contracts.iter().map(|contract| contract.name.to_string()).collect();
                let near = tidemill_project::error::nearest(wanted, names.iter().map(String::as_str));
                let hint = near.map_or_else(
                    || format!("there are: {}", names.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                return Err(UsageError { message: format!("no source is named `{wanted}`; {hint}") }.into());
            }
        }
        Ok(contracts
            .into_iter()
            .filter(|contract| {
                if selection.is_empty() {
                    contract.enabled
                } else {
                    selection.iter().any(|wanted| selects(wanted, contract))
                }
            })
            .collect())
    }

    /// The models project.
    pub(crate) fn models(&self) -> anyhow::Result<tidemill_transform::project::Project> {
        let project = tidemill_transform::load_project(
            &self.settings.models_dir,
            tidemill_transform::LoadOptions {
                vars: self.overrides.clone().into_iter().collect(),
                env: settings::environment(),
                target: Target { name: self.settings.target.clone(), ..Target::default() },
                // A dbt project from elsewhere may describe columns that have gone; one with our settings may not.
                strict: self.settings.project_dir.join("tidemill.toml").is_file(),
            },
        )?;
        for note in &project.notes {
            let at = note.location.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%at, note = note.message, "the models project has something to look at");
        }
        Ok(project)
    }

    /// The SQL engine.
    pub(crate) fn engine(&self) -> Engine {
        Engine::local(&self.settings.transform)
    }
}

fn selects(wanted: &str, contract: &Contract) -> bool {
    let wanted = wanted.strip_prefix("source:").unwrap_or(wanted);
    wanted == contract.name.source || wanted == contract.name.to_string() || wanted == contract.system
}

/// Reads an instant: RFC 3339 with its zone, or a date (its midnight, UTC). A clock without zone is nobody's time.
pub(crate) fn instant(text: &str) -> anyhow::Result<Micros> {
    // A date and a time to which a zone could be added have none.
    let lacks_zone = config::parse_instant(&format!("{}Z", text.trim().replace(' ', "T"))).is_some();
    let what = if lacks_zone { "has no time zone" } else { "is no instant" };
    config::parse_instant(text)
        .filter(|_| !lacks_zone)
        .ok_or_else(|| UsageError { message: format!("`{text}` {what}; write it like 2025-03-09T12:00:00Z") }.into())
}

/// The working directory, for paths on the command line.
pub(crate) fn working_dir() -> anyhow::Result<std::path::PathBuf> {
    std::env::current_dir().context("failed to find the working directory")
}

/// A path as a person would write it from here.
pub(crate) fn shown(path: &Path) -> String {
    working_dir()
        .ok()
        .and_then(|dir| path.strip_prefix(dir).ok().map(|path| format!("./{}", path.display())))
        .unwrap_or_else(|| path.display().to_string())
}
