//! `[target.NAME.warehouse]`: Snowflake, or a folder that stands in for it.

use std::collections::BTreeMap;
use std::time::Duration;

use url::{Host, Url};

use super::reference::settings_keys;
use super::target::TargetContext;
use super::{LakeSettings, SnowflakeAuth, SnowflakeSettings, WarehouseSettings};
use crate::document::{Data, Node, Reader, Section, codes};
use crate::secret::Secret;

/// Longer than any healthy `MERGE`, shorter than a scheduler's patience.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(10);

/// The ways to log in; exactly one is needed.
const LOGINS: [&str; 5] = ["private_key", "private_keys", "password", "token", "oauth_token"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    Snowflake,
}

/// Reads the section; without it, a local warehouse beside the lake.
pub(super) fn read_warehouse(
    reader: &mut Reader<'_>,
    context: &TargetContext<'_>,
    name: &str,
    node: Option<&Node>,
    lake: Option<&LakeSettings>,
) -> Option<WarehouseSettings> {
    let Some(node) = node else { return beside(lake?).map(WarehouseSettings::Local) };
    let section = reader.section(name, node, &settings_keys("target.<name>.warehouse"))?;
    let kind = match section.get("type") {
        Some(kind) => {
            reader.word(&section.path("type"), kind, &[("local", Kind::Local), ("snowflake", Kind::Snowflake)])?
        }
        None => Kind::Local,
    };
    refuse_keys_of_the_other_kind(reader, section, node, kind);
    match kind {
        Kind::Local => read_local(reader, context, section, lake).map(WarehouseSettings::Local),
        Kind::Snowflake => {
            read_snowflake(reader, context, section).map(|settings| WarehouseSettings::Snowflake(Box::new(settings)))
        }
    }
}

fn beside(lake: &LakeSettings) -> Option<LakeSettings> {
    let url = lake.url.join("../warehouse/").ok()?;
    Some(LakeSettings { url, options: lake.options.clone() })
}

fn refuse_keys_of_the_other_kind(reader: &mut Reader<'_>, section: Section<'_>, node: &Node, kind: Kind) {
    for (key, _) in node.entries() {
        let (is_foreign, way_out) = match kind {
            Kind::Local => (!["type", "path"].contains(&key.name.as_str()), "set type = \"snowflake\""),
            Kind::Snowflake => (key.name == "path", "set type = \"local\""),
        };
        if is_foreign && settings_keys("target.<name>.warehouse").contains(&key.name.as_str()) {
            let message = format!("key is for another type of warehouse, key=`{}`", section.path(&key.name));
            reader.fault_hint(key.place, codes::CONTRADICTION, message, way_out);
        }
    }
}

fn read_local(
    reader: &mut Reader<'_>,
    context: &TargetContext<'_>,
    section: Section<'_>,
    lake: Option<&LakeSettings>,
) -> Option<LakeSettings> {
    let Some(node) = section.get("path") else { return beside(lake?) };
    let url = context.store_url(reader, &section.path("path"), node)?;
    let options = lake.filter(|lake| lake.url.scheme() == url.scheme()).map(|lake| lake.options.clone());
    Some(LakeSettings { url, options: options.unwrap_or_default() })
}

fn read_snowflake(
    reader: &mut Reader<'_>,
    context: &TargetContext<'_>,
    section: Section<'_>,
) -> Option<SnowflakeSettings> {
    let text =
        |reader: &mut Reader<'_>, key: &str| section.get(key).and_then(|node| reader.text(&section.path(key), node));
    for key in ["account", "user"] {
        if section.get(key).is_none() {
            reader.missing(section.place(), &section.path(key), format!("write {key} = \"…\""));
        }
    }
    let account = text(reader, "account");
    let user = text(reader, "user");
    let role = text(reader, "role");
    let warehouse = text(reader, "warehouse");
    let url = section.get("url").and_then(|node| read_base_url(reader, &section.path("url"), node));
    let auth = read_auth(reader, context, section);
    let databases = read_names(reader, section, "databases");
    let statement_timeout = section
        .get("statement_timeout")
        .and_then(|node| reader.duration(&section.path("statement_timeout"), node))
        .unwrap_or(STATEMENT_TIMEOUT);
    let session_parameters = read_session_parameters(reader, section);
    Some(SnowflakeSettings {
        account: account?,
        user: user?,
        role,
        warehouse,
        url,
        auth: auth?,
        databases,
        statement_timeout,
        session_parameters,
    })
}

fn read_base_url(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<Url> {
    let text = reader.text(key, node)?;
    let refuse = |reader: &mut Reader<'_>, why: &str| {
        reader.fault_hint(node.place, codes::BAD_VALUE, format!("address is not usable, key=`{key}`"), why);
    };
    let Ok(url) = Url::parse(&text) else {
        refuse(reader, "write https://host");
        return None;
    };
    let is_loopback = match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        _ if !url.username().is_empty() || url.password().is_some() => {
            refuse(reader, "credentials do not belong into a URL; use `user` and `private_key`, `password` or `token`");
        }
        "https" if url.has_host() => return Some(url),
        "http" if is_loopback => return Some(url),
        "http" => refuse(reader, "http would send the login in clear text; use https, or a test server on loopback"),
        _ => refuse(reader, "write https://host"),
    }
    None
}

fn read_auth(reader: &mut Reader<'_>, context: &TargetContext<'_>, section: Section<'_>) -> Option<SnowflakeAuth> {
    let given: Vec<&str> = LOGINS.into_iter().filter(|key| section.get(key).is_some()).collect();
    let [login] = given.as_slice() else {
        let way_out = format!("give exactly one of: {}", LOGINS.join(", "));
        if given.is_empty() {
            reader.missing(section.place(), &section.path("private_key"), way_out);
        } else {
            let message = format!("there are several ways to log in, keys=`{}`", given.join(", "));
            reader.fault_hint(section.place(), codes::CONTRADICTION, message, way_out);
        }
        return None;
    };
    let node = section.get(login)?;
    let key = section.path(login);
    if ["password", "token", "oauth_token"].contains(login) {
        if let Some(passphrase) = section.get("private_key_passphrase") {
            let message = "passphrase has no key to open, key=`private_key_passphrase`";
            reader.fault_hint(
                passphrase.place,
                codes::CONTRADICTION,
                message,
                "give `private_key` instead of a password",
            );
        }
        let of_secret = if *login == "oauth_token" { SnowflakeAuth::OAuth } else { SnowflakeAuth::Password };
        return context.secret(reader, &key, node).map(of_secret);
    }
    let nodes = match &node.data {
        Data::List(items) if *login == "private_keys" => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if nodes.is_empty() {
        reader.missing(node.place, &key, "a key is needed to log in");
    }
    let keys: Option<Vec<Secret>> = nodes.iter().map(|node| read_pem(reader, context, &key, node)).collect();
    let passphrase = section
        .get("private_key_passphrase")
        .and_then(|node| context.secret(reader, &section.path("private_key_passphrase"), node));
    Some(SnowflakeAuth::KeyPair { private_keys: keys?, passphrase })
}

/// A key as PEM. Environment variables often carry its line ends as `\n`.
fn read_pem(reader: &mut Reader<'_>, context: &TargetContext<'_>, key: &str, node: &Node) -> Option<Secret> {
    let secret = context.secret(reader, key, node)?;
    if !context.is_chosen {
        return Some(secret);
    }
    let pem = secret.expose_secret().replace("\\n", "\n");
    if !pem.contains("-----BEGIN") {
        let message = format!("key is not PEM, key=`{key}`");
        reader.fault_hint(node.place, codes::BAD_VALUE, message, "write file:PATH of the key's file, or its text");
        return None;
    }
    Some(Secret::new(pem))
}

fn read_names(reader: &mut Reader<'_>, section: Section<'_>, key: &str) -> BTreeMap<String, String> {
    let Some(node) = section.get(key) else { return BTreeMap::new() };
    if !matches!(node.data, Data::Map(_)) {
        reader.wrong_type(&section.path(key), node, "table");
    }
    node.entries()
        .iter()
        .filter_map(|(name, value)| Some((name.name.clone(), reader.text(&section.path(&name.name), value)?)))
        .collect()
}

fn read_session_parameters(reader: &mut Reader<'_>, section: Section<'_>) -> BTreeMap<String, serde_json::Value> {
    let Some(node) = section.get("session_parameters") else { return BTreeMap::new() };
    if !matches!(node.data, Data::Map(_)) {
        reader.wrong_type(&section.path("session_parameters"), node, "table");
    }
    node.entries().iter().map(|(key, value)| (key.name.clone(), value.to_json())).collect()
}
