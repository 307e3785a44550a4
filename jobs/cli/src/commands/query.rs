//! `tidemill sql`: one query, a script on stdin, or a prompt with history.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use arrow::array::{Array as _, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tidemill_transform::SessionContext;
use tidemill_transform::run::query;
use tokio::signal::unix::{SignalKind, signal};

use super::build::runner;
use super::context::Context;
use crate::args::{Format, GlobalArgs, SqlArgs};
use crate::exit::Exit;
use crate::printer::Printer;

/// Runs a query, or a prompt.
pub(crate) async fn run(global: &GlobalArgs, args: SqlArgs, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    let session = runner(&context)?.query_context().await?;
    match args.query {
        Some(sql) => execute(&session, sql.trim().trim_end_matches(';'), args.output.as_deref(), printer).await?,
        None if std::io::stdin().is_terminal() => prompt(&context, &session, printer).await?,
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("failed to read the query from stdin")?;
            for sql in statements(&text) {
                execute(&session, sql, args.output.as_deref(), printer).await?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn execute(session: &SessionContext, sql: &str, output: Option<&Path>, printer: Printer) -> anyhow::Result<()> {
    print_rows(&query(session, sql).await?, output, printer)
}

/// Prints rows in the format that was asked for, to a file or to stdout.
pub(crate) fn print_rows(batches: &[RecordBatch], output: Option<&Path>, printer: Printer) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    match printer.format() {
        Format::Text => {
            let table = pretty_format_batches(batches).context("failed to lay out rows")?;
            bytes = format!("{table}\n").into_bytes();
        }
        Format::Json => {
            bytes = json_array(batches)?;
            bytes.push(b'\n');
        }
        Format::Csv => {
            let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(&mut bytes);
            for batch in batches {
                writer.write(&flat(batch)?).context("failed to write rows as CSV")?;
            }
        }
        Format::Parquet => {
            let schema = batches.first().map(RecordBatch::schema).context("a query has columns")?;
            let properties =
                WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
            let mut writer =
                ArrowWriter::try_new(&mut bytes, schema, Some(properties)).context("failed to write Parquet")?;
            for batch in batches {
                writer.write(batch).context("failed to write Parquet")?;
            }
            writer.close().context("failed to write Parquet")?;
        }
    }
    match output {
        Some(path) => {
            let mut file = File::create(path).with_context(|| format!("failed to create `{}`", path.display()))?;
            std::io::Write::write_all(&mut file, &bytes)
                .with_context(|| format!("failed to write `{}`", path.display()))?;
        }
        None => printer.data(&bytes),
    }
    Ok(())
}

/// Rows whose lists and structs are texts: a cell of CSV holds one value.
fn flat(batch: &RecordBatch) -> anyhow::Result<RecordBatch> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            let format = FormatOptions::default();
            let cells = ArrayFormatter::try_new(column, &format).context("failed to write rows as CSV")?;
            let texts = (0..column.len()).map(|row| column.is_valid(row).then(|| cells.value(row).to_string()));
            columns.push(Arc::new(texts.collect::<StringArray>()) as ArrayRef);
            fields.push(Field::new(field.name(), DataType::Utf8, true));
        } else {
            columns.push(Arc::clone(column));
            fields.push(field.as_ref().clone());
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).context("failed to write rows as CSV")
}

/// Rows as one JSON array of objects, nulls included; numbers of 64 bits keep all their digits.
pub(crate) fn json_array(batches: &[RecordBatch]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::JsonArray>(&mut bytes);
    for batch in batches {
        writer.write(batch).context("failed to write rows as JSON")?;
    }
    writer.finish().context("failed to write rows as JSON")?;
    drop(writer);
    if bytes.is_empty() {
        bytes.extend_from_slice(b"[]");
    }
    Ok(bytes)
}

/// Reads statements from a terminal until its end; a fault in one is shown and the next may follow.
async fn prompt(context: &Context, session: &SessionContext, printer: Printer) -> anyhow::Result<()> {
    let history = context.settings.project_dir.join(".tidemill").join("sql_history");
    if let Some(dir) = history.parent() {
        // History is a comfort; a folder that cannot be written to is no failure, here and below.
        let _ = std::fs::create_dir_all(dir);
    }
    let mut editor = DefaultEditor::new().context("failed to open the terminal")?;
    // A first session has no history.
    let _ = editor.load_history(&history);
    printer.note("end a statement with `;`, leave with \\q or ctrl-d; `show tables;` lists what there is");
    let mut interrupted = signal(SignalKind::interrupt()).context("failed to listen for ctrl-c")?;
    let mut text = String::new();
    loop {
        let (next, line) = tokio::task::spawn_blocking({
            let prompt = if text.trim().is_empty() { "tidemill> " } else { "      ... " };
            move || {
                let line = editor.readline(prompt);
                (editor, line)
            }
        })
        .await
        .context("failed to read a line")?;
        editor = next;
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                text.clear();
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(anyhow::Error::new(error).context("failed to read a line")),
        };
        if text.trim().is_empty() && ["\\q", "quit", "exit"].contains(&line.trim().trim_end_matches(';')) {
            return Ok(());
        }
        text.push_str(&line);
        text.push('\n');
        let (statements, rest) = split(&text);
        if statements.is_empty() {
            continue;
        }
        let _ = editor.add_history_entry(text.trim());
        let _ = editor.append_history(&history);
        for statement in statements {
            let answer = tokio::select! {
                answer = execute(session, statement, None, printer) => answer,
                _ = interrupted.recv() => {
                    printer.note("cancelled");
                    break;
                }
            };
            if let Err(error) = answer {
                printer.error(&error);
            }
        }
        text = rest.to_owned();
    }
}

/// The statements of a script; the last one needs no `;`.
fn statements(text: &str) -> Vec<&str> {
    let (mut found, rest) = split(text);
    found.push(rest);
    found.retain(|statement| says_something(statement));
    found
}

fn says_something(statement: &str) -> bool {
    statement.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with("--"))
}

/// Splits complete statements off: `;` outside of quotes and comments ends one. What follows the last comes second.
fn split(text: &str) -> (Vec<&str>, &str) {
    let mut found = Vec::new();
    let mut start = 0;
    let mut quote = None;
    let mut chars = text.char_indices().peekable();
    while let Some((index, letter)) = chars.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '-') if chars.peek().is_some_and(|(_, next)| *next == '-') => {
                while chars.next_if(|(_, letter)| *letter != '\n').is_some() {}
            }
            (None, '/') if chars.peek().is_some_and(|(_, next)| *next == '*') => {
                let mut last = ' ';
                for (_, letter) in chars.by_ref().skip(1) {
                    if last == '*' && letter == '/' {
                        break;
                    }
                    last = letter;
                }
            }
            (None, ';') => {
                found.push(&text[start..index]);
                start = index + 1;
            }
            (Some(_) | None, _) => {}
        }
    }
    found.retain(|statement| says_something(statement));
    (found, &text[start..])
}

#[cfg(test)]
mod tests {
    use super::{split, statements};

    #[test]
    fn semicolons_inside_quotes_and_comments_end_nothing() {
        assert_eq!(
            statements("select ';' as a; -- no; end\nselect 2;\n"),
            ["select ';' as a", " -- no; end\nselect 2"]
        );
        assert_eq!(statements("select /* ; */ 1; select 2"), ["select /* ; */ 1", " select 2"]);
        assert!(statements(" ;\n-- nothing\n").is_empty());
    }

    #[test]
    fn a_statement_that_is_not_ended_waits() {
        assert_eq!(split("select 1; select\n"), (vec!["select 1"], " select\n"));
        assert_eq!(split("select 'a;\n"), (vec![], "select 'a;\n"));
        assert_eq!(split("select 1;;\n"), (vec!["select 1"], "\n"));
    }
}
