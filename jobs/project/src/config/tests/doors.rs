//! Where events come in by HTTP, and where rows go out beside the warehouse.

use super::{HIDDEN, faults, load_toml};
use crate::config::RegistryAuth;

#[test]
fn sinks_are_read_and_stand_beside_the_warehouse() {
    let settings = load_toml(
        r#"
[target.local.kafka]
"bootstrap.servers" = "events:9092"
[target.local.sinks]
ledger_suffix = "-ledger"
create_topics = false
[target.local.sinks.topics]
"zoner.alerts" = "dev.zoner.alerts"
[target.local.sinks.kafka]
"bootstrap.servers" = "results:9092"
[target.local.sinks.redis]
url = "redis://:hunter2@cache:6379/1"
"#,
    );
    let sinks = &settings.sinks;
    assert_eq!((sinks.ledger_suffix.as_str(), sinks.create_topics), ("-ledger", false));
    assert_eq!(sinks.topics["zoner.alerts"], "dev.zoner.alerts");
    assert_eq!(sinks.kafka.as_ref().and_then(|kafka| kafka.property("bootstrap.servers")), Some("results:9092"));
    assert!(sinks.redis.is_some() && !format!("{settings:?}").contains(HIDDEN));
    let without = load_toml("").sinks;
    assert_eq!(
        (without.ledger_suffix.as_str(), without.create_topics, without.redis.is_none()),
        (".ledger", true, true)
    );
}

#[test]
fn sinks_that_cannot_work_are_told_with_their_places() {
    insta::assert_snapshot!(
        faults(
            r#"
[target.local.sinks]
ledger_sufix = "x"
ledger_suffix = ""
create_topics = "no"
topics = ["a"]
[target.local.sinks.redis]
urls = "x"
[target.prod.sinks.redis]
url = "cache:6379"
"#
        ),
        @r#"
        tidemill.toml:3:1 TM0003 key is not known, section=`target.local.sinks`, key=`ledger_sufix` -> did you mean `ledger_suffix`?
        tidemill.toml:4:17 TM0005 value is not usable, key=`target.local.sinks.ledger_suffix`, value=`` -> letters, digits, `.`, `_` and `-`, at least one
        tidemill.toml:5:17 TM0004 value has the wrong type, key=`target.local.sinks.create_topics`, expected=`boolean`, found=`text`
        tidemill.toml:6:10 TM0004 value has the wrong type, key=`target.local.sinks.topics`, expected=`table`, found=`list`
        tidemill.toml:7:1 TM0007 key is missing, key=`target.local.sinks.redis.url` -> write url = "redis://host:6379"
        tidemill.toml:8:1 TM0003 key is not known, section=`target.local.sinks.redis`, key=`urls` -> did you mean `url`?
        tidemill.toml:10:7 TM0005 address is not usable, key=`target.prod.sinks.redis.url` -> write redis://user:password@host:6379/0
        "#
    );
}

#[test]
fn the_http_door_lets_nobody_in_by_default_and_quotes_no_key() {
    let found = faults(
        "[target.local.collect]\nlisten = \"somewhere\"\n[[target.local.collect.keys]]\nid = \"a\"\nsha256 = \"the-key-itself\"\nrat = 5\n",
    );
    insta::assert_snapshot!(found, @r#"
    tidemill.toml:2:10 TM0005 value is not usable, key=`target.local.collect.listen`, value=`somewhere` -> write an address and a port: "0.0.0.0:8080"
    tidemill.toml:5:10 TM0005 value is no SHA-256, key=`target.local.collect.keys.sha256` -> 64 hexadecimal digits; `tidemill collect --hash-key` makes them from a key on stdin
    tidemill.toml:6:1 TM0003 key is not known, section=`target.local.collect.keys`, key=`rat` -> did you mean `rate`?
    "#);
    let found = faults("[target.local.collect]\ntopic = \"raw_sensor_data\"\ntls_key = \"k.pem\"\n");
    insta::assert_snapshot!(found, @r"
    tidemill.toml:1:1 TM0007 key is missing, key=`target.local.collect.tls_certificate` -> TLS needs both, certificate chain and key
    tidemill.toml:1:1 TM0007 key is missing, key=`target.local.collect.keys` -> add [[….keys]] with the SHA-256 of an API key, or `oauth`; `anonymous = true` lets everybody in
    ");
}

#[test]
fn a_registry_is_read_with_its_login_and_never_printed() {
    let settings = load_toml(
        r#"
[target.local.registry]
url = "https://registry:8081/apis/ccompat/v7"
username = "key"
password = "hunter2"
tls_ca = "certs/ca.pem"
timeout = "3s"
"#,
    );
    let registry = settings.registry.as_ref().expect("a registry");
    assert_eq!(registry.url.as_str(), "https://registry:8081/apis/ccompat/v7/", "paths are joined behind a slash");
    assert_eq!(registry.timeout, std::time::Duration::from_secs(3));
    assert!(registry.ca.as_ref().is_some_and(|path| path.is_absolute() && path.ends_with("certs/ca.pem")));
    assert!(matches!(&registry.auth, RegistryAuth::Basic { username, .. } if username == "key"));
    assert!(!format!("{settings:?}").contains(HIDDEN));
    let token = load_toml("[target.local.registry]\nurl = \"http://r\"\ntoken = \"hunter2\"\n").registry.unwrap();
    assert!(matches!(token.auth, RegistryAuth::Bearer(_)) && token.client_certificate.is_none());
    assert!(load_toml("").registry.is_none());
}

#[test]
fn registries_that_cannot_work_are_refused_without_quoting_a_login() {
    for (lines, told) in [
        ("", "`target.local.registry.url`"),
        ("url = \"registry:8081\"", "write http:// or https:// with a host"),
        ("url = \"https://key:hunter2@registry\"", "put user and password into `username` and `password`"),
        ("url = \"http://r\"\nusername = \"key\"", "`target.local.registry.password`"),
        ("url = \"http://r\"\npassword = \"hunter2\"", "`target.local.registry.username`"),
        ("url = \"http://r\"\nusername = \"key\"\npassword = \"hunter2\"\ntoken = \"t\"", "two ways to log in"),
        ("url = \"http://r\"\ntls_key = \"k.pem\"", "`target.local.registry.tls_certificate`"),
        ("url = \"http://r\"\nuser = \"key\"", "key is not known"),
    ] {
        let text = faults(&format!("[target.local.registry]\n{lines}\n"));
        assert!(text.contains(told), "{lines}\n{text}");
        assert!(!text.contains(HIDDEN), "{text}");
    }
}
