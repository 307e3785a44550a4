//! A small working project, written by `tidemill init DIR`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Diagnostic, ErrorKind};

/// Path and text of each file; `{project}` stands for the project's name.
const FILES: [(&str, &str); 9] = [
    ("tidemill.toml", include_str!("../scaffold/tidemill.toml")),
    ("dbt_project.yml", include_str!("../scaffold/dbt_project.yml")),
    ("models/staging/_shop__sources.yml", include_str!("../scaffold/models/staging/_shop__sources.yml")),
    ("models/staging/stg_shop__orders.sql", include_str!("../scaffold/models/staging/stg_shop__orders.sql")),
    ("models/staging/stg_shop__orders.yml", include_str!("../scaffold/models/staging/stg_shop__orders.yml")),
    ("models/marts/orders_daily.sql", include_str!("../scaffold/models/marts/orders_daily.sql")),
    ("models/marts/orders_daily.yml", include_str!("../scaffold/models/marts/orders_daily.yml")),
    ("events.jsonl", include_str!("../scaffold/events.jsonl")),
    ("README.md", include_str!("../scaffold/README.md")),
];

/// The file that keeps the lake out of version control; one that is there already is left as it is.
const IGNORE: (&str, &str) = (".gitignore", include_str!("../scaffold/gitignore"));

/// The project could not be written.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ScaffoldError(#[from] Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("files of a project are there already, folder=`{}`, files=`{}`", dir.display(), files.join(", "))]
    Exists { dir: PathBuf, files: Vec<String> },
    #[error("failed to write a project, path=`{}`", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

impl Diagnostic for ScaffoldError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }

    fn hint(&self) -> Option<String> {
        match &self.0 {
            Cause::Exists { .. } => Some("choose another folder: nothing is overwritten".to_owned()),
            Cause::Write { .. } => None,
        }
    }
}

/// Writes a project into `dir`, which need not exist, and returns the files, as `dir` names them. The project's name is
/// the folder's.
///
/// # Errors
/// Any of the files is there already (then nothing is written), or one cannot be written.
pub fn init(dir: &Path) -> Result<Vec<PathBuf>, ScaffoldError> {
    let present: Vec<String> =
        FILES.iter().filter(|(path, _)| dir.join(path).exists()).map(|(path, _)| (*path).to_owned()).collect();
    if !present.is_empty() {
        return Err(Cause::Exists { dir: dir.to_path_buf(), files: present }.into());
    }
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Cause::Write { path, source }
    };
    std::fs::create_dir_all(dir).map_err(failed(dir))?;
    // `.` and `..` have no name of their own.
    let absolute = dir.canonicalize().map_err(failed(dir))?;
    let name = project_name(&absolute);
    let ignore = Some(IGNORE).filter(|(path, _)| !dir.join(path).exists());
    let mut written = Vec::with_capacity(FILES.len() + 1);
    for (path, text) in FILES.into_iter().chain(ignore) {
        let path = dir.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        // A file that came up since the look above is not overwritten either.
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed(&path))?;
        file.write_all(text.replace("{project}", &name).as_bytes()).map_err(failed(&path))?;
        written.push(path);
    }
    Ok(written)
}

/// A folder's name as dbt takes it: letters, digits and underscores, no digit first.
fn project_name(dir: &Path) -> String {
    let folder = dir.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String = folder.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    let name = name.trim_matches('_');
    match name.chars().next() {
        None => "project".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("project_{name}"),
        Some(_) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::SourceName;
    use crate::config::{SettingsRequest, load};
    use crate::contract::{KeyRule, Vars, load_dir};

    #[test]
    fn the_project_loads() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("My Shop-2");
        let files = init(&project).unwrap();
        assert_eq!(files.len(), 10);
        assert!(files.iter().all(|file| file.is_file()));

        let settings = load(&SettingsRequest { cwd: project.clone(), ..SettingsRequest::default() }).unwrap();
        assert_eq!((settings.name.as_str(), settings.target.as_str()), ("my_shop_2", "local"));
        let vars = Vars::load(&settings.models_dir, &BTreeMap::new()).unwrap();
        let contracts = load_dir(&settings.models_dir, &vars).unwrap();
        let orders = contracts.get(&SourceName::new("shop", "orders")).unwrap();
        assert_eq!(orders.key, [KeyRule::Field("order_id".into())]);
        assert_eq!(orders.grace.as_secs(), 900);
    }

    #[test]
    fn every_event_is_json_and_names_the_columns() {
        let text = include_str!("../scaffold/events.jsonl");
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(event["order_id"].is_string() && event["ordered_at"].is_string(), "{line}");
        }
        assert_eq!(text.lines().count(), 9, "the README counts them");
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("README.md"), "mine").unwrap();
        let error = init(dir.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("files of a project are there already, folder=`{}`, files=`README.md`", dir.path().display())
        );
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "and nothing is written");
    }

    #[test]
    fn a_gitignore_that_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".gitignore"), "mine").unwrap();
        assert_eq!(init(dir.path()).unwrap().len(), 9);
        assert_eq!(std::fs::read_to_string(dir.path().join(".gitignore")).unwrap(), "mine");
    }

    #[test]
    fn a_name_is_one_that_dbt_takes() {
        for (folder, name) in [("/a/Shop", "shop"), ("/9lives", "project_9lives"), ("/", "project"), ("/-x.y-", "x_y")]
        {
            assert_eq!(project_name(Path::new(folder)), name);
        }
    }
}
