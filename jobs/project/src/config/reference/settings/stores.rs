//! Where a target reads from and writes to: broker, lake, warehouse.

use super::super::{KeyDoc, doc};

pub(super) const STORES: &[KeyDoc] = &[
    doc(
        "target.<name>.kafka.group",
        "text",
        "`tidemill-` and the project's name",
        "group = \"zoner_analytics\"",
        "Consumer group, for lag tools: the lake decides where to resume. A target without `kafka` has no broker.",
    ),
    doc(
        "target.<name>.kafka.<property>",
        "text, integer, decimal or boolean",
        "librdkafka's own",
        "\"sasl.password\" = \"${KAFKA_PASSWORD}\"",
        "Any librdkafka property by its own name, quoted. `bootstrap.servers` is required. Tidemill sets \
         `enable.auto.commit`, `enable.auto.offset.store`, `auto.offset.reset`, `isolation.level` and `group.id` itself.",
    ),
    doc(
        "target.<name>.lake.url",
        "path or URL",
        "target/tidemill/lake",
        "url = \"s3://acme-lake/tidemill\"",
        "Where the Delta tables lie: a folder, `file://`, `s3://`, `gs://`, `az://` or `abfss://`.",
    ),
    doc(
        "target.<name>.lake.options.<option>",
        "text, integer or boolean",
        "none",
        "aws_region = \"eu-central-1\"",
        "Any option of object_store by its own name: `aws_access_key_id`, `aws_endpoint`, `google_service_account`, \
         `azure_storage_account_key`, …",
    ),
    doc(
        "target.<name>.warehouse.type",
        "local or snowflake",
        "local",
        "type = \"snowflake\"",
        "Where `to: snowflake` publishes.",
    ),
    doc(
        "target.<name>.warehouse.path",
        "path or URL",
        "`warehouse`, beside the lake",
        "path = \"./warehouse\"",
        "`local`: where the warehouse's Delta tables lie. A URL uses the options of the lake.",
    ),
    doc(
        "target.<name>.warehouse.account",
        "text",
        "required for snowflake",
        "account = \"ACME-ANALYTICS\"",
        "Account identifier, organisation and account joined by a hyphen.",
    ),
    doc(
        "target.<name>.warehouse.user",
        "text",
        "required for snowflake",
        "user = \"TIDEMILL_LOADER\"",
        "The loader's user.",
    ),
    doc("target.<name>.warehouse.role", "text", "the user's own", "role = \"LOADER\"", "The loader's role."),
    doc(
        "target.<name>.warehouse.warehouse",
        "text",
        "the user's own",
        "warehouse = \"LOAD_WH\"",
        "The virtual warehouse that loads.",
    ),
    doc(
        "target.<name>.warehouse.url",
        "URL",
        "the account's own",
        "url = \"https://acme.privatelink.snowflakecomputing.com\"",
        "Another base URL: private link, or a test server. `http` is for loopback only.",
    ),
    doc(
        "target.<name>.warehouse.private_key",
        "secret",
        "none",
        "private_key = \"file:/run/secrets/snowflake.p8\"",
        "RSA key as PKCS#8 PEM. One of `private_key`, `private_keys`, `password`, `token` is required.",
    ),
    doc(
        "target.<name>.warehouse.private_keys",
        "list of secrets",
        "none",
        "private_keys = [\"file:new.p8\", \"file:old.p8\"]",
        "Keys that are tried in order, for the time of a key's rotation.",
    ),
    doc(
        "target.<name>.warehouse.private_key_passphrase",
        "secret",
        "none",
        "private_key_passphrase = \"${SNOWFLAKE_PASSPHRASE}\"",
        "Opens an encrypted key.",
    ),
    doc(
        "target.<name>.warehouse.password",
        "secret",
        "none",
        "password = \"${SNOWFLAKE_PASSWORD}\"",
        "Password of the user.",
    ),
    doc(
        "target.<name>.warehouse.token",
        "secret",
        "none",
        "token = \"file:/run/secrets/snowflake_pat\"",
        "Programmatic access token.",
    ),
    doc(
        "target.<name>.warehouse.oauth_token",
        "secret",
        "none",
        "oauth_token = \"file:/run/secrets/snowflake_oauth\"",
        "Access token of an identity provider that the account trusts (External OAuth). It is read once per invocation: renew it \
         outside.",
    ),
    doc(
        "target.<name>.warehouse.databases.<name>",
        "text",
        "none",
        "ZONER_DB = \"ZONER_DB_DEV\"",
        "Replaces the database of target tables by another one.",
    ),
    doc(
        "target.<name>.warehouse.statement_timeout",
        "duration",
        "10m",
        "statement_timeout = \"30m\"",
        "Longest time for one statement.",
    ),
    doc(
        "target.<name>.warehouse.session_parameters.<name>",
        "any value",
        "none",
        "QUERY_TAG = \"tidemill\"",
        "Parameters of the session, by Snowflake's own names.",
    ),
];
