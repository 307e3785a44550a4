//! `tidemill lint`

use serde_json::{Value as Json, json};
use tidemill_transform::lint::{RULES, lint};

use super::workspace::Workspace;
use crate::args::{GlobalArgs, LintArgs};
use crate::exit::Exit;
use crate::printer::{Printer, table};

/// Checks the project's names, layers and descriptions; findings fail the command.
pub(crate) fn run(global: &GlobalArgs, args: &LintArgs, printer: Printer) -> anyhow::Result<Exit> {
    if args.rules {
        let mut rows = vec![["rule", "name", "wants"].map(str::to_owned).to_vec()];
        rows.extend(RULES.iter().map(|rule| [rule.id, rule.name, rule.wants].map(str::to_owned).to_vec()));
        printer.result(&RULES, &table(&rows));
        return Ok(Exit::Done);
    }
    let workspace = Workspace::load(global)?;
    let selection = workspace.select(&args.selection, printer)?;
    let runner = &workspace.runner;
    let findings = lint(runner.project(), runner.graph(), &selection, &args.off)?;
    let mut text = String::new();
    for finding in &findings {
        text.push_str(&format!(
            "{}: {} {}: {}\n",
            finding.location, finding.rule.id, finding.rule.name, finding.message
        ));
    }
    let noun = if findings.len() == 1 { "finding" } else { "findings" };
    text.push_str(&format!("{} {noun}\n", findings.len()));
    let told: Vec<Json> = findings
        .iter()
        .map(|finding| {
            json!({
                "rule": finding.rule.id,
                "name": finding.rule.name,
                "file": finding.location.file.display().to_string(),
                "line": finding.location.line,
                "column": finding.location.column,
                "message": finding.message,
            })
        })
        .collect();
    printer.result(&json!({ "findings": told }), &text);
    Ok(if findings.is_empty() { Exit::Done } else { Exit::Failed })
}
