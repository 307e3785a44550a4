use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::{Diagnostic, Fault};

/// A project whose only contract file is `yaml`.
fn project(yaml: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "models/staging/_shop__sources.yml", yaml);
    dir
}

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A source `shop.orders` with these options and columns, given as flow YAML.
fn table(options: &str, columns: &str) -> String {
    let topic = if options.contains("topic:") { "" } else { ", topic: orders" };
    let options = format!("{}{topic}}}", options.strip_suffix('}').expect("options are a flow mapping"));
    format!(
        "sources:\n- name: shop\n  tables:\n  - name: orders\n    config: {{meta: {{tidemill: {options}}}}}\n    columns: {columns}\n"
    )
}

const ID_AND_AT: &str = "[{name: id, data_type: text}, {name: at, data_type: timestamp}]";

fn load_with(yaml: &str, vars: &Vars) -> Result<Contracts, ContractError> {
    load_dir(project(yaml).path(), vars)
}

fn contract(yaml: &str) -> Contract {
    let contracts = load_with(yaml, &Vars::default()).unwrap_or_else(|error| panic!("{}", describe(&error)));
    assert_eq!(contracts.contracts.len(), 1);
    contracts.contracts.into_iter().next().unwrap()
}

/// All faults, one a line: place in the file, code, text, way out.
fn faults(yaml: &str) -> String {
    describe(&load_with(yaml, &Vars::default()).unwrap_err())
}

fn describe(error: &ContractError) -> String {
    let one = Fault {
        code: error.code(),
        message: error.to_string(),
        location: error.location().cloned(),
        hint: error.hint(),
    };
    let all = if error.faults().is_empty() { std::slice::from_ref(&one) } else { error.faults() };
    let lines: Vec<String> = all
        .iter()
        .map(|fault| {
            let place = fault.location.as_ref().map_or_else(String::new, |at| format!("{}:{} ", at.line, at.column));
            let code = fault.code.map_or_else(String::new, |code| format!("{code} "));
            let hint = fault.hint.as_ref().map_or_else(String::new, |hint| format!(" -> {hint}"));
            format!("{place}{code}{}{hint}", fault.message)
        })
        .collect();
    lines.join("\n")
}

#[test]
fn a_small_contract_takes_the_defaults() {
    let contract = contract(&table("{topic: orders, event_time: at}", ID_AND_AT));
    assert_eq!(contract.name, SourceName::new("shop", "orders"));
    assert_eq!(contract.system, "shop");
    assert_eq!(contract.topics, [TopicRule { pattern: "orders".into(), defaults: vec![] }]);
    assert_eq!(contract.key, [KeyRule::Coordinates]);
    assert_eq!(contract.partition_by, PartitionBy::Day);
    assert_eq!(contract.on_extra, OnExtra::Keep);
    assert_eq!(contract.grace, Duration::from_mins(15));
    assert_eq!(contract.max_record_bytes, 1 << 20);
    assert_eq!(contract.min_event_time_us, 946_684_800_000_000);
    assert_eq!(contract.max_future, Duration::from_hours(24));
    assert!(contract.enabled);
    assert_eq!((contract.location.line, contract.location.column), (4, 11));
    let required: Vec<bool> = contract.columns.iter().map(|column| column.required).collect();
    assert_eq!(required, [false, true], "the event time, and nothing else, is required");
    assert_eq!(contract.columns[0].paths, [["id".to_owned()]]);
}

#[test]
fn every_option_is_read() {
    let contract = contract(
        r"
sources:
- name: shop
  config: {meta: {tidemill: {system: till, grace: 30, on_extra: drop}}}
  tables:
  - name: orders
    description: >
      Orders.
    meta:
      tidemill:
        topics: [orders, {name: '^old\..*', set: {kind: old}}]
        event_time: {column: at, unit: ms, time_zone: Europe/Berlin}
        idempotency_key: [{field: id}, {header: ce_id}, {hash: [user, at]}]
        partition_by: hour
        on_extra: quarantine
        on_missing: unknown
        max_record_bytes: 2 KiB
        min_event_time: 2020-01-01
        max_future: 1h
        enabled: false
        format: json
    columns:
    - {name: id, data_type: uuid}
    - {name: at, data_type: timestamp}
    - name: user
      data_type: bigint
      config: {meta: {tidemill: {from: [data.user.id, user], required: true, accept_text: true, min: 1, max: 9.5}}}
    - name: kind
      data_type: text
      config: {meta: {tidemill: {aliases: {meals: meal}, accepted_values: [meal, old], max_bytes: 9, pii: true}}}
    - name: note
      data_type: varchar
      config: {meta: {tidemill: {required_when: {column: kind, in: [meal]}, empty_is_missing: true}}}
    - name: code
      data_type: text
      config: {meta: {tidemill: {required_without: user, from_when: {column: kind, in: [old], from: [old.code, no]}}}}
    - {name: amount, data_type: 'numeric(12, 2)', config: {meta: {tidemill: {on_missing: 0.50}}}}
    - {name: host, data_type: text, meta: {tidemill: {text_format: ip, on_missing: ''}}}
",
    );
    assert_eq!((contract.system.as_str(), contract.description.as_str()), ("till", "Orders."));
    assert_eq!(contract.grace, Duration::from_secs(30));
    assert_eq!(contract.on_extra, OnExtra::Quarantine, "the table's word counts before its source's");
    assert_eq!(
        contract.topics,
        [
            TopicRule { pattern: "orders".into(), defaults: vec![] },
            TopicRule { pattern: r"^old\..*".into(), defaults: vec![("kind".into(), "old".into())] },
        ]
    );
    assert_eq!(
        contract.key,
        [KeyRule::Field("id".into()), KeyRule::Header("ce_id".into()), KeyRule::Hash(vec!["user".into(), "at".into()]),]
    );
    assert_eq!(contract.partition_by, PartitionBy::Hour);
    assert_eq!(contract.max_record_bytes, 2048);
    assert_eq!(contract.min_event_time_us, 1_577_836_800_000_000);
    assert_eq!(contract.max_future, Duration::from_hours(1));
    assert!(!contract.enabled);

    let column = |name: &str| contract.column(name).unwrap();
    assert_eq!(column("id").text_format, Some(TextFormat::Uuid));
    assert_eq!(column("id").on_missing.as_deref(), Some("unknown"));
    assert!(column("id").empty_is_missing);
    assert_eq!(column("at").time_unit, Some(TimeUnit::Millisecond));
    assert_eq!(column("at").time_zone.as_deref(), Some("Europe/Berlin"));
    assert_eq!(column("user").paths, [vec!["data".to_owned(), "user".into(), "id".into()], vec!["user".into()]]);
    assert_eq!((column("user").min, column("user").max), (Some(1.0), Some(9.5)));
    assert!(column("user").accept_text && column("user").required);
    assert_eq!(column("kind").aliases, [("meals".to_owned(), "meal".to_owned())]);
    assert_eq!(column("kind").accepted_values, ["meal", "old"]);
    assert_eq!(column("kind").max_bytes, Some(9));
    assert!(column("kind").pii);
    assert_eq!(column("note").required_when, Some(("kind".into(), vec!["meal".into()])));
    assert_eq!(column("note").on_missing, None, "a default would make the condition void");
    assert_eq!(column("code").required_without.as_deref(), Some("user"));
    assert_eq!(column("code").on_missing, None, "here, too");
    let when = PathsWhen {
        column: "kind".into(),
        values: vec!["old".into()],
        paths: vec![vec!["old".into(), "code".into()], vec!["no".into()]],
    };
    assert_eq!(column("code").paths_when, Some(when));
    assert_eq!(column("amount").on_missing.as_deref(), Some("0.50"), "the spelling is kept");
    assert_eq!(column("amount").data_type, ColumnType::Decimal(12, 2));
    assert_eq!(column("host").on_missing.as_deref(), Some(""), "the column's word counts before the table's");
    assert_eq!(column("host").text_format, Some(TextFormat::Ip));
}

#[test]
fn keys_can_be_written_in_short() {
    let key = |key: &str| {
        let columns = "[{name: id, data_type: text}, {name: n, data_type: bigint}, {name: at, data_type: timestamp}]";
        contract(&table(&format!("{{event_time: at, idempotency_key: {key}}}"), columns)).key
    };
    let field = || KeyRule::Field("id".into());
    let hash = || KeyRule::Hash(vec!["id".into(), "n".into()]);
    assert_eq!(key("id"), [field()]);
    assert_eq!(key("[id]"), [field()]);
    assert_eq!(key("{field: id}"), [field()]);
    assert_eq!(key("[id, n]"), [hash()]);
    assert_eq!(key("{hash: [id, n]}"), [hash()]);
    assert_eq!(key("[{hash: id}]"), [KeyRule::Hash(vec!["id".into()])]);
    assert_eq!(key("coordinates"), [KeyRule::Coordinates]);
    assert_eq!(key("topic_partition_offset"), [KeyRule::Coordinates]);
    assert_eq!(key("[id, coordinates]"), [field(), KeyRule::Coordinates]);
    assert_eq!(key("[{field: id}, [id, n]]"), [field(), hash()]);
    assert_eq!(key("[{header: h}, {coordinates: true}]"), [KeyRule::Header("h".into()), KeyRule::Coordinates]);
}

#[test]
fn the_only_key_column_becomes_required() {
    let yaml = table("{event_time: at, idempotency_key: id}", ID_AND_AT);
    assert!(contract(&yaml).column("id").unwrap().required);
    let yaml = table("{event_time: at, idempotency_key: [id, coordinates]}", ID_AND_AT);
    assert!(!contract(&yaml).column("id").unwrap().required);
}

#[test]
fn all_faults_of_a_file_are_told_at_once() {
    let yaml = r"
sources:
- name: shop
  tables:
  - name: orders
    config:
      meta:
        tidemill:
          topik: orders
          topics: [{name: '^(', set: {kind: x}}, 'a b']
          event_time: created
          idempotency_key: [idd, at]
          partition_by: week
          grace: soon
          max_record_bytes: many
          enabled: perhaps
    columns:
    - {name: id, data_type: texd}
    - {name: created_at, data_type: timestamp, config: {meta: {tidemill: {unit: sec, min: 1, piii: true}}}}
    - {name: _offset, data_type: bigint}
    - {name: at}
";
    insta::assert_snapshot!(faults(yaml), @r#"
    9:11 TM0003 key is not known, section=`tidemill`, key=`topik` -> did you mean `topic`?
    10:27 TM0005 value is not usable, key=`topic`, value=`^(` -> the regular expression is not valid: unclosed group
    10:50 TM0005 value is not usable, key=`topic`, value=`a b` -> letters, digits, `.`, `_`, `-`; a regular expression begins with ^
    11:23 TM0009 column does not exist, key=`event_time`, column=`created` -> did you mean `created_at`?
    12:29 TM0009 column does not exist, key=`idempotency_key`, column=`idd` -> did you mean `id`?
    13:25 TM0005 value is not usable, key=`partition_by`, value=`week` -> one of: day, hour
    14:18 TM0005 value is not usable, key=`grace`, value=`soon` -> write seconds, or a number with its unit: 900, "15m", "24h"
    15:29 TM0005 value is not usable, key=`max_record_bytes`, value=`many` -> write a number of bytes or a text such as "64 MiB"
    16:20 TM0004 value has the wrong type, key=`enabled`, expected=`boolean`, found=`text`
    18:29 TM0005 value is not usable, key=`data_type`, value=`texd` -> `texd` is no type; did you mean `text`?
    19:81 TM0005 value is not usable, key=`unit`, value=`sec` -> one of: s, ms, us, ns, second, millisecond, microsecond, nanosecond
    19:91 TM0010 option does not fit the column's type, column=`created_at`, key=`min` -> `min` is for numbers
    19:94 TM0003 key is not known, section=`columns[].tidemill`, key=`piii` -> did you mean `pii`?
    20:14 TM0010 column name is reserved, column=`_offset` -> take another name and read the field by its path: from: _offset
    21:7 TM0007 key is missing, key=`data_type` -> give column `at` a type: data_type: text
    "#);
}

#[test]
fn a_key_that_may_be_absent_or_never_comes_is_refused() {
    let key = |key: &str| faults(&table(&format!("{{event_time: at, idempotency_key: {key}}}"), ID_AND_AT));
    insta::assert_snapshot!(key("[{hash: [id, at]}, {field: id}]"), @"5:92 TM0010 key rule is never reached, key=`idempotency_key` -> the rule before it gives every record a key; put it last");
    insta::assert_snapshot!(key("{field: id, header: h}"), @"5:65 TM0010 key rule needs exactly one key, key=`idempotency_key` -> write a list of rules: [{field: event_id}, {hash: [user_id, created_at]}]");
    insta::assert_snapshot!(key("[]"), @"5:65 TM0005 value is not usable, key=`idempotency_key`, value=`` -> name a column, or leave the key out for coordinates");
    let optional = table(
        "{event_time: at, idempotency_key: id}",
        "[{name: id, data_type: text, meta: {tidemill: {required: false}}}, {name: at, data_type: timestamp}]",
    );
    insta::assert_snapshot!(faults(&optional), @"5:65 TM0010 records without this column have no key, key=`idempotency_key`, column=`id` -> leave it required, or add a rule: [{field: id}, coordinates]");
    let double = table(
        "{event_time: at, idempotency_key: [x, at]}",
        "[{name: x, data_type: double}, {name: at, data_type: timestamp}]",
    );
    insta::assert_snapshot!(faults(&double), @"5:66 TM0004 column cannot be part of a key, key=`idempotency_key`, column=`x` -> one value has several spellings in this type; a field is text or bigint, a hash takes times, dates, booleans and decimals too");
}

#[test]
fn a_column_that_decides_where_another_is_read_from_stands_before_it() {
    let column = |name: &str, other: &str| {
        format!(
            "    - {{name: {name}, data_type: text, meta: {{tidemill: {{from_when: {{column: {other}, in: [x], from: z}}}}}}}}\n"
        )
    };
    let yaml = format!(
        "sources:\n- name: s\n  tables:\n  - name: t\n    meta: {{tidemill: {{event_time: at, idempotency_key: id}}}}\n    columns:\n\
         {}    - {{name: at, data_type: timestamp}}\n    - {{name: id, data_type: text}}\n{}",
        column("a", "id"),
        column("b", "kind"),
    );
    insta::assert_snapshot!(faults(&yaml), @r"
    7:63 TM0010 column that decides stands behind, key=`from_when`, column=`a`, other=`id` -> list `id` before `a`
    10:63 TM0009 column does not exist, key=`from_when`, column=`kind` -> did you mean `id`?
    ");
}

#[test]
fn an_event_time_needs_a_time_and_an_integer_its_unit() {
    let with = |options: &str, data_type: &str| table(options, &format!("[{{name: at, data_type: {data_type}}}]"));
    insta::assert_snapshot!(faults(&with("{topic: x}", "timestamp")), @"4:5 TM0007 key is missing, key=`event_time` -> name the column that says when an event happened: event_time: created_at");
    insta::assert_snapshot!(faults(&with("{event_time: at}", "bigint")), @"5:44 TM0007 event time is an integer without a unit, column=`at` -> write event_time: {column: at, unit: s}, with s, ms, us or ns");
    insta::assert_snapshot!(faults(&with("{event_time: at}", "text")), @"5:44 TM0004 event time is no time, column=`at` -> declare the column as timestamp, as date, or as bigint with a unit");
    assert_eq!(
        contract(&with("{event_time: {column: at, unit: s}}", "bigint")).columns[0].time_unit,
        Some(TimeUnit::Second)
    );
    insta::assert_snapshot!(faults(&with("{event_time: {column: at, time_zone: Europa/Berlin}}", "timestamp")), @"5:68 TM0005 value is not usable, key=`time_zone`, value=`Europa/Berlin` -> did you mean `Europe/Berlin`?");
}

/// Rows of files have no coordinates: each of them would be quarantined.
#[test]
fn a_table_without_topics_needs_a_key() {
    let yaml = table("{event_time: at}", ID_AND_AT).replace(", topic: orders", "");
    insta::assert_snapshot!(faults(&yaml), @"4:5 TM0007 table has neither topics nor an idempotency key -> name the topic (topic: orders); a table fed by files alone needs a key that its rows carry (idempotency_key: order_id)");
    let yaml = table("{event_time: at, idempotency_key: id}", ID_AND_AT).replace(", topic: orders", "");
    assert!(contract(&yaml).topics.is_empty());
}

#[test]
fn variables_keep_their_type() {
    let dir = project(&table(
        "{event_time: at, grace: \"{{ var('grace_s') }}\", enabled: \"{{ var('on', True) }}\", topic: \"{{ var(\\\"prefix\\\") }}.orders\"}",
        ID_AND_AT,
    ));
    write(
        dir.path(),
        "dbt_project.yml",
        "name: shop\nvars:\n  grace_s: 10\n  prefix: global\n  shop:\n    prefix: scoped\n    on: false\n",
    );
    let load = |overrides: BTreeMap<String, serde_json::Value>| {
        let vars = Vars::load(dir.path(), &overrides).unwrap();
        load_dir(dir.path(), &vars).unwrap().contracts.remove(0)
    };
    let contract = load(BTreeMap::new());
    assert_eq!(contract.grace, Duration::from_secs(10));
    assert_eq!(contract.topics[0].pattern, "scoped.orders", "the project's own variables count before global ones");
    assert!(!contract.enabled);
    let contract = load(BTreeMap::from([("prefix".to_owned(), json!("given")), ("grace_s".to_owned(), json!(7))]));
    assert_eq!((contract.topics[0].pattern.as_str(), contract.grace.as_secs()), ("given.orders", 7));
}

#[test]
fn a_variable_that_is_not_set_is_a_fault() {
    let vars: Vars = [("grace_s".to_owned(), json!(10))].into_iter().collect();
    let of = |value: &str| {
        let yaml = table(&format!("{{event_time: at, grace: {value}}}"), ID_AND_AT);
        describe(&load_with(&yaml, &vars).unwrap_err())
    };
    insta::assert_snapshot!(of("\"{{ var('grace') }}\""), @"5:55 TM0006 variable is not set, var=`grace` -> did you mean `grace_s`?");
    insta::assert_snapshot!(of("\"{{ env_var('GRACE') }}\""), @"5:55 TM0005 expression is not understood in a contract, expression=`env_var('GRACE')` -> contracts know {{ var('name') }} and {{ var('name', default) }}");
    insta::assert_snapshot!(of("{{ var('grace_s') }}"), @r#"5:55 TM0004 value has the wrong type, key=`grace`, expected=`duration`, found=`braces without quotes` -> put the expression in quotes: "{{ … }}""#);
}

#[test]
fn plain_dbt_sources_and_other_files_are_left_alone() {
    let dir = project(&table("{topic: orders, event_time: at}", ID_AND_AT));
    write(dir.path(), "models/other.yaml", "sources:\n- name: crm\n  tables: [{name: customers}]\n");
    write(dir.path(), "models/marts/marts.yml", "models:\n- name: m\n  description: '{% broken'\n");
    write(dir.path(), "models/.hidden/x.yml", "sources: [");
    write(dir.path(), "elsewhere/x.yml", "sources: [");
    let contracts = load_dir(dir.path(), &Vars::default()).unwrap();
    assert_eq!(contracts.contracts.len(), 1);
    assert_eq!(contracts.files.len(), 2);
    assert!(contracts.get(&SourceName::new("shop", "orders")).is_some());
    assert!(contracts.get(&SourceName::new("crm", "customers")).is_none());
}

#[test]
fn model_folders_are_those_of_the_project() {
    let dir = project("sources: [");
    write(dir.path(), "dbt_project.yml", "name: p\nmodel-paths: [sql, more]\n");
    write(dir.path(), "more/deep/any_name.yaml", &table("{topic: orders, event_time: at}", ID_AND_AT));
    assert_eq!(load_dir(dir.path(), &Vars::default()).unwrap().contracts.len(), 1);
}

#[test]
fn faults_of_several_files_come_together() {
    let dir = project("sources: [");
    write(dir.path(), "models/b.yml", &table("{topic: orders, event_time: att}", ID_AND_AT));
    let error = load_dir(dir.path(), &Vars::default()).unwrap_err();
    let files: Vec<_> =
        error.faults().iter().map(|fault| fault.location.as_ref().unwrap().file.file_name().unwrap()).collect();
    assert_eq!(files, ["b.yml", "_shop__sources.yml"]);
    assert_eq!(error.to_string(), "the project's files have 2 faults");
}

#[test]
fn a_table_that_is_declared_twice_is_refused() {
    let dir = project(&table("{topic: orders, event_time: at}", ID_AND_AT));
    write(dir.path(), "models/z.yml", &table("{topic: orders, event_time: at}", ID_AND_AT));
    let error = load_dir(dir.path(), &Vars::default()).unwrap_err();
    assert_eq!(error.to_string(), "source table is declared twice, source=`shop.orders`");
    assert!(error.location().unwrap().file.ends_with("models/z.yml"));
}

#[test]
fn dbt_can_switch_a_source_off() {
    let yaml = table("{topic: orders, event_time: at}", ID_AND_AT)
        .replace("- name: shop\n", "- name: shop\n  config: {enabled: \"{{ var('shop_on', false) }}\"}\n");
    assert!(!contract(&yaml).enabled);
}

#[test]
fn anchors_and_merges_work() {
    let yaml = table(
        "{topic: orders, event_time: at}",
        "[{name: at, data_type: timestamp}, {name: a, data_type: bigint, meta: {tidemill: &n {min: 1, pii: true}}}, \
         {name: b, data_type: bigint, meta: {tidemill: {<<: *n, min: 5}}}]",
    );
    let contract = contract(&yaml);
    let b = contract.column("b").unwrap();
    assert_eq!((b.min, b.pii), (Some(5.0), true));
}

#[test]
fn the_shipped_contracts_load() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dbt-like-models");
    let vars = Vars::load(&models, &BTreeMap::new()).unwrap();
    let contracts = load_dir(&models, &vars).unwrap_or_else(|error| panic!("{}", describe(&error)));
    for name in [SourceName::new("zoner", "user_activity"), SourceName::new("logins", "user_login")] {
        assert!(contracts.get(&name).is_some(), "{name}");
    }
    let logins = contracts.get(&SourceName::new("logins", "user_login")).unwrap();
    assert_eq!(logins.column("ip").unwrap().on_missing.as_deref(), Some("unknown"));
    assert_eq!(logins.grace, Duration::from_secs(10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever an editor did to the file: it loads, or each fault names a place that the file has.
    #[test]
    fn a_file_with_a_hole_loads_or_tells_where(start in 0.0..1.0, length in 0_usize..60) {
        let shipped = include_str!("../../../../dbt-like-models/models/staging/zoner/_zoner__sources.yml");
        let letters: Vec<char> = shipped.chars().collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a length")]
        let from = (start * letters.len() as f64) as usize;
        let rest = (from + length).min(letters.len());
        let text: String = letters[..from].iter().chain(&letters[rest..]).collect();
        if let Err(error) = load_with(&text, &Vars::default()) {
            let lines = text.lines().count();
            let all: Vec<Fault> = error.faults().to_vec();
            prop_assert!(error.location().is_some() || all.len() > 1, "{error:?}");
            for fault in all {
                let location = fault.location.expect("a fault of a contract has a place");
                prop_assert!(location.line >= 1 && location.line <= lines + 1, "{location} of {lines}");
            }
        }
    }
}

#[test]
fn a_schema_is_read_from_beside_the_contract_and_its_faults_have_a_place() {
    let yaml = table("{event_time: at, format: avro, schema: schemas/order.avsc}", ID_AND_AT);
    let dir = project(&yaml);
    let load = || load_dir(dir.path(), &Vars::default());
    let text = describe(&load().unwrap_err());
    assert!(text.contains("the file cannot be read") && text.contains("schemas/order.avsc"), "{text}");
    write(dir.path(), "models/staging/schemas/order.avsc", "{");
    assert!(describe(&load().unwrap_err()).contains("the file is not JSON"));
    write(dir.path(), "models/staging/schemas/order.avsc", r#"{"type": "record"}"#);
    let contract = load().unwrap_or_else(|error| panic!("{}", describe(&error))).contracts.remove(0);
    let schema = contract.schema.expect("a schema");
    assert_eq!((contract.format, schema.text.as_str()), (Format::Avro, r#"{"type": "record"}"#));
    assert!(schema.path.ends_with("models/staging/schemas/order.avsc"));
    assert!(contract.format.needs_registry() && !Format::Json.needs_registry());
}

#[test]
fn a_variable_switches_between_avro_and_json() {
    let yaml = table("{event_time: at, format: \"{{ var('orders_format', 'avro') }}\"}", ID_AND_AT);
    assert_eq!(contract(&yaml).format, Format::Avro);
    let json: Vars = [("orders_format".to_owned(), json!("json"))].into_iter().collect();
    assert_eq!(load_with(&yaml, &json).unwrap().contracts[0].format, Format::Json);
}
