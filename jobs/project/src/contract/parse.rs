//! From a dbt project's YAML to contracts: all files, all faults, at once.

use std::path::{Path, PathBuf};

use super::table::read_contract;
use super::vars::{ProjectFile, resolve};
use super::{Contract, Contracts, Vars};
use crate::document::{Data, FileError, Node, Reader, codes, parse_yaml, wrap_file_error};
use crate::error::{Fault, Location};
use crate::names::SourceName;

wrap_file_error!(
    /// A project's contracts are not usable. Carries every fault of every file.
    ContractError
);

/// Reads the contracts of the dbt project in `models_dir`: the tables under `sources:` in any YAML file of its model
/// folders that carry `tidemill` in their meta or inherit it from their source. Other sources are dbt's alone.
///
/// The order is that of file paths, then of declarations.
///
/// # Errors
/// A file is not readable, or anything in a contract is wrong; all faults of all files are reported together.
pub fn load_dir(models_dir: &Path, vars: &Vars) -> Result<Contracts, ContractError> {
    let mut contracts = Contracts::default();
    let mut faults = Vec::new();
    for dir in ProjectFile::read(models_dir)?.model_dirs(models_dir) {
        for path in yaml_files(&dir)? {
            read_file(path, vars, &mut contracts, &mut faults)?;
        }
    }
    refuse_doubles(&contracts.contracts, &mut faults);
    if faults.is_empty() { Ok(contracts) } else { Err(FileError::Faults(faults).into()) }
}

/// The YAML files below `dir`, sorted by path; hidden folders and symbolic links to folders are passed over.
fn yaml_files(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut files = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        if !dir.is_dir() {
            continue;
        }
        let failed = |source| FileError::Read { path: dir.clone(), source };
        for entry in std::fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if hidden {
                continue;
            }
            if entry.file_type().map_err(failed)?.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: PathBuf, vars: &Vars, contracts: &mut Contracts, faults: &mut Vec<Fault>) -> Result<(), FileError> {
    let text = std::fs::read_to_string(&path).map_err(|source| FileError::Read { path: path.clone(), source })?;
    if !text.contains("sources:") {
        return Ok(());
    }
    let documents = match parse_yaml(&path, &text) {
        Ok(documents) => documents,
        Err(fault) => {
            faults.push(fault);
            return Ok(());
        }
    };
    let mut reader = Reader::new(&path);
    let sources: Vec<&Node> = documents.iter().filter_map(|document| document.get("sources")).collect();
    for source in sources.iter().flat_map(|sources| sources.items()) {
        contracts.contracts.extend(read_source(&mut reader, vars, source));
    }
    faults.extend(reader.into_faults());
    if !sources.is_empty() {
        contracts.files.push(path);
    }
    Ok(())
}

fn read_source(reader: &mut Reader<'_>, vars: &Vars, source: &Node) -> Vec<Contract> {
    let defaults = read_meta(reader, vars, source);
    let tables = source.get("tables").map(Node::items).unwrap_or_default();
    let mut contracts = Vec::new();
    for table in tables {
        let own = read_meta(reader, vars, table);
        let Some(options) = inherit(own, defaults.clone()) else { continue };
        let Some(source_name) = read_name(reader, "source", source) else { continue };
        let Some(table_name) = read_name(reader, "table", table) else { continue };
        let switched_on = [source, table].iter().all(|node| is_switched_on(reader, vars, node));
        let name = SourceName::new(source_name, table_name);
        if let Some(mut contract) = read_contract(reader, vars, name, table, &options) {
            contract.enabled &= switched_on;
            contracts.push(contract);
        }
    }
    contracts
}

/// What `tidemill` holds in a node's meta, variables resolved: `config.meta`, where dbt wants it today, over the older
/// `meta`.
pub(super) fn read_meta(reader: &mut Reader<'_>, vars: &Vars, node: &Node) -> Option<Node> {
    let new = node.get_path(&["config", "meta", "tidemill"]).cloned();
    let old = node.get_path(&["meta", "tidemill"]).cloned();
    let mut meta = inherit(new, old)?;
    resolve(reader, vars, &mut meta);
    Some(meta)
}

/// The entries of `own`, and those of `defaults` that it does not have.
fn inherit(own: Option<Node>, defaults: Option<Node>) -> Option<Node> {
    let (mut own, defaults) = match (own, defaults) {
        (Some(own), Some(defaults)) => (own, defaults),
        (own, defaults) => return own.or(defaults),
    };
    if let (Data::Map(own), Data::Map(defaults)) = (&mut own.data, defaults.data) {
        for (key, value) in defaults {
            if own.iter().all(|(known, _)| known.name != key.name) {
                own.push((key, value));
            }
        }
    }
    Some(own)
}

fn read_name(reader: &mut Reader<'_>, what: &str, node: &Node) -> Option<String> {
    let Some(name) = node.get("name") else {
        reader.missing(node.place, "name", format!("give the {what} a name"));
        return None;
    };
    reader.spelling("name", name)
}

/// dbt's own switch, `config.enabled`.
fn is_switched_on(reader: &mut Reader<'_>, vars: &Vars, node: &Node) -> bool {
    let Some(mut flag) = node.get_path(&["config", "enabled"]).cloned() else { return true };
    resolve(reader, vars, &mut flag);
    reader.flag("config.enabled", &flag).unwrap_or(true)
}

fn refuse_doubles(contracts: &[Contract], faults: &mut Vec<Fault>) {
    for (index, contract) in contracts.iter().enumerate() {
        let first: Option<&Location> =
            contracts[..index].iter().find(|earlier| earlier.name == contract.name).map(|earlier| &earlier.location);
        if let Some(first) = first {
            faults.push(
                Fault::new(format!("source table is declared twice, source=`{}`", contract.name))
                    .code(codes::CONTRADICTION)
                    .at(contract.location.clone())
                    .hint(format!("the first one is at {first}")),
            );
        }
    }
}
