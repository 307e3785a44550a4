//! Printing is a value that is passed in. Data goes to stdout, everything else to stderr.

use std::io::{IsTerminal, Write};

use serde::Serialize;
use serde_json::Value;

use crate::args::{Format, LogFormat};
use crate::report;

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    format: Format,
    logs: LogFormat,
    quiet: bool,
    /// The command whose result is printed, as it was typed.
    command: &'static str,
}

/// The form of all JSON objects; it grows when a field goes away or changes its meaning, not when one is added.
const VERSION: u32 = 1;

impl Printer {
    /// A printer for one output format. With logs as JSON every line on stderr is such an object.
    pub(crate) fn new(format: Format, logs: LogFormat) -> Self {
        Self { format, logs, quiet: false, command: "" }
    }

    /// The same for the results of one command.
    pub(crate) fn of(self, command: &'static str) -> Self {
        Self { command, ..self }
    }

    /// The same without summary lines and results: for steps whose words somebody else says.
    pub(crate) fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// The format that the user asked for.
    pub(crate) fn format(self) -> Format {
        self.format
    }

    /// Whether progress may move on the screen.
    pub(crate) fn is_interactive(self) -> bool {
        self.format == Format::Text && self.logs == LogFormat::Text && std::io::stderr().is_terminal()
    }

    /// Writes data to stdout as it is.
    #[expect(clippy::unused_self, reason = "a printer may one day write elsewhere; callers should not know")]
    pub(crate) fn data(self, bytes: &[u8]) {
        // A reader that went away (`| head`) is no failure of the command.
        let _ = std::io::stdout().lock().write_all(bytes);
    }

    /// Writes a result: the object as JSON, with the version of its form and the command that made it, or the text for
    /// people.
    pub(crate) fn result(self, object: &impl Serialize, text: &str) {
        if self.quiet {
            return;
        }
        match self.format {
            Format::Json => {
                let object = serde_json::to_value(object).expect("results are maps with text keys");
                let object = match object {
                    Value::Object(fields) => {
                        let head = [("version", Value::from(VERSION)), ("command", Value::from(self.command))];
                        let head = head.map(|(key, value)| (key.to_owned(), value));
                        Value::Object(head.into_iter().chain(fields).collect())
                    }
                    other => other,
                };
                self.data(format!("{object}\n").as_bytes());
            }
            Format::Text | Format::Csv | Format::Parquet => self.data(text.as_bytes()),
        }
    }

    /// Writes the summary line of one step: to stdout for people, to stderr when stdout is for machines.
    pub(crate) fn step(self, name: &str, text: &str) {
        if self.quiet {
            return;
        }
        match self.format {
            Format::Text => self.data(format!("{name:<8} {text}\n").as_bytes()),
            Format::Json | Format::Csv | Format::Parquet => self.note(&format!("{name:<8} {text}")),
        }
    }

    /// Writes a line for people to stderr.
    pub(crate) fn note(self, line: &str) {
        match self.logs {
            LogFormat::Text => {
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            }
            LogFormat::Json => tracing::info!("{}", line.trim()),
        }
    }

    /// Writes an error to stderr, with its causes, its place and the way out.
    pub(crate) fn error(self, error: &anyhow::Error) {
        let text = report::render(error);
        match (self.logs, report::code_of(error)) {
            (LogFormat::Text, _) => {
                let _ = std::io::stderr().lock().write_all(text.as_bytes());
            }
            (LogFormat::Json, Some(code)) => tracing::error!(error_code = %code, "{}", text.trim()),
            (LogFormat::Json, None) => tracing::error!("{}", text.trim()),
        }
    }
}

/// Lays rows out in aligned columns, the first row being the heading. Cells that look like numbers are aligned right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let numeric: Vec<bool> = (0..columns)
        .map(|column| {
            rows.iter().skip(1).filter_map(|row| row.get(column)).all(|cell| {
                !cell.is_empty() && cell.chars().all(|letter| letter.is_ascii_digit() || ",.-".contains(letter))
            })
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            if column > 0 {
                line.push_str("  ");
            }
            if numeric[column] && rows.len() > 1 {
                line.push_str(&pad);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&pad);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Writes a count with thousands separators.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_right_and_grouped() {
        let rows = vec![
            vec!["source".to_owned(), "landed".to_owned()],
            vec!["zoner".to_owned(), thousands(1_204_117)],
            vec!["logins".to_owned(), thousands(12)],
        ];
        assert_eq!(table(&rows), "source     landed\nzoner   1,204,117\nlogins         12\n");
    }
}
