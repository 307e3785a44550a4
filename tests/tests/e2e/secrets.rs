//! No secret is printed, logged or stored, whatever happens and however talkative the logs are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use tidemill_tests::kafka::{Broker, SASL_PASSWORD, SASL_USER};
use tidemill_tests::logins::{Plan, TOPIC, Traffic, traffic};
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::tidemill::{Finished, Tidemill, exit};
use tidemill_tests::topics::Topics;
use tidemill_tests::{installed, ports, s3, shared};

/// Opens the encrypted key among the fixtures.
const PASSPHRASE: &str = "open-sesame";
const WRONG: &str = "Wrong-Secret-5519";

/// Logs as talkative as they get; the second one names the crates that handle secrets one by one.
const LOGS: [&str; 2] = [
    "trace",
    "warn,snowflake_api=trace,snowflake_api::auth=trace,snowflake_api::connection=trace,hyper=trace,hyper_util=trace,reqwest=trace,\
     rustls=trace,object_store=trace,librdkafka=trace,rdkafka=trace,tidemill_project=trace,tidemill_publish=trace",
];

/// What must never be seen.
struct Secrets(BTreeMap<&'static str, String>);

impl Secrets {
    fn all() -> Result<Self> {
        let mut secrets = BTreeMap::from([
            ("SASL password", SASL_PASSWORD.to_owned()),
            ("wrong secret", WRONG.to_owned()),
            ("S3 secret key", s3::SECRET_KEY.to_owned()),
            ("passphrase", PASSPHRASE.to_owned()),
            ("PEM", "PRIVATE KEY".to_owned()),
            // `{"alg":` and `{"typ":` in base64: the head of every signed login.
            ("signed login", "eyJhbGciOi".to_owned()),
            ("signed login, other order", "eyJ0eXAiOi".to_owned()),
            ("signature of S3", "AWS4-HMAC-SHA256 Credential".to_owned()),
        ]);
        for (name, file) in [("key", "rsa_test_key.pem"), ("encrypted key", "rsa_test_key_encrypted.pem")] {
            let text = fs::read_to_string(key_file(file))?;
            secrets.insert(name, text.lines().nth(1).context("a key has a body")?.to_owned());
        }
        Ok(Self(secrets))
    }

    fn assert_absent(&self, place: &str, text: &[u8]) -> Result<()> {
        for (name, secret) in &self.0 {
            if let Some(at) = text.windows(secret.len()).position(|window| window == secret.as_bytes()) {
                let around = String::from_utf8_lossy(&text[at.saturating_sub(200)..at]).into_owned();
                anyhow::bail!("{place} shows the {name}, after: {around}");
            }
        }
        Ok(())
    }

    fn assert_quiet(&self, command: &[&str], finished: &Finished) -> Result<()> {
        self.assert_absent(&format!("stdout of {command:?}"), finished.stdout.as_bytes())?;
        self.assert_absent(&format!("stderr of {command:?}"), finished.stderr.as_bytes())
    }
}

fn key_file(name: &str) -> std::path::PathBuf {
    installed::repository().join("jobs/publish/src/snowflake/fixtures").join(name)
}

/// The shipped project whose settings are `settings`, with the secrets that it names as files.
fn project(topic: &str, settings: &str) -> Result<Project> {
    ProjectBuilder::shipped()
        .topic(TOPIC, topic)
        .file("tidemill.toml", settings)
        .file("kafka.secret", SASL_PASSWORD)
        .file("s3.secret", &format!("{}\n", s3::SECRET_KEY))
        .file("passphrase.secret", PASSPHRASE)
        .file("key.p8", &fs::read_to_string(key_file("rsa_test_key_encrypted.pem"))?)
        .build()
}

/// Settings with each secret as `secret` writes it: the text of a variable, or of a file.
fn settings(bootstrap: &str, prefix: &str, snowflake: &str, database: &str, secret: [&str; 4]) -> Result<String> {
    let [kafka, lake, key, passphrase] = secret;
    let endpoint = shared::s3()?;
    Ok(format!(
        r#"
[target.t.kafka]
group = "secrets"
"bootstrap.servers" = "{bootstrap}"
"security.protocol" = "SASL_PLAINTEXT"
"sasl.mechanism" = "PLAIN"
"sasl.username" = "{SASL_USER}"
"sasl.password" = "{kafka}"
"debug" = "all"
[target.t.lake]
url = "s3://{bucket}/{prefix}"
[target.t.lake.options]
aws_endpoint = "{endpoint}"
aws_access_key_id = "{access}"
aws_secret_access_key = "{lake}"
aws_region = "us-east-1"
aws_allow_http = "true"
aws_virtual_hosted_style_request = "false"
[target.t.warehouse]
type = "snowflake"
account = "TMORG-TMTEST"
user = "LOADER"
private_key = "{key}"
private_key_passphrase = "{passphrase}"
url = "{snowflake}"
databases = {{ ZONER_DB = "{database}", LOGINS_DB = "{database}" }}
session_parameters = {{ nop_regexes = ['^\s*REMOVE\b', '^\s*GRANT\b', '^\s*ALTER\s+SESSION\b'] }}
"#,
        bucket = s3::BUCKET,
        access = s3::ACCESS_KEY,
    ))
}

const FROM_ENVIRONMENT: [&str; 4] = ["${T_KAFKA}", "${T_LAKE}", "${T_KEY}", "${T_PASSPHRASE}"];
const FROM_FILES: [&str; 4] = ["file:kafka.secret", "file:s3.secret", "file:key.p8", "file:passphrase.secret"];

fn with_environment(tidemill: Tidemill) -> Result<Tidemill> {
    let key = fs::read_to_string(key_file("rsa_test_key_encrypted.pem"))?;
    Ok(tidemill
        .env("T_KAFKA", SASL_PASSWORD)
        .env("T_LAKE", s3::SECRET_KEY)
        .env("T_KEY", &key.trim().replace('\n', "\\n"))
        .env("T_PASSPHRASE", PASSPHRASE))
}

/// All that stands under a prefix of the store.
fn stored(prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut builder = AmazonS3Builder::new().with_bucket_name(s3::BUCKET);
    for (key, value) in s3::options(&shared::s3()?) {
        builder = builder.with_config(key.parse::<AmazonS3ConfigKey>()?, value);
    }
    let store = builder.build()?;
    runtime.block_on(async {
        let mut found = Vec::new();
        let listed: Vec<_> = store.list(Some(&prefix.into())).try_collect().await?;
        for object in listed {
            let bytes = store.get_opts(&object.location, object_store::GetOptions::default()).await?.bytes().await?;
            found.push((object.location.to_string(), bytes.to_vec()));
        }
        Ok(found)
    })
}

fn assert_folder_is_clean(secrets: &Secrets, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        if path.is_dir() {
            assert_folder_is_clean(secrets, &path)?;
        } else {
            secrets.assert_absent(&path.display().to_string(), &fs::read(&path)?)?;
        }
    }
    Ok(())
}

#[test]
fn what_succeeds_shows_no_secret_and_stores_none() -> Result<()> {
    let secrets = Secrets::all()?;
    let broker = Broker::start()?;
    let topics = Topics::connect(&broker.bootstrap())?;
    let topic = shared::unique_name("kept");
    topics.create(&topic, 1, &[("message.timestamp.type", "CreateTime")])?;
    let Traffic { records, .. } = traffic(&Plan::new(51, 300, 1));
    let producer = topics.producer()?;
    for ((form, log), part) in
        [FROM_ENVIRONMENT, FROM_FILES].into_iter().zip(LOGS).zip(records.chunks(records.len().div_ceil(2)))
    {
        producer.deliver(&topic, part)?;
        let (prefix, database) = (shared::unique_name("kept"), shared::unique_name("db").to_uppercase());
        let text = settings(&broker.sasl_bootstrap(), &prefix, &shared::snowflake()?.url(), &database, form)?;
        let project = project(&topic, &text)?;
        let tidemill = with_environment(project.tidemill())?.env("TIDEMILL_LOG", log);
        for command in [
            &["doctor"][..],
            &["ingest", "--select", "logins"],
            &["build", "--select", "logins_enriched+"],
            &["publish", "--select", "logins_enriched+"],
            &["publish", "--check", "--select", "logins_enriched+"],
            &["--format", "json", "status"],
            &["reconcile", "--deep"],
            &["quarantine", "list"],
            &["--format", "json", "sql", "select count(*) from logins.user_login"],
            &["compile", "--select", "logins_enriched"],
            &["maintain"],
        ] {
            let finished = tidemill.run(command)?;
            secrets.assert_quiet(command, &finished)?;
            // The project's other topics do not exist here, and doctor says so.
            let fine = finished.code == Some(exit::DONE) || command == ["doctor"];
            ensure!(fine, "{command:?} ended with {:?}\n{}", finished.code, finished.stderr);
            ensure!(log != "trace" || finished.stderr.contains("TRACE"), "{command:?} does not log at trace");
        }
        let stored = stored(&prefix)?;
        ensure!(!stored.is_empty(), "nothing was stored under {prefix}");
        for (path, bytes) in &stored {
            secrets.assert_absent(path, bytes)?;
        }
        assert_folder_is_clean(&secrets, &project.folder().join(".tidemill"))?;
    }
    Ok(())
}

#[test]
fn what_fails_shows_no_secret() -> Result<()> {
    let secrets = Secrets::all()?;
    let broker = Broker::start()?;
    let topic = shared::unique_name("kept");
    Topics::connect(&broker.bootstrap())?.create(&topic, 1, &[])?;
    let nobody = format!("http://127.0.0.1:{}", ports::free_port());
    let sasl = broker.sasl_bootstrap();
    let good = |form| settings(&sasl, "denied", &nobody, "DENIED", form);
    let cases: Vec<(&str, String)> = vec![
        ("wrong password for Kafka", good([WRONG, "${T_LAKE}", "${T_KEY}", "${T_PASSPHRASE}"])?),
        ("wrong key for S3", good(["${T_KAFKA}", WRONG, "${T_KEY}", "${T_PASSPHRASE}"])?),
        ("wrong passphrase", good(["${T_KAFKA}", "${T_LAKE}", "${T_KEY}", WRONG])?),
        ("no key at all", good(["${T_KAFKA}", "${T_LAKE}", "-----BEGIN Wrong-Secret-5519", WRONG])?),
        ("files that hold something else", good(["file:key.p8", "file:key.p8", "file:kafka.secret", "file:key.p8"])?),
        (
            "nobody listens",
            settings(nobody.trim_start_matches("http://"), "denied", &nobody, "DENIED", FROM_ENVIRONMENT)?,
        ),
        (
            "credentials in the lake's URL",
            good(FROM_ENVIRONMENT)?.replace("s3://lake/", &format!("s3://someone:{WRONG}@lake/")),
        ),
        (
            "credentials in Snowflake's URL",
            good(FROM_ENVIRONMENT)?.replace("url = \"http://", &format!("url = \"http://someone:{WRONG}@")),
        ),
        ("a secret at the wrong key", good(FROM_ENVIRONMENT)?.replace("group = \"secrets\"", "grup = \"${T_KAFKA}\"")),
        (
            "a secret where a number belongs",
            format!("[ingest]\nmax_batch_rows = \"${{T_KAFKA}}\"\n{}", good(FROM_ENVIRONMENT)?),
        ),
        ("a password instead of a key", {
            let passphrase = "private_key_passphrase = \"${T_PASSPHRASE}\"\n";
            good(FROM_ENVIRONMENT)?
                .replace("private_key = \"${T_KEY}\"", &format!("password = \"{WRONG}\""))
                .replace(passphrase, "")
        }),
    ];
    for (number, (case, text)) in cases.iter().enumerate() {
        let project = project(&topic, text)?;
        let tidemill = with_environment(project.tidemill())?.env("TIDEMILL_LOG", LOGS[number % 2]);
        let mut num_failed = 0;
        for command in [
            &["doctor"][..],
            // Of what is wrong with the warehouse it knows nothing.
            &["ingest", "--select", "logins", "--max-duration", "3s"],
            &["publish", "--select", "logins_usage_window"],
        ] {
            let finished = tidemill.run(command)?;
            secrets.assert_quiet(command, &finished).with_context(|| (*case).to_owned())?;
            ensure!(finished.code.is_some(), "{case}: {command:?} was ended by a signal");
            num_failed += usize::from(finished.code != Some(exit::DONE));
        }
        ensure!(num_failed > 0, "{case}: nothing failed");
        assert_folder_is_clean(&secrets, &project.folder().join(".tidemill"))?;
    }
    // On the command line, too.
    let project = project(&topic, &good(FROM_ENVIRONMENT)?)?;
    for url in [format!("s3://someone:{WRONG}@lake/x"), format!("s3://lake/x?secret={WRONG}")] {
        let command = ["--lake", &url, "status"];
        let finished =
            with_environment(project.tidemill())?.env("TIDEMILL_LOG", "trace").expect(exit::USAGE, &command)?;
        secrets.assert_quiet(&["--lake", "…", "status"], &finished)?;
    }
    Ok(())
}
