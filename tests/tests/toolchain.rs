//! What the README's first command needs to build: a Rust toolchain, a C compiler, make and perl, and nothing else.
//!
//! A clean build takes a quarter of an hour, so it is run by hand (`tests/clean_build`); these tests show at every change
//! that nothing in the binary's graph of crates could ask for more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Crates that call a tool that a fresh machine does not have, or exist to do so.
const TOOLS: &[(&str, &str)] = &[
    ("cmake", "cmake"),
    ("aws-lc-fips-sys", "cmake and Go"),
    ("boring-sys", "cmake"),
    ("grpcio-sys", "cmake"),
    ("libz-ng-sys", "cmake"),
    ("prost-build", "protoc"),
    ("protobuf-codegen", "protoc"),
    ("protobuf-parse", "protoc"),
    ("protoc", "protoc"),
    ("protoc-rust", "protoc"),
    ("tonic-build", "protoc"),
    ("tonic-prost-build", "protoc"),
    ("bindgen", "libclang"),
    ("clang-sys", "libclang"),
    ("nasm-rs", "nasm"),
    ("meson", "meson"),
];

/// Who may bring one of them along without using it, and why it does not.
const UNUSED: &[(&str, &str, &str)] = &[
    // It is shipped with generated assembly and bindings for Linux and macOS on x86-64 and ARM64, which the C compiler alone
    // builds; cmake is for other machines and for sanitizers.
    ("cmake", "aws-lc-sys", "bindgen"),
];

/// Words that a build script has when it calls such a tool.
const CALLS: &[&str] =
    &["cmake::", "\"cmake\"", "\"protoc\"", "prost_build", "protobuf_codegen", "bindgen::", "\"clang\"", "\"ninja\""];

/// Build scripts that hold one of the words, and why they call nothing all the same: the feature that would is off.
const EXCUSED: &[(&str, &str)] = &[
    ("aws-lc-sys", "bindgen"),
    ("buoyant_kernel", "declarative-plans"),
    ("prometheus-client", "protobuf"),
    ("rdkafka-sys", "cmake-build"),
    ("zstd-sys", "bindgen"),
    ("lz4-sys", "bindgen"),
    ("bzip2-sys", "bindgen"),
    ("libz-sys", "zlib-ng"),
    ("openssl-sys", "bindgen"),
    ("lzma-sys", "bindgen"),
    ("liblzma-sys", "bindgen"),
    ("ring", "bindgen"),
    ("onig_sys", "generate"),
];

struct Package {
    name: String,
    features: BTreeSet<String>,
    build_script: Option<PathBuf>,
    /// Names of the crates that it stands on.
    uses: BTreeSet<String>,
}

/// The crates of the binary and of the build scripts on the way, for this machine; what only tests use is not among them.
fn graph() -> Result<Vec<Package>> {
    let host = Command::new("rustc").args(["--print", "host-tuple"]).output().context("rustc does not run")?;
    let host = String::from_utf8(host.stdout)?.trim().to_owned();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &host])
        .current_dir(tidemill_tests::installed::repository())
        .output()
        .context("cargo does not run")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let by_id = |list: &Value| -> BTreeMap<String, Value> {
        let items = list.as_array().into_iter().flatten();
        items.filter_map(|item| Some((item["id"].as_str()?.to_owned(), item.clone()))).collect()
    };
    let (packages, nodes) = (by_id(&metadata["packages"]), by_id(&metadata["resolve"]["nodes"]));
    let root = packages.iter().find(|(_, package)| package["name"] == "tidemill-cli").context("the binary's crate")?.0;
    let mut seen = BTreeSet::from([root.clone()]);
    let mut open = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(id) = open.pop() {
        let (package, node) = (&packages[&id], &nodes[&id]);
        let mut uses = BTreeSet::new();
        for dependency in node["deps"].as_array().into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            if kinds.into_iter().any(|kind| kind["kind"] != "dev") {
                let id = dependency["pkg"].as_str().context("an id")?;
                uses.insert(packages[id]["name"].as_str().context("a name")?.to_owned());
                if seen.insert(id.to_owned()) {
                    open.push(id.to_owned());
                }
            }
        }
        let targets = package["targets"].as_array().into_iter().flatten();
        let mut scripts = targets.filter(|target| target["kind"][0] == "custom-build");
        found.push(Package {
            name: package["name"].as_str().context("a name")?.to_owned(),
            features: node["features"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|f| Some(f.as_str()?.to_owned()))
                .collect(),
            build_script: scripts.next().and_then(|script| script["src_path"].as_str()).map(PathBuf::from),
            uses,
        });
    }
    ensure!(found.len() > 300, "only {} crates were found", found.len());
    Ok(found)
}

#[test]
fn no_crate_of_the_binary_brings_a_tool_that_a_fresh_machine_lacks() -> Result<()> {
    let graph = graph()?;
    let mut faults = Vec::new();
    for (tool, needs) in TOOLS {
        for user in graph.iter().filter(|package| package.uses.contains(*tool)) {
            let excuse = UNUSED.iter().find(|(unused, by, _)| unused == tool && *by == user.name);
            if excuse.is_none_or(|(_, _, feature)| user.features.contains(*feature)) {
                faults.push(format!("{} brings {tool}, which needs {needs}", user.name));
            }
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn no_build_script_of_the_binary_calls_such_a_tool() -> Result<()> {
    let excused: BTreeMap<&str, &str> = EXCUSED.iter().copied().collect();
    let mut faults = Vec::new();
    let mut num_scripts = 0;
    for package in graph()? {
        let Some(script) = &package.build_script else { continue };
        num_scripts += 1;
        let text = fs::read_to_string(script).with_context(|| script.display().to_string())?;
        // Its modules lie beside it, mostly in a folder `build`.
        let beside = script.parent().map(|folder| folder.join("build")).filter(|folder| folder.is_dir());
        let mut texts = vec![text];
        for entry in beside.into_iter().flat_map(fs::read_dir).flatten() {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(fs::read_to_string(&path)?);
            }
        }
        let Some(call) = CALLS.iter().find(|call| texts.iter().any(|text| text.contains(**call))) else { continue };
        match excused.get(package.name.as_str()) {
            Some(feature) if !package.features.contains(*feature) => {}
            Some(feature) => faults.push(format!("{} has its feature `{feature}` on", package.name)),
            None => faults.push(format!("{}'s build script holds `{call}`: {}", package.name, script.display())),
        }
    }
    ensure!(num_scripts > 20, "only {num_scripts} build scripts were found");
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}
