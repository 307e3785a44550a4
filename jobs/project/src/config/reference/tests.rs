use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::*;
use crate::config::{IngestSettings, MaintenanceSettings, SettingsRequest, TransformSettings, load};
use crate::contract::{Contract, Vars, load_dir};
use crate::error::Diagnostic;

#[test]
fn the_page_in_docs_is_the_one_made_from_the_code() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md")).unwrap();
    assert!(
        page == render_markdown(),
        "docs/configuration.md is out of date; run from the top: \
         cargo run --release -p tidemill-project --example configuration_reference > docs/configuration.md"
    );
}

#[test]
fn no_key_is_told_twice() {
    for table in [SETTINGS, CONTRACT] {
        let keys: BTreeSet<_> = table.iter().map(|doc| doc.key).collect();
        assert_eq!(keys.len(), table.len());
    }
}

#[test]
fn sections_know_their_keys() {
    assert_eq!(
        settings_keys(""),
        ["name", "default_target", "models_dir", "ingest", "transform", "maintenance", "target"]
    );
    assert_eq!(
        settings_keys("target.<name>"),
        ["kafka", "lake", "warehouse", "collect", "registry", "sinks", "ingest", "transform", "maintenance"]
    );
    assert_eq!(settings_keys("target.<name>.lake"), ["url", "options"]);
    assert_eq!(contract_keys("topics[]"), ["name", "set"]);
    assert_eq!(contract_keys("columns[].required_when"), ["column", "in"]);
    assert!(!contract_keys("").contains(&"columns[]"));
}

fn load_toml(text: &str) -> Result<crate::config::Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tidemill.toml"), text).unwrap();
    std::fs::create_dir(dir.path().join("dbt")).unwrap();
    for secret in ["new.p8", "old.p8"] {
        std::fs::write(dir.path().join(secret), "-----BEGIN PRIVATE KEY-----").unwrap();
    }
    let env = ["KAFKA_PASSWORD", "SNOWFLAKE_PASSPHRASE", "SNOWFLAKE_PASSWORD", "REGISTRY_KEY", "REGISTRY_SECRET"];
    let env: BTreeMap<String, String> = env
        .iter()
        .map(|name| ((*name).to_owned(), "x".to_owned()))
        .chain([("REDIS_URL".to_owned(), "redis://cache:6379".to_owned())])
        .collect();
    let request = SettingsRequest { cwd: dir.path().to_path_buf(), env, ..SettingsRequest::default() };
    load(&request).map_err(|error| format!("{error}: {:?} {:?}", error.location(), error.faults()))
}

/// What a section needs beside the key under test.
fn file_with(key: &str, line: &str) -> String {
    let section = key.rsplit_once('.').map_or("", |(section, _)| section).replace("<name>", "local");
    // Files that examples name lie elsewhere on other machines.
    let line = line.replace("file:/run/secrets/snowflake.p8", "file:new.p8");
    let line = line.replace("file:/run/secrets/snowflake_pat", "file:new.p8");
    let line = line.replace("file:/run/secrets/snowflake_oauth", "file:new.p8");
    let mut before = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
    // The property of the example may be that one itself.
    if key.contains("kafka") && !line.contains("bootstrap.servers") {
        before.push_str("\"bootstrap.servers\" = \"b\"\n");
    }
    if key.contains(".collect.") {
        return collect_file_with(key, &line);
    }
    if key.contains(".registry.") {
        return registry_file_with(key, &line);
    }
    let is_snowflake = key.contains(".warehouse.") && key.rsplit('.').next() != Some("path");
    if !is_snowflake {
        return format!("{before}{line}\n");
    }
    let mut file = String::from("[target.local.warehouse]\n");
    let is = |name: &str| key.ends_with(name);
    if !is(".type") {
        file.push_str("type = \"snowflake\"\n");
    }
    if !is(".account") {
        file.push_str("account = \"a\"\n");
    }
    if !is(".user") {
        file.push_str("user = \"u\"\n");
    }
    if !is(".private_key") && !is(".private_keys") && !is(".password") && !is(".token") && !is(".oauth_token") {
        file.push_str("private_key = \"file:new.p8\"\n");
    }
    if is(".<name>") { format!("{file}{before}{line}\n") } else { format!("{file}{line}\n") }
}

/// A registry with what belongs to the key under test.
fn registry_file_with(key: &str, line: &str) -> String {
    let line = line.replace("file:/run/secrets/registry_token", "file:new.p8");
    let others = match key.rsplit('.').next().unwrap_or_default() {
        "url" => "",
        "username" => "url = \"http://r\"\npassword = \"p\"",
        "password" => "url = \"http://r\"\nusername = \"u\"",
        "tls_certificate" => "url = \"http://r\"\ntls_key = \"k\"",
        "tls_key" => "url = \"http://r\"\ntls_certificate = \"c\"",
        _ => "url = \"http://r\"",
    };
    format!("[target.local.registry]\n{others}\n{line}\n")
}

/// The HTTP door with all that it must have, and `line` instead of its own key.
fn collect_file_with(key: &str, line: &str) -> String {
    let hash = "0".repeat(64);
    let line = line.replace("9f86…", &hash).replace("new…", &hash).replace("old…", &hash);
    let line = line.replace("file:/etc/tidemill/jwks.json", "file:new.p8");
    let (section, key) = key.rsplit_once('.').unwrap();
    let part = |heading: &str, lines: &[(&str, String)]| {
        let others: Vec<_> = lines.iter().filter(|(name, _)| *name != key).map(|(_, line)| line.as_str()).collect();
        format!("{heading}\n{}\n{line}\n", others.join("\n"))
    };
    if section == "target.<name>.collect.keys" {
        let lines = [("id", "id = \"a\"".to_owned()), ("sha256", format!("sha256 = \"{hash}\""))];
        return part("[[target.local.collect.keys]]", &lines);
    }
    if section == "target.<name>.collect.oauth" {
        let lines = ["issuer", "audience", "jwks"].map(|name| (name, format!("{name} = \"a\"")));
        return part("[target.local.collect.oauth]", &lines);
    }
    let lines = [
        ("anonymous", "anonymous = true".to_owned()),
        if key == "tls_key" {
            ("tls_certificate", "tls_certificate = \"c\"".to_owned())
        } else if key == "tls_certificate" {
            ("tls_key", "tls_key = \"k\"".to_owned())
        } else {
            ("", String::new())
        },
    ];
    part("[target.local.collect]", &lines)
}

#[test]
fn every_example_of_the_settings_is_accepted() {
    for doc in SETTINGS {
        let file = match doc.key {
            "default_target" => format!("{}\n[target.local]\n", doc.example),
            key => file_with(key, doc.example),
        };
        load_toml(&file).unwrap_or_else(|error| panic!("{}\n{file}\n{error}", doc.key));
    }
}

/// A default that is written down and another one that holds would be worse than none.
#[test]
fn the_defaults_told_are_those_that_hold() {
    let mut file = String::new();
    let mut section = "";
    for doc in SETTINGS {
        let Some((own, key)) = doc.key.split_once('.') else { continue };
        if !["ingest", "transform", "maintenance"].contains(&own) {
            continue;
        }
        if own != section {
            section = own;
            writeln!(file, "[{own}]").unwrap();
        }
        let is_integer = doc.type_name == "integer";
        let quote = if is_integer { "" } else { "\"" };
        writeln!(file, "{key} = {quote}{}{quote}", doc.default).unwrap();
    }
    let settings = load_toml(&file).unwrap();
    assert_eq!(format!("{:?}", settings.ingest), format!("{:?}", IngestSettings::default()));
    assert_eq!(format!("{:?}", settings.transform), format!("{:?}", TransformSettings::default()));
    assert_eq!(format!("{:?}", settings.maintenance), format!("{:?}", MaintenanceSettings::default()));
}

/// A table in which every column that an example names exists.
fn contract_with(table_option: &str, column_option: &str, data_type: &str) -> String {
    let topic = if table_option.starts_with("topic") { "" } else { "topic: orders" };
    let event_time = if table_option.starts_with("event_time") { "" } else { "event_time: created_at" };
    format!(
        "
sources:
- name: s
  tables:
  - name: t
    config:
      meta:
        tidemill:
          {topic}
          {event_time}
          {table_option}
    columns:
    - {{name: created_at, data_type: timestamp}}
    - {{name: timestamp, data_type: timestamp}}
    - {{name: local_time, data_type: timestamp}}
    - {{name: user_id, data_type: text}}
    - {{name: event_id, data_type: text}}
    - {{name: activity, data_type: text}}
    - {{name: event, data_type: text}}
    - {{name: order_id, data_type: text}}
    - name: under_test
      data_type: {data_type}
      config:
        meta:
          tidemill:
            {column_option}
"
    )
}

fn load_contract(yaml: &str) -> Result<Contract, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("models/schemas")).unwrap();
    std::fs::write(dir.path().join("models/s.yml"), yaml).unwrap();
    std::fs::write(dir.path().join("models/schemas/user_action.avsc"), "{}").unwrap();
    let vars: Vars = [("zoner_grace_s".to_owned(), serde_json::json!(900))].into_iter().collect();
    let contracts =
        load_dir(dir.path(), &vars).map_err(|error| format!("{error}: {:?} {:?}", error.hint(), error.faults()))?;
    contracts.contracts.into_iter().next().ok_or_else(|| "there is no contract".to_owned())
}

#[test]
fn every_example_of_a_contract_is_accepted() {
    for doc in CONTRACT {
        let yaml = match doc.key.strip_prefix("columns[].") {
            Some(key) => {
                let data_type = match key {
                    "min" | "max" | "accept_text" | "on_missing" => "bigint",
                    "unit" | "time_zone" => "timestamp",
                    _ => "text",
                };
                contract_with("", doc.example, data_type)
            }
            None if doc.key.starts_with("topics[]") => {
                let (key, value) = doc.example.split_once(": ").unwrap();
                let other = if key == "name" { "" } else { "name: x, " };
                contract_with(&format!("topics: [{{{other}{key}: {value}}}]"), "pii: false", "text")
            }
            None => contract_with(doc.example, "pii: false", "text"),
        };
        load_contract(&yaml).unwrap_or_else(|error| panic!("{}\n{yaml}\n{error}", doc.key));
    }
}

#[test]
fn the_defaults_told_of_contracts_are_those_that_hold() {
    let shape = |yaml: &str| {
        let mut contract = load_contract(yaml).unwrap_or_else(|error| panic!("{yaml}\n{error}"));
        contract.location = crate::Location::new("", 0, 0);
        format!("{contract:?}")
    };
    let plain = shape(&contract_with("", "pii: false", "text"));
    let told = CONTRACT.iter().filter(|doc| !doc.key.contains('.') && is_value(doc.default));
    let told: Vec<String> = told.map(|doc| format!("{}: {}", doc.key, doc.default)).collect();
    assert!(told.len() >= 8, "{told:?}");
    for line in told {
        assert_eq!(shape(&contract_with(&line, "pii: false", "text")), plain, "{line}");
    }
}

#[test]
fn the_contract_of_the_page_is_accepted() {
    let page = render_markdown();
    let yaml = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    load_contract(yaml).unwrap();
}
