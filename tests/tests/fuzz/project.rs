//! dbt projects: `dbt_project.yml`, properties, Jinja, macros, seeds.

use std::fs;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tidemill_project::Diagnostic;
use tidemill_tests::seed::Seeded;
use tidemill_transform::graph::{Graph, Selection};
use tidemill_transform::render::{PlainRelations, RenderContext, Renderer, SharedRelations};
use tidemill_transform::{LoadOptions, load_project};

use crate::mutate::mutate;
use crate::{corpus, fuzz};

const JINJA: &[&str] = &[
    "{{",
    "}}",
    "{%",
    "%}",
    "{%-",
    "-%}",
    "{#",
    "#}",
    "{% raw %}",
    "{% endraw %}",
    "{% if ",
    "{% endif %}",
    "{% for i in range(9) %}",
    "{% endfor %}",
    "{% set x = ",
    "{% macro m(a, b=1) %}",
    "{% endmacro %}",
    "{% call m() %}",
    "{{ m() }}",
    "{{ ref('",
    "') }}",
    "{{ config(",
    ") }}",
    "{{ source('logins', 'user_login') }}",
    "{{ this }}",
    "{{ var('x', 1) }}",
    "{{ env_var('PATH') }}",
    "is_incremental()",
    "loop.index",
    "**",
    "//",
    "~",
    "| join(', ')",
    "| tojson",
    "caller()",
    "namespace(a=1)",
    "varargs",
    "((((",
    "{% test t(model) %}",
    "{% endtest %}",
    "{{ return(1) }}",
    "{% do x.append(1) %}",
    "execute",
    "adapter.dispatch('m')()",
    "--",
    "/*",
];

const YAML: &[&str] = &[
    "- ",
    ": ",
    "? ",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "|+\n",
    ">-\n",
    "---\n",
    "{",
    "}",
    "[",
    "]",
    "~",
    "{{ var('x') }}",
    "{{",
    "%}",
    "models:",
    "sources:",
    "seeds:",
    "unit_tests:",
    "given: []",
    "expect: {rows: []}",
    "data_tests: [unique]",
    "+materialized: view",
    "+enabled: false",
    "config: {",
    "begin: \"2025-01-01\"",
    "batch_size: hour",
    "lookback: -1",
    "publish: [{to: snowflake}]",
    "vars: {",
    "context: {before: 1h, after: 2h}",
    "unique_key: [a, a]",
    "0x7f",
    "config-version: 3",
    "model-paths: [..]",
    "name: \"../x\"",
];

/// One file of a project that is sound but for it. The neighbours stay, so that most faults are found late.
fn choose(random: &mut Seeded, files: &[(String, Vec<u8>)]) -> (String, Vec<u8>) {
    let others: Vec<&[u8]> = files.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    let (name, bytes) = random.pick(files);
    let words = if std::path::Path::new(name).extension().is_some_and(|found| found == "sql") { JINJA } else { YAML };
    (name.clone(), mutate(random, bytes, &others, words))
}

#[test]
fn no_project_panics_and_every_fault_has_a_text() -> Result<()> {
    let scaffold = corpus(&[".sql", ".yml", ".csv"])?;
    // Two projects in one would clash: the scaffold's files under the shop, the shipped ones as they are.
    let (shop, shipped): (Vec<_>, Vec<_>) = scaffold.into_iter().partition(|(name, bytes)| {
        name.contains("shop") || name.contains("orders") || contains(bytes, b"name: {project}")
    });
    fuzz("projects", 600, |random, kept| {
        // The small one is quicker, the large one has more of the language.
        let files = if random.below(4) == 0 { &shipped } else { &shop };
        if kept.folder().join("models").exists() {
            fs::remove_dir_all(kept.folder())?;
        }
        for (name, bytes) in files {
            kept.write(name, bytes)?;
        }
        for _ in 0..=random.below(2) {
            let (name, bytes) = choose(random, files);
            kept.write(&name, &bytes)?;
        }
        match read(kept.folder()) {
            Ok(()) => {}
            Err(error) => {
                ensure!(!error.to_string().is_empty(), "a fault says nothing");
                ensure!(
                    error.faults().iter().all(|fault| !fault.message.is_empty()),
                    "a fault says nothing: {error:?}"
                );
            }
        }
        Ok(())
    })
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// All that happens to a project before its SQL runs.
fn read(folder: &std::path::Path) -> Result<(), tidemill_transform::Error> {
    let project = load_project(folder, LoadOptions::default())?;
    let graph = Graph::build(&project)?;
    graph.select(&Selection::all())?;
    let renderer = Renderer::new(&project)?;
    let relations: SharedRelations = Arc::new(PlainRelations::default());
    for model in project.models.values() {
        for incremental in [false, true] {
            let context = RenderContext { incremental, ..RenderContext::default() };
            renderer.model(model, &context, &relations)?;
        }
    }
    Ok(())
}
