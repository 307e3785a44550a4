//! Record values.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use tidemill_ingest::decode::{Decoder, NoHeaders, Pushed, Record, RejectionClass};
use tidemill_project::contract::{Contract, Vars, load_dir};
use tidemill_tests::installed;
use tidemill_tests::seed::Seeded;
use tidemill_tests::simulated::simulate;

use crate::fuzz;
use crate::mutate::mutate;

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "{\"a\":",
    "[[",
    "\\u0000",
    "\\ud800",
    "\\ud83e\\udd80",
    "\\",
    "Infinity",
    "-Infinity",
    "1E+2",
    "1.",
    ".5",
    "01",
    "- 1",
    "0.1000000000000000055511151231257827021181583404541015625",
    "1741392000123456789",
    "1e-400",
    "{\"user_id\":1,\"user_id\":2}",
    "\"timestamp\"",
    "\"user_id\":",
    "\"event_id\":\"",
    "/*x*/",
    "\u{2028}",
    "\u{7f}",
];

/// The shipped contracts.
fn contracts() -> Result<Vec<Contract>> {
    let models = installed::repository().join("dbt-like-models");
    let vars = Vars::load(&models, &std::collections::BTreeMap::new())?;
    Ok(load_dir(&models, &vars)?.contracts)
}

fn record(payload: &[u8]) -> Record<'_> {
    Record {
        payload: Some(payload),
        headers: &NoHeaders,
        topic: Some("events"),
        topic_rule: Some(0),
        partition: Some(0),
        offset: Some(0),
        place_in_file: None,
        timestamp_us: Some(1_741_478_410_000_000),
        clock_us: 1_741_478_410_000_000,
    }
}

/// What a parser of another house says: `None` where the two may differ by decision.
fn is_an_object(payload: &[u8]) -> Option<bool> {
    let payload = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
    let text = String::from_utf8_lossy(payload);
    // Numbers that are no JSON, and numbers that no double holds.
    if text.contains("NaN") || text.contains("Infinity") {
        return None;
    }
    match serde_json::from_slice::<Value>(payload) {
        Ok(value) => Some(value.is_object()),
        Err(error) if error.to_string().contains("number out of range") => None,
        Err(error) if error.to_string().contains("recursion limit") => None,
        Err(_) => Some(false),
    }
}

#[test]
fn no_value_panics_and_each_has_one_fate_that_does_not_depend_on_its_neighbours() -> Result<()> {
    let contracts = contracts()?;
    let records: Vec<Vec<u8>> = simulate(1, 2_000).records.into_iter().map(|record| record.value).collect();
    let others: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    fuzz("decoder", 6_000, |random, kept| {
        let payloads: Vec<Vec<u8>> = (0..=random.index(40))
            .map(|_| {
                let original = others[random.index(others.len())];
                mutate(random, original, &others, WORDS)
            })
            .collect();
        kept.write("values", &payloads.join(&b"\n---\n"[..]))?;
        for contract in &contracts {
            check(contract, &payloads)?;
        }
        Ok(())
    })
}

fn check(contract: &Contract, payloads: &[Vec<u8>]) -> Result<()> {
    let mut together = Decoder::new(contract)?;
    together.begin(payloads.len());
    let pushed: Vec<Pushed> = payloads.iter().map(|payload| together.push(&record(payload))).collect();
    let together = together.finish()?;
    let landed = pushed.iter().filter(|pushed| matches!(pushed, Pushed::Landed(_))).count();
    ensure!(landed == together.batch.num_rows() && landed == together.rows.len(), "rows are lost or doubled");
    ensure!(landed + together.rejections.len() == payloads.len(), "a record has no fate, or two");

    let mut alone = Decoder::new(contract)?;
    let mut rejections = together.rejections.iter();
    for (payload, pushed) in payloads.iter().zip(&pushed) {
        let shown = || String::from_utf8_lossy(&payload[..payload.len().min(300)]).into_owned();
        alone.begin(1);
        let again = alone.push(&record(payload));
        let one = alone.finish()?;
        match (pushed, again) {
            (Pushed::Landed(row), Pushed::Landed(0)) => {
                ensure!(one.batch == together.batch.slice(*row, 1), "a row depends on its neighbours: {}", shown());
                ensure!(is_an_object(payload) != Some(false), "what is no JSON object landed: {}", shown());
            }
            (Pushed::Rejected(class), Pushed::Rejected(same)) if *class == same => {
                let rejection = rejections.next().context("each rejection is told")?;
                ensure!(rejection.message == one.rejections[0].message, "a message depends on neighbours: {}", shown());
                let faulty = *class == RejectionClass::Malformed;
                ensure!(
                    !faulty || is_an_object(payload) != Some(true),
                    "a JSON object is called malformed ({}): {}",
                    rejection.message,
                    shown()
                );
            }
            (first, second) => anyhow::bail!("{first:?} among others, {second:?} alone: {}", shown()),
        }
    }
    let extra = together.batch.column_by_name("_extra").context("raw tables have `_extra`")?;
    let extra = extra.as_any().downcast_ref::<arrow::array::StringArray>().context("`_extra` is text")?;
    for text in extra.iter().flatten() {
        match serde_json::from_str::<Map<String, Value>>(text) {
            // Texts are kept as they are, whatever a double holds.
            Err(error) if error.to_string().contains("number out of range") => {}
            parsed => drop(parsed.with_context(|| format!("`_extra` is no object: {text}"))?),
        }
    }
    Ok(())
}

#[test]
fn any_bytes_have_a_fate() -> Result<()> {
    let contracts = contracts()?;
    fuzz("bytes", 20_000, |random: &mut Seeded, kept| {
        let payload: Vec<u8> =
            (0..random.index(80)).map(|_| u8::try_from(random.below(256)).expect("a byte")).collect();
        kept.write("value", &payload)?;
        for contract in &contracts {
            check(contract, std::slice::from_ref(&payload))?;
        }
        Ok(())
    })
}
