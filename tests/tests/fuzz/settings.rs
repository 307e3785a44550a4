//! `tidemill.toml` and contracts.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Result, ensure};
use tidemill_ingest::decode::Decoder;
use tidemill_project::Diagnostic;
use tidemill_project::config::{SettingsRequest, load};
use tidemill_project::contract::{Vars, load_dir};
use tidemill_tests::installed;

use crate::mutate::mutate;
use crate::{corpus, fuzz};

const TOML: &[&str] = &[
    "[",
    "]",
    "[[target]]",
    "[target.local]",
    "[target.prod.kafka]",
    "= ",
    "'''",
    "\"\"\"",
    "${",
    "}",
    "${SECRET}",
    "$${",
    "file:",
    "file:/nowhere",
    "{ a = 1 }",
    "1979-05-27T07:32:00Z",
    "inf",
    "0b1",
    "s3://",
    "s3://a:b@c/",
    "gs://x",
    "az://x/?y",
    "64 MiB",
    "250ms",
    "\"debug\" = \"all\"",
    "a.b.c = 1\n",
    "\"bootstrap.servers\"",
    "type = \"snowflake\"",
    "private_key = \"x\"",
];

const YAML: &[&str] = &[
    "- ",
    ": ",
    "? ",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "|+\n",
    ">-\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "{",
    "}",
    "[",
    "]",
    "~",
    "{{ var('x') }}",
    "{{",
    "}}",
    "name: ",
    "tables:",
    "config: {meta: {tidemill: ",
    "data_type: struct<a bigint>",
    "numeric(39, 50)",
    "list<list<text>>",
    "struct<",
    "topic: \"^(\"",
    "hash: []",
    "unit: ns",
    "partition_by: hour",
    "grace: 1e9",
    "0x7f",
    "yes",
];

#[test]
fn no_settings_panic_and_no_fault_shows_a_secret() -> Result<()> {
    let mut files = corpus(&["tidemill.toml"])?;
    files.push(("tidemill.toml".to_owned(), fs::read(installed::repository().join("tidemill.toml"))?));
    let others: Vec<&[u8]> = files.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    let secret = "hunter2-of-the-environment";
    let env: BTreeMap<String, String> = [
        ("SECRET", secret),
        ("KAFKA_BROKERS", "b:9092"),
        ("KAFKA_USERNAME", "u"),
        ("KAFKA_PASSWORD", secret),
        ("LAKE_BUCKET", "lake"),
        ("AWS_REGION", "eu"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("SNOWFLAKE_ACCOUNT", "a-b"),
        ("SNOWFLAKE_USER", "u"),
        ("SNOWFLAKE_WAREHOUSE", "w"),
        ("SNOWFLAKE_PRIVATE_KEY", "-----BEGIN PRIVATE KEY-----\\nhunter2-of-the-environment"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    fuzz("settings", 4_000, |random, kept| {
        let original = others[random.index(others.len())];
        kept.write("tidemill.toml", &mutate(random, original, &others, TOML))?;
        let target = *random.pick(&[None, Some("prod"), Some("local"), Some("no-such")]);
        let request = SettingsRequest {
            project_dir: Some(kept.folder().to_path_buf()),
            lake: (random.below(5) == 0).then(|| (*random.pick(TOML)).to_owned()),
            target: target.map(str::to_owned),
            env: env.clone(),
            cwd: kept.folder().to_path_buf(),
        };
        match load(&request) {
            Ok(settings) => ensure!(!format!("{settings:?}").contains(secret), "the settings print a secret"),
            Err(error) => {
                let told = format!("{error} {error:?} {:?}", error.hint());
                // Where a key's name or a word stands, people wrote it themselves; a value never comes back.
                ensure!(!told.contains(secret), "a fault shows a secret: {told}");
                ensure!(!error.to_string().is_empty(), "a fault says nothing");
            }
        }
        Ok(())
    })
}

#[test]
fn no_contract_panics_and_those_that_are_taken_decode() -> Result<()> {
    let files = corpus(&["sources.yml"])?;
    let others: Vec<&[u8]> = files.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    let vars = Vars::load(&installed::repository().join("dbt-like-models"), &BTreeMap::new())?;
    fuzz("contracts", 4_000, |random, kept| {
        let original = others[random.index(others.len())];
        kept.write("models/_x__sources.yml", &mutate(random, original, &others, YAML))?;
        match load_dir(kept.folder(), &vars) {
            Ok(contracts) => {
                for contract in &contracts.contracts {
                    // A contract may still name columns that it does not have; that is told, too.
                    let Ok(mut decoder) = Decoder::new(contract) else { continue };
                    decoder.begin(1);
                    decoder.finish()?;
                }
            }
            Err(error) => {
                ensure!(!error.to_string().is_empty(), "a fault says nothing");
                for fault in error.faults() {
                    ensure!(!fault.message.is_empty() && fault.location.is_some(), "a fault has no place: {fault:?}");
                }
            }
        }
        Ok(())
    })
}
