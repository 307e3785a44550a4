//! `tidemill sql` as people use it: a prompt in a terminal, and a script on stdin.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::tidemill::{binary, exit};

fn project() -> Result<Project> {
    ProjectBuilder::empty()
        .file("dbt_project.yml", "name: shop\nversion: \"1.0.0\"\nconfig-version: 2\nmodel-paths: [models]\n")
        .build()
}

/// Types into a terminal of its own (`script` makes one) and returns the exit code and what was on the screen.
fn type_in(project: &Project, text: &str) -> Result<(Option<i32>, String)> {
    let command = format!("'{}' --project-dir '{}' sql", binary()?.display(), project.folder().display());
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--echo", "never", "--command", &command, "/dev/null"])
        .env("TERM", "dumb")
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("script is missing: it comes with util-linux")?;
    terminal.stdin.take().context("stdin is a pipe")?.write_all(text.as_bytes())?;
    let output = terminal.wait_with_output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[test]
fn a_prompt_takes_statements_over_several_lines_and_survives_faults() -> Result<()> {
    let project = project()?;
    let (code, screen) = type_in(
        &project,
        "select 40 + 2\n  as answer;\nselect no_such_column;\nselect 'a;b' as text; select 7 as seven;\n\\q\n",
    )?;
    ensure!(code == Some(exit::DONE), "{screen}");
    for word in ["answer", "42", "no_such_column", "a;b", "seven"] {
        ensure!(screen.contains(word), "{word} is not on the screen: {screen}");
    }
    let history = fs::read_to_string(project.folder().join(".tidemill/sql_history"))?;
    ensure!(history.contains("select no_such_column;") && history.contains("as answer;"), "{history}");
    // The next session knows them, and ctrl-d leaves it.
    let (code, screen) = type_in(&project, "select 1 as one;\n\u{4}")?;
    ensure!(code == Some(exit::DONE), "{screen}");
    let longer = fs::read_to_string(project.folder().join(".tidemill/sql_history"))?;
    ensure!(longer.starts_with(&history) && longer.contains("as one"), "{longer}");
    Ok(())
}

#[test]
fn a_script_on_stdin_runs_statement_by_statement_and_ends_with_the_first_fault() -> Result<()> {
    let project = project()?;
    let tidemill = project.tidemill();
    let run = |script: &str| -> Result<(Option<i32>, String)> {
        let mut command = tidemill.command(&["--format", "csv", "sql"])?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        child.stdin.take().context("stdin is a pipe")?.write_all(script.as_bytes())?;
        let output = child.wait_with_output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    ensure!(
        run("-- two; statements\nselect 1 as a;\nselect\n 2 as b")? == (Some(exit::DONE), "a\n1\nb\n2\n".to_owned())
    );
    ensure!(run("select 1 as a; select nothing; select 3 as c;")? == (Some(exit::FAILED), "a\n1\n".to_owned()));
    ensure!(run("select count(*) as bad from ops.quarantine")? == (Some(exit::DONE), "bad\n0\n".to_owned()));
    Ok(())
}
