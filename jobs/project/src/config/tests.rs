mod doors;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::error::{Diagnostic, Fault};

/// What must never be seen: every secret of these tests contains it.
const HIDDEN: &str = "hunter2";

fn project(toml: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tidemill.toml"), toml).unwrap();
    dir
}

fn request(dir: &Path) -> SettingsRequest {
    SettingsRequest { cwd: dir.to_path_buf(), ..SettingsRequest::default() }
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load_toml(toml: &str) -> Settings {
    load(&request(project(toml).path())).unwrap_or_else(|error| panic!("{}", describe(&error)))
}

/// All faults, one a line, after the name of the file.
fn faults(toml: &str) -> String {
    describe(&load(&request(project(toml).path())).unwrap_err())
}

fn describe(error: &ConfigError) -> String {
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
            let place = fault.location.as_ref().map_or_else(String::new, |at| format!("{at} "));
            let code = fault.code.map_or_else(String::new, |code| format!("{code} "));
            let hint = fault.hint.as_ref().map_or_else(String::new, |hint| format!(" -> {hint}"));
            format!("{place}{code}{}{hint}", fault.message)
        })
        .collect();
    lines.join("\n")
}

#[test]
fn a_project_without_the_file_is_embedded() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("dbt_project.yml"), "name: p\n").unwrap();
    let deep = dir.path().join("models/staging");
    std::fs::create_dir_all(&deep).unwrap();
    let settings = load(&request(&deep)).unwrap();
    assert_eq!(settings.project_dir, dir.path());
    assert_eq!(settings.models_dir, dir.path());
    assert_eq!(settings.target, "local");
    assert!(settings.kafka.is_none());
    let base = url::Url::from_directory_path(dir.path()).unwrap();
    assert_eq!(settings.lake.url, base.join("target/tidemill/lake/").unwrap());
    let WarehouseSettings::Local(warehouse) = settings.warehouse else { panic!("not local") };
    assert_eq!(warehouse.url, base.join("target/tidemill/warehouse/").unwrap());
}

#[test]
fn without_a_project_the_folder_is_named_and_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let request = SettingsRequest { project_dir: Some("nowhere".into()), ..request(dir.path()) };
    let error = load(&request).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Configuration);
    assert_eq!(
        describe(&error).replace(dir.path().to_str().unwrap(), "DIR"),
        "TM0001 no project was found, folder=`DIR/nowhere` -> a project has a tidemill.toml or a dbt_project.yml in the \
         folder; make one with `tidemill init DIR`"
    );
}

#[test]
fn the_whole_file_is_read() {
    let dir = project(
        r#"
name = "families"
default_target = "prod"
models_dir = "dbt"

[ingest]
max_batch_rows = 50_000
max_batch_bytes = "32 MiB"
start = "2025-03-09T00:00:00Z"

[transform]
threads = 4
memory_budget = 1_000_000

[maintenance]
checkpoint_interval = 10
compact_min_files = 4
target_file_bytes = "1 GB"
retention = "30d"

[target.local.lake]
url = "./lake"

[target.prod.ingest]
max_batch_age = "5s"
memory_budget = "1 GiB"
on_gap = "skip"

[target.prod.kafka]
group = "g"
"bootstrap.servers" = "${BROKERS:-one:9092},two:9092"
security.protocol = "SASL_SSL"
"sasl.password" = "file:kafka.txt"
"socket.keepalive.enable" = true
"session.timeout.ms" = 45000

[target.prod.lake]
url = "s3://${BUCKET}/tidemill"
options = { aws_region = "eu-central-1", aws_secret_access_key = "${SECRET}", aws_allow_http = true }

[target.prod.warehouse]
type = "snowflake"
account = "ACME-ANALYTICS"
user = "LOADER"
role = "R"
warehouse = "W"
url = "http://127.0.0.1:8080"
private_keys = ["file:key.p8", "${KEY}"]
private_key_passphrase = "hunter2 passphrase"
databases = { ZONER_DB = "ZONER_DEV" }
statement_timeout = "30m"
session_parameters = { QUERY_TAG = "t", nop_regexes = ["^ALTER", "^USE"], N = 1 }
"#,
    );
    std::fs::create_dir(dir.path().join("dbt")).unwrap();
    std::fs::write(dir.path().join("kafka.txt"), "  hunter2 kafka\n").unwrap();
    std::fs::write(dir.path().join("key.p8"), "-----BEGIN PRIVATE KEY-----\nhunter2 one\n").unwrap();
    let request = SettingsRequest {
        env: env(&[("BUCKET", "acme"), ("SECRET", "hunter2 s3"), ("KEY", "-----BEGIN X-----\\nhunter2 two")]),
        ..request(dir.path())
    };
    let settings = load(&request).unwrap_or_else(|error| panic!("{}", describe(&error)));

    assert_eq!((settings.name.as_str(), settings.target.as_str()), ("families", "prod"));
    assert_eq!(settings.models_dir, dir.path().join("dbt"));
    assert_eq!(settings.ingest.max_batch_rows, 50_000);
    assert_eq!(settings.ingest.max_batch_bytes, 32 << 20);
    assert_eq!(settings.ingest.max_batch_age, Duration::from_secs(5));
    assert_eq!(settings.ingest.memory_budget_bytes, 1 << 30);
    assert_eq!(settings.ingest.start, StartOffsets::Timestamp(1_741_478_400_000));
    assert_eq!(settings.ingest.on_gap, OnGap::Skip);
    assert_eq!((settings.transform.threads, settings.transform.memory_budget_bytes), (4, 1_000_000));
    assert_eq!(settings.maintenance.checkpoint_interval, 10);
    assert_eq!(settings.maintenance.compact_min_files, 4);
    assert_eq!(settings.maintenance.target_file_bytes, 1_000_000_000);
    assert_eq!(settings.maintenance.retention, Duration::from_hours(30 * 24));

    let kafka = settings.kafka.as_ref().unwrap();
    assert_eq!(kafka.group, "g");
    assert_eq!(kafka.property("bootstrap.servers"), Some("one:9092,two:9092"));
    assert_eq!(kafka.property("security.protocol"), Some("SASL_SSL"), "dots without quotes are joined");
    assert_eq!(kafka.property("sasl.password"), Some("hunter2 kafka"));
    assert_eq!(kafka.property("socket.keepalive.enable"), Some("true"));
    assert_eq!(kafka.property("session.timeout.ms"), Some("45000"));

    assert_eq!(settings.lake.url.as_str(), "s3://acme/tidemill/");
    let option = |name: &str| settings.lake.options.get(name).unwrap().expose_secret().to_owned();
    assert_eq!(option("aws_secret_access_key"), "hunter2 s3");
    assert_eq!(option("aws_allow_http"), "true");

    let WarehouseSettings::Snowflake(snowflake) = &settings.warehouse else { panic!("not Snowflake") };
    assert_eq!((snowflake.account.as_str(), snowflake.user.as_str()), ("ACME-ANALYTICS", "LOADER"));
    assert_eq!((snowflake.role.as_deref(), snowflake.warehouse.as_deref()), (Some("R"), Some("W")));
    assert_eq!(snowflake.url.as_ref().map(url::Url::as_str), Some("http://127.0.0.1:8080/"));
    assert_eq!(snowflake.databases["ZONER_DB"], "ZONER_DEV");
    assert_eq!(snowflake.statement_timeout, Duration::from_mins(30));
    assert_eq!(snowflake.session_parameters["nop_regexes"], serde_json::json!(["^ALTER", "^USE"]));
    let SnowflakeAuth::KeyPair { private_keys, passphrase } = &snowflake.auth else { panic!("no key pair") };
    let keys: Vec<_> = private_keys.iter().map(crate::Secret::expose_secret).collect();
    assert_eq!(keys, ["-----BEGIN PRIVATE KEY-----\nhunter2 one", "-----BEGIN X-----\nhunter2 two"]);
    assert_eq!(passphrase.as_ref().map(crate::Secret::expose_secret), Some("hunter2 passphrase"));

    assert!(!format!("{settings:?}{settings:#?}{request:?}").contains(HIDDEN));
}

#[test]
fn all_faults_of_the_file_are_told_at_once() {
    insta::assert_snapshot!(
        faults(
            r#"
nam = "x"
models_dir = "nowhere"
[ingest]
max_bach_rows = 1
max_batch_age = 250
start = "yesterday"
on_gap = "ignore"
[transform]
threads = 0
[target.local.kafka]
"bootstrap.server" = "x"
"enable.auto.commit" = true
"session.timeout.ms" = "soon"
[target.local.lake]
url = "ftp://x"
[target.prod]
lake = 7
[target.prod.warehouse]
type = "snowflake"
account = "${ACCOUNT}"
path = "x"
url = "http://snowflake.example.com"
password = "hunter2"
token = "hunter2"
"#
        ),
        @r#"
    tidemill.toml:2:1 TM0003 key is not known, key=`nam` -> did you mean `name`?
    tidemill.toml:3:14 TM0005 value is not usable, key=`models_dir`, value=`nowhere` -> the folder does not exist; it is the one with `dbt_project.yml`
    tidemill.toml:5:1 TM0003 key is not known, section=`ingest`, key=`max_bach_rows` -> did you mean `max_batch_rows`?
    tidemill.toml:6:17 TM0005 value is not usable, key=`ingest.max_batch_age`, value=`250` -> write a number with its unit: "250ms", "10s", "15m", "24h", "7d"
    tidemill.toml:7:9 TM0005 value is not usable, key=`ingest.start`, value=`yesterday` -> earliest, latest, a time such as 2025-03-09T00:00:00Z, or a table of offsets
    tidemill.toml:8:10 TM0005 value is not usable, key=`ingest.on_gap`, value=`ignore` -> one of: stop, skip
    tidemill.toml:10:11 TM0005 value is not usable, key=`transform.threads`, value=`0` -> the least is 1
    tidemill.toml:11:1 TM0007 key is missing, key=`target.local.kafka."bootstrap.servers"` -> name the brokers: "bootstrap.servers" = "localhost:9092"
    tidemill.toml:12:1 TM0003 librdkafka does not know the property, section=`target.local.kafka`, key=`bootstrap.server` -> did you mean `bootstrap.servers`?
    tidemill.toml:13:1 TM0010 property is set by tidemill itself, section=`target.local.kafka`, key=`enable.auto.commit` -> group offsets are committed after the lake
    tidemill.toml:14:24 TM0005 librdkafka does not take the value, key=`target.local.kafka.session.timeout.ms` -> librdkafka's CONFIGURATION.md lists what each property takes
    tidemill.toml:16:7 TM0005 address is not usable, key=`target.local.lake.url` -> the scheme is not known; write a path or one of: file://, s3://, gs://, az://, abfs://, abfss://
    tidemill.toml:18:8 TM0004 value has the wrong type, key=`target.prod.lake`, expected=`table`, found=`integer`
    tidemill.toml:19:1 TM0007 key is missing, key=`target.prod.warehouse.user` -> write user = "…"
    tidemill.toml:19:1 TM0010 there are several ways to log in, keys=`password, token` -> give exactly one of: private_key, private_keys, password, token, oauth_token
    tidemill.toml:22:1 TM0010 key is for another type of warehouse, key=`target.prod.warehouse.path` -> set type = "local"
    tidemill.toml:23:7 TM0005 address is not usable, key=`target.prod.warehouse.url` -> http would send the login in clear text; use https, or a test server on loopback
    "#
    );
}

#[test]
fn a_fault_shows_what_the_file_says_and_not_what_its_variable_holds() {
    // A password that stands at the wrong key, found by the fuzzer.
    let dir = project("[transform]\nmemory_budget = \"a ${SECRET}\"\n");
    let request = SettingsRequest { env: env(&[("SECRET", HIDDEN)]), ..request(dir.path()) };
    let shown = describe(&load(&request).unwrap_err());
    assert!(shown.contains("value=`a ${SECRET}`") && !shown.contains(HIDDEN), "{shown}");
}

#[test]
fn faults_inside_lists_and_nested_tables_are_told_with_their_places() {
    insta::assert_snapshot!(
        faults(
            r#"
name = ["x"]
ingest = 3
[target.local]
kafka = ["b:9092"]
transform.threads = { n = 2 }
ingest.start = [1]
[target.local.lake]
url = { s3 = "bucket" }
options = { aws_region = ["x"], aws_allow_http = "${NOPE}", nested = { key = 1 } }
[target.local.warehouse]
type = "snowflake"
account = "a"
user = "u"
private_keys = ["${ALSO_NOPE}"]
databases = ["ZONER_DB"]
session_parameters = "x"
[target.local.colect]
listen = "x"
"#
        ),
        @r#"
    tidemill.toml:2:8 TM0004 value has the wrong type, key=`name`, expected=`text`, found=`list`
    tidemill.toml:3:10 TM0004 value has the wrong type, key=`ingest`, expected=`table`, found=`integer`
    tidemill.toml:5:9 TM0004 value has the wrong type, key=`target.local.kafka`, expected=`table`, found=`list`
    tidemill.toml:6:21 TM0004 value has the wrong type, key=`target.local.transform.threads`, expected=`integer`, found=`table`
    tidemill.toml:7:16 TM0004 value has the wrong type, key=`target.local.ingest.start`, expected=`text`, found=`list`
    tidemill.toml:9:7 TM0004 value has the wrong type, key=`target.local.lake.url`, expected=`text`, found=`table`
    tidemill.toml:10:26 TM0004 value has the wrong type, key=`target.local.lake.options.aws_region`, expected=`text`, found=`list`
    tidemill.toml:10:50 TM0006 environment variable is not set, variable=`NOPE` -> export NOPE, or give a default: ${NOPE:-value}
    tidemill.toml:10:70 TM0004 value has the wrong type, key=`target.local.lake.options.nested`, expected=`text`, found=`table`
    tidemill.toml:15:17 TM0006 environment variable is not set, variable=`ALSO_NOPE` -> export ALSO_NOPE, or give a default: ${ALSO_NOPE:-value}
    tidemill.toml:16:13 TM0004 value has the wrong type, key=`target.local.warehouse.databases`, expected=`table`, found=`list`
    tidemill.toml:17:22 TM0004 value has the wrong type, key=`target.local.warehouse.session_parameters`, expected=`table`, found=`text`
    tidemill.toml:18:15 TM0003 key is not known, section=`target.local`, key=`colect` -> did you mean `collect`?
    "#
    );
}

#[test]
fn a_list_of_tables_is_no_table() {
    insta::assert_snapshot!(
        faults("[[target]]\nname = \"x\"\n[[ingest]]\nmax_batch_rows = 1\n"),
        @r"
    tidemill.toml:1:3 TM0004 value has the wrong type, key=`target`, expected=`table`, found=`list`
    tidemill.toml:3:3 TM0004 value has the wrong type, key=`ingest`, expected=`table`, found=`list`
    "
    );
}

#[test]
fn no_fault_shows_a_secret() {
    for toml in [
        "[target.local.kafka]\n\"bootstrap.servers\" = \"b\"\n\"session.timeout.ms\" = \"hunter2\"\n",
        "[target.local.kafka]\n\"bootstrap.servers\" = \"b\"\n\"sasl.password\" = [\"hunter2\"]\n",
        "[target.local.lake]\nurl = \"s3://key:hunter2@bucket/\"\n",
        "[target.local.lake]\noptions = { aws_secret_access_key = [\"hunter2\"] }\n",
        "[target.local.warehouse]\ntype = \"snowflake\"\naccount = \"a\"\nuser = \"u\"\nprivate_key = \"hunter2\"\n",
        "[target.local.warehouse]\ntype = \"snowflake\"\naccount = \"a\"\nuser = \"u\"\npassword = \"hunter2\"\nurl = \"https://u:hunter2@x\"\n",
        "[target.local.kafka]\n\"sasl.password\" = \"hunter2\n",
        "[target.local.sinks.redis]\nurl = \"http://:hunter2@cache:6379\"\n",
        "[target.local.kafka]\n\"sasl.password\" = hunter2\n",
    ] {
        let error = load(&request(project(toml).path())).expect_err(toml);
        let shown = format!("{} {error:?}", describe(&error));
        assert!(!shown.contains(HIDDEN), "{shown}");
    }
}

#[test]
fn a_variable_that_is_not_set_is_a_fault_of_the_chosen_target_only() {
    let dir = project(
        "[target.local.lake]\nurl = \"${LAKE}\"\n[target.prod.lake]\nurl = \"s3://${BUCKET}/x\"\noptions = { token = \"file:${F}\" }\n",
    );
    let mut request = SettingsRequest { target: Some("local".into()), ..request(dir.path()) };
    insta::assert_snapshot!(describe(&load(&request).unwrap_err()), @"tidemill.toml:2:7 TM0006 environment variable is not set, variable=`LAKE` -> export LAKE, or give a default: ${LAKE:-value}");
    request.env = env(&[("LAKE", "/data/lake")]);
    assert_eq!(load(&request).unwrap().lake.url.as_str(), "file:///data/lake/");
}

#[test]
fn the_target_is_chosen_by_flag_then_environment_then_file() {
    let dir = project("default_target = \"a\"\n[target.a]\n[target.b]\n[target.c]\n");
    let mut request = request(dir.path());
    let chosen = |request: &SettingsRequest| load(request).unwrap().target;
    assert_eq!(chosen(&request), "a");
    request.env = env(&[("TIDEMILL_TARGET", "b")]);
    assert_eq!(chosen(&request), "b");
    request.target = Some("c".to_owned());
    assert_eq!(chosen(&request), "c");
    request.target = Some("d".to_owned());
    insta::assert_snapshot!(describe(&load(&request).unwrap_err()), @"TM0008 target does not exist, target=`d` -> did you mean `a`?");
}

#[test]
fn without_a_word_the_only_target_or_local_is_chosen() {
    assert_eq!(load_toml("[target.prod]\n").target, "prod");
    assert_eq!(load_toml("[target.prod]\n[target.local]\n").target, "local");
    assert_eq!(load_toml("name = \"x\"\n").target, "local");
    insta::assert_snapshot!(faults("[target.prod]\n[target.test]\n"), @"TM0008 no target was chosen, and the file has several -> add `default_target`, or choose: --target prod | test");
    insta::assert_snapshot!(faults("default_target = \"prd\"\n[target.prod]\n"), @"tidemill.toml:1:18 TM0008 target does not exist, target=`prd` -> did you mean `prod`?");
}

#[test]
fn the_lake_can_be_replaced_for_one_invocation() {
    let dir = project("[target.local.lake]\nurl = \"s3://bucket/lake\"\noptions = { aws_region = \"x\" }\n");
    let mut request = request(dir.path());
    request.lake = Some("here".to_owned());
    let settings = load(&request).unwrap();
    let base = url::Url::from_directory_path(dir.path()).unwrap();
    assert_eq!(settings.lake.url, base.join("here/").unwrap());
    assert!(settings.lake.options.is_empty(), "a folder knows no region");
    let WarehouseSettings::Local(warehouse) = settings.warehouse else { panic!("not local") };
    assert_eq!(warehouse.url, base.join("warehouse/").unwrap());
    request.lake = Some("s3://other".to_owned());
    let settings = load(&request).unwrap();
    assert_eq!((settings.lake.url.as_str(), settings.lake.options.len()), ("s3://other/", 1));
    request.lake = Some("ftp://other".to_owned());
    assert!(describe(&load(&request).unwrap_err()).starts_with("TM0005 address is not usable, key=`--lake`"));
}

#[test]
fn offsets_are_given_by_partition() {
    let settings = load_toml("[ingest]\nstart = { \"a.b/0\" = 12, \"a.b/1\" = 0 }\n");
    let expected = BTreeMap::from([("a.b/0".to_owned(), 12), ("a.b/1".to_owned(), 0)]);
    assert_eq!(settings.ingest.start, StartOffsets::Offsets(expected));
    assert_eq!(load_toml("[ingest]\nstart = 2025-03-09\n").ingest.start, StartOffsets::Timestamp(1_741_478_400_000));
    insta::assert_snapshot!(faults("[ingest]\nstart = { x = -1 }\n"), @r#"
    tidemill.toml:2:11 TM0005 partition is not usable, key=`ingest.start`, value=`x` -> write "topic/partition" = offset
    tidemill.toml:2:15 TM0005 value is not usable, key=`ingest.start`, value=`-1` -> the least is 0
    "#);
}

#[test]
fn what_breaks_the_grammar_is_placed() {
    insta::assert_snapshot!(faults("name = \"x\"\n[ingest\n"), @"tidemill.toml:2:8 TM0002 file is not valid TOML: unclosed table, expected `]`");
}

#[test]
fn the_secrets_of_other_targets_stay_closed() {
    let toml = "[target.local]\n[target.prod.kafka]\n\"bootstrap.servers\" = \"file:none\"\n\"session.timeout.ms\" = \"file:none\"\n";
    let dir = project(toml);
    let mut request = request(dir.path());
    load(&request).unwrap_or_else(|error| panic!("{}", describe(&error)));
    request.target = Some("prod".to_owned());
    assert!(describe(&load(&request).unwrap_err()).contains("secret's file is not readable"));
}

#[test]
fn http_to_snowflake_is_for_loopback_only() {
    let with = |url: &str| {
        format!(
            "[target.l.warehouse]\ntype = \"snowflake\"\naccount = \"a\"\nuser = \"u\"\npassword = \"p\"\nurl = \"{url}\"\n"
        )
    };
    for url in ["http://localhost:8080", "http://127.0.0.2", "http://[::1]:80", "https://x.snowflakecomputing.com"] {
        load_toml(&with(url));
    }
    for url in ["http://10.0.0.1", "http://localhost.example.com", "ftp://localhost", "nonsense"] {
        assert!(faults(&with(url)).contains("TM0005 address is not usable, key=`target.l.warehouse.url`"), "{url}");
    }
}

#[test]
fn the_shipped_file_loads_for_both_targets() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shipped = std::fs::read_to_string(dir.join("tidemill.toml")).unwrap();
    let project = project(&shipped);
    std::fs::create_dir(project.path().join("dbt-like-models")).unwrap();
    let mut request = request(project.path());
    let local = load(&request).unwrap_or_else(|error| panic!("{}", describe(&error)));
    assert_eq!(local.target, "local");
    assert_eq!(local.kafka.unwrap().property("bootstrap.servers"), Some("localhost:9092"));
    assert!(local.lake.url.path().ends_with("/.tidemill/lake/"));
    assert!(matches!(local.warehouse, WarehouseSettings::Local(_)));
    request.target = Some("prod".to_owned());
    let missing = describe(&load(&request).unwrap_err());
    let variables: Vec<&str> =
        missing.lines().filter_map(|line| line.split("variable=`").nth(1)?.split('`').next()).collect();
    request.env = variables.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
    request.env.insert("SNOWFLAKE_PRIVATE_KEY".to_owned(), "-----BEGIN PRIVATE KEY-----".to_owned());
    let prod = load(&request).unwrap_or_else(|error| panic!("{}", describe(&error)));
    assert_eq!(prod.lake.url.scheme(), "s3");
    assert!(matches!(prod.warehouse, WarehouseSettings::Snowflake(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever an editor did to the file: it loads, or each fault names a place that the file has.
    #[test]
    fn a_file_with_a_hole_loads_or_tells_where(start in 0.0..1.0, length in 0_usize..60) {
        let shipped = include_str!("../../../../tidemill.toml");
        let letters: Vec<char> = shipped.chars().collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a length")]
        let from = (start * letters.len() as f64) as usize;
        let rest = (from + length).min(letters.len());
        let text: String = letters[..from].iter().chain(&letters[rest..]).collect();
        if let Err(error) = load(&request(project(&text).path())) {
            let lines = text.lines().count();
            let one = error.location().cloned();
            let all = error.faults().iter().filter_map(|fault| fault.location.clone()).chain(one);
            for location in all {
                prop_assert!(location.line <= lines + 1, "{location} of {lines}");
            }
            prop_assert!(error.location().is_some() || error.faults().len() > 1 || error.code().is_some());
        }
    }
}
