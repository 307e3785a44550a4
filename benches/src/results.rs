//! `RESULTS.md`: one section per measurement, each replaced as a whole when it is measured again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::machine;

/// What one measurement has to say.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// The letter of the measurement.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// The command that repeats it.
    pub(crate) command: String,
    /// What was sent, and what the columns mean.
    pub(crate) data: String,
    pub(crate) heading: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

const FRONT: &str = "# Results\n\n\
    Written by `benches/run`; each table says when and where it was measured. What the numbers mean, and what holds them, is in\n\
    [docs/performance.md](../docs/performance.md).\n";

/// Replaces the section of the same id, or adds it.
pub(crate) fn write(path: &Path, section: &Section) -> Result<()> {
    let old = fs::read_to_string(path).unwrap_or_default();
    let text = replace(&old, section.id, &render(section, &machine::describe()));
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

fn marker(id: &str) -> String {
    format!("<!-- {id} -->\n")
}

fn replace(old: &str, id: &str, new: &str) -> String {
    let mut out = FRONT.to_owned();
    for other in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"] {
        let body = if other == id { Some(new) } else { body(old, other) };
        if let Some(body) = body {
            out.push('\n');
            out.push_str(&marker(other));
            out.push_str(body.trim_end());
            out.push('\n');
        }
    }
    out
}

fn body<'t>(text: &'t str, id: &str) -> Option<&'t str> {
    let (_, after) = text.split_once(&marker(id))?;
    Some(after.split_once("<!-- ").map_or(after, |(body, _)| body))
}

fn render(section: &Section, machine: &str) -> String {
    let Section { id, title, command, data, heading, rows } = section;
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heading: Vec<String> = heading.iter().map(|&cell| cell.to_owned()).collect();
    let rule: Vec<String> = heading.iter().map(|_| "---".to_owned()).collect();
    let mut out =
        format!("## ({id}) {title}\n\n`{command}`\n\n{machine}\n\n{data}\n\n{}{}", line(&heading), line(&rule));
    for row in rows {
        out.push_str(&line(row));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_others_stay() {
        let one = replace("", "b", "latency");
        let two = replace(&one, "a", "throughput");
        let three = replace(&two, "b", "latency, again");
        assert_eq!(three, format!("{FRONT}\n<!-- a -->\nthroughput\n\n<!-- b -->\nlatency, again\n"));
    }
}
