//! Puts the shipped models project into the binary, so that `tidemill demo` needs no checkout.

use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dbt-like-models");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let mut code = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&root).expect("files are below the root");
        writeln!(code, "    ({:?}, include_str!({:?})),", name.display().to_string(), file.display().to_string())
            .expect("writing to a string cannot fail");
    }
    code.push(']');
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("shipped_models.rs");
    std::fs::write(out, code).expect("the build folder is writable");
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path
            .extension()
            .is_some_and(|extension| ["sql", "yml", "csv", "avsc"].iter().any(|known| extension == *known))
        {
            files.push(path);
        }
    }
}
