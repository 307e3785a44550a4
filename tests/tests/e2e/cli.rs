//! The command line: exit codes, machine-readable output, a project of one's own.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::tidemill::exit;

const CONTRACT: &str = "{topic: orders, event_time: {column: created_at, unit: s}, idempotency_key: order_id}";
const COLUMNS: [(&str, &str); 3] = [("order_id", "text"), ("created_at", "timestamp"), ("amount", "bigint")];

const ORDERS: &str = "select order_id, created_at, amount from {{ source('shop', 'orders') }}\n";

const ORDERS_YML: &str = "\
models:
  - name: orders
    config: {materialized: table}
    columns:
      - {name: order_id, data_tests: [unique]}
";

/// A project of one's own: one source, one model, one test.
fn shop() -> ProjectBuilder {
    ProjectBuilder::shop(CONTRACT, &COLUMNS).file("models/orders.sql", ORDERS).file("models/orders.yml", ORDERS_YML)
}

fn order(id: &str, created_at: i64, amount: i64) -> String {
    format!("{{\"order_id\": \"{id}\", \"created_at\": {created_at}, \"amount\": {amount}}}\n")
}

/// Ingests a file with this text; what the command says beside its result.
fn ingest(project: &Project, file: &str, text: &str) -> Result<String> {
    let path = project.folder().join(file);
    fs::write(&path, text)?;
    let path = path.display().to_string();
    Ok(project.tidemill().succeed(&["ingest", "--select", "shop.orders", "--from-files", &path])?.stderr)
}

#[test]
fn usage_and_configuration_faults_end_with_2_and_name_the_place() -> Result<()> {
    let project = shop().build()?;
    project.tidemill().expect(exit::USAGE, &["no-such-command"])?;
    project.tidemill().expect(exit::USAGE, &["build", "--no-such-flag"])?;
    let settings = project.folder().join("tidemill.toml");
    let text = fs::read_to_string(&settings)?;
    fs::write(&settings, format!("nmae = \"x\"\n{text}[ingest]\nmax_batch_rows = \"many\"\n"))?;
    let finished = project.tidemill().expect(exit::USAGE, &["ls"])?;
    // All faults at once.
    for word in ["tidemill.toml", "nmae", "max_batch_rows"] {
        ensure!(finished.stderr.contains(word), "{word} is not named: {}", finished.stderr);
    }
    ensure!(finished.stdout.is_empty(), "{}", finished.stdout);
    Ok(())
}

#[test]
fn a_failed_data_test_ends_with_3_and_publishes_nothing() -> Result<()> {
    let project = shop().build()?;
    // One key with two event dates breaks the contract: both rows land, and the unique test says so.
    ingest(&project, "orders.jsonl", &(order("a", 1_741_392_000, 1) + &order("a", 1_741_492_000, 1)))?;
    let finished = project.tidemill().expect(exit::REJECTED, &["build"])?;
    ensure!(finished.stderr.contains("unique") || finished.stdout.contains("unique"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn files_land_once_however_often_they_are_given() -> Result<()> {
    let project = shop().build()?;
    let tidemill = project.tidemill();
    let lines: String = (0..500).map(|number| order(&number.to_string(), 1_741_392_000 + number, number)).collect();
    ingest(&project, "orders.jsonl", &lines)?;
    ingest(&project, "orders.jsonl", &lines)?;
    ingest(&project, "a_copy.jsonl", &lines)?;
    // Half of it is old.
    let more: String = (250..750).map(|number| order(&number.to_string(), 1_741_392_000 + number, number)).collect();
    ingest(&project, "more.jsonl", &more)?;
    ensure!(tidemill.number("select count(*) from shop.orders")? == 750);
    tidemill.succeed(&["reconcile", "--deep"])?;
    tidemill.succeed(&["build"])?;
    ensure!(tidemill.number("select sum(amount) from orders")? == (0..750).sum::<i64>());
    Ok(())
}

#[test]
fn a_broken_record_is_listed_shown_and_let_in_again_by_a_patch() -> Result<()> {
    let project = shop().build()?;
    let tidemill = project.tidemill();
    let broken = "{\"order_id\": \"b\", \"created_at\": \"yesterday\", \"amount\": 7}\n";
    let told = ingest(&project, "orders.jsonl", &(order("a", 1_741_392_000, 5) + broken))?;
    let note = "shop.orders: quarantined bad_event_time 1; tidemill quarantine list --select shop.orders";
    ensure!(told.contains(note), "{told}");
    ensure!(tidemill.number("select count(*) from shop.orders")? == 1);
    let listed = tidemill.json(&["quarantine", "list"])?;
    let id = find_text(&listed, "id").context("the list has an id")?;
    let shown = tidemill.succeed(&["quarantine", "show", &id])?;
    ensure!(shown.stdout.contains("yesterday") && shown.stdout.contains("bad_event_time"), "{}", shown.stdout);
    let patch = "{\"created_at\": 1741392001}";
    tidemill.succeed(&["quarantine", "replay", &id, "--patch", patch, "--dry-run"])?;
    ensure!(tidemill.number("select count(*) from shop.orders")? == 1, "a dry run changed the table");
    // Twice: what has landed is a duplicate then.
    tidemill.succeed(&["quarantine", "replay", &id, "--patch", patch])?;
    tidemill.run(&["quarantine", "replay", &id, "--patch", patch])?;
    ensure!(tidemill.number("select sum(amount) from shop.orders")? == 12);
    tidemill.succeed(&["reconcile", "--deep"])?;
    Ok(())
}

#[test]
fn every_command_prints_one_json_value_on_request() -> Result<()> {
    let project = shop().build()?;
    let tidemill = project.tidemill();
    ingest(&project, "orders.jsonl", &order("a", 1_741_392_000, 5))?;
    for command in [
        &["build"][..],
        &["test"],
        &["ls"],
        &["compile"],
        &["show", "--select", "orders"],
        &["publish"],
        &["reconcile"],
        &["status"],
        &["quarantine", "list"],
        &["sql", "select 1 as one"],
        &["maintain", "--dry-run"],
        &["doctor"],
    ] {
        tidemill.json(command).with_context(|| format!("{command:?}"))?;
    }
    Ok(())
}

#[test]
fn a_build_with_nothing_new_writes_nothing() -> Result<()> {
    let project = shop().build()?;
    let tidemill = project.tidemill();
    ingest(&project, "orders.jsonl", &order("a", 1_741_392_000, 5))?;
    tidemill.succeed(&["build"])?;
    let before = files_of(&project)?;
    tidemill.succeed(&["build"])?;
    ensure!(files_of(&project)? == before, "a second build wrote files");
    Ok(())
}

#[test]
fn an_initialised_project_runs_a_cycle() -> Result<()> {
    let folder = tempfile::TempDir::with_prefix("tidemill-init-")?;
    let mine = folder.path().join("mine");
    let anywhere = tidemill_tests::tidemill::Tidemill::new(folder.path());
    let mine_text = mine.display().to_string();
    anywhere.succeed(&["init", &mine_text])?;
    // A project that is there already is not written over.
    ensure!(anywhere.run(&["init", &mine_text])?.code != Some(exit::DONE));
    let tidemill = tidemill_tests::tidemill::Tidemill::new(&mine);
    tidemill.succeed(&["ls"])?;
    tidemill.succeed(&["build"])?;
    tidemill.succeed(&["status"])?;
    Ok(())
}

#[test]
fn sql_prints_csv_and_tables() -> Result<()> {
    let project = shop().build()?;
    let tidemill = project.tidemill();
    // A model without rows still shows its columns.
    let shown = tidemill.succeed(&["show", "--select", "orders", "--format", "csv"])?;
    ensure!(shown.stdout == "order_id,created_at,amount\n", "{}", shown.stdout);
    ingest(&project, "orders.jsonl", &(order("a", 1_741_392_000, 5) + &order("b", 1_741_392_001, 6)))?;
    let query = "select order_id, amount from shop.orders order by order_id";
    let csv = tidemill.succeed(&["--format", "csv", "sql", query])?;
    ensure!(csv.stdout == "order_id,amount\na,5\nb,6\n", "{}", csv.stdout);
    // What has no form of its own in CSV is JSON text there.
    let nested = "select order_id, make_array(amount, null) as parts, named_struct('paid', amount) as how,
        nullif(make_array(amount), make_array(5)) as late from shop.orders order by order_id";
    let csv = tidemill.succeed(&["--format", "csv", "sql", nested])?;
    let expected =
        "order_id,parts,how,late\na,\"[5,null]\",\"{\"\"paid\"\":5}\",\nb,\"[6,null]\",\"{\"\"paid\"\":6}\",[6]\n";
    ensure!(csv.stdout == expected, "{}", csv.stdout);
    let table = tidemill.succeed(&["sql", query])?;
    ensure!(table.stdout.contains("order_id") && table.stdout.contains('6'), "{}", table.stdout);
    for (wrong, said) in [
        ("select order_ip from shop.orders", "column=`order_ip`, line 1, column 8\nhint: did you mean `order_id`?"),
        (
            "select *\nfrom shop.order",
            "no table of that name, table=`shop.order`, line 2, column 6\nhint: did you mean `shop.orders`?",
        ),
        ("selec 1", "SQL cannot be parsed: expected: an SQL statement, found: selec, line 1, column 1"),
    ] {
        let finished = tidemill.expect(exit::FAILED, &["sql", wrong])?;
        ensure!(finished.stderr.contains(said), "{wrong}: {}", finished.stderr);
    }
    Ok(())
}

/// All files under the project's lake, with their sizes.
fn files_of(project: &Project) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let mut folders = vec![project.lake()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                found.push((entry.path().display().to_string(), entry.metadata()?.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn find_text(value: &Value, name: &str) -> Option<String> {
    match value {
        Value::Array(items) => items.iter().find_map(|item| find_text(item, name)),
        Value::Object(fields) => match fields.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            _ => fields.values().find_map(|item| find_text(item, name)),
        },
        _ => None,
    }
}
