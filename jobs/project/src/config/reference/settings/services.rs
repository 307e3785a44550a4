//! What else a target may talk to, and what it sets otherwise than the project does.

use super::super::{KeyDoc, doc};

pub(super) const SERVICES: &[KeyDoc] = &[
    doc(
        "target.<name>.registry.url",
        "http or https address",
        "required",
        "url = \"https://registry:8081\"",
        "Schema registry of contracts with `format: avro` or `json_schema`: the base of Confluent's REST interface \
         (Apicurio: `…/apis/ccompat/v7`).",
    ),
    doc(
        "target.<name>.registry.username",
        "text",
        "none",
        "username = \"${REGISTRY_KEY}\"",
        "User, or API key, of basic authentication; `password` belongs to it.",
    ),
    doc(
        "target.<name>.registry.password",
        "secret",
        "none",
        "password = \"${REGISTRY_SECRET}\"",
        "Password, or the API key's secret.",
    ),
    doc(
        "target.<name>.registry.token",
        "secret",
        "none",
        "token = \"file:/run/secrets/registry_token\"",
        "Bearer token, in place of user and password.",
    ),
    doc(
        "target.<name>.registry.tls_ca",
        "path",
        "none",
        "tls_ca = \"certs/ca.pem\"",
        "Certificates of authorities, PEM, that are trusted beside the well-known ones.",
    ),
    doc(
        "target.<name>.registry.tls_certificate",
        "path",
        "none",
        "tls_certificate = \"certs/client.pem\"",
        "Own certificate, PEM, for a registry that asks for one; `tls_key` belongs to it.",
    ),
    doc("target.<name>.registry.tls_key", "path", "none", "tls_key = \"certs/client.key\"", "Its private key, PEM."),
    doc(
        "target.<name>.registry.timeout",
        "duration",
        "10s",
        "timeout = \"3s\"",
        "How long one request may take. What may pass is tried again for two minutes.",
    ),
    doc(
        "target.<name>.sinks.redis.url",
        "secret",
        "none",
        "url = \"${REDIS_URL}\"",
        "Server of `to: redis`, `redis://user:password@host:6379/0`. Without it such publications are passed over, and told as \
         `no sink`.",
    ),
    doc(
        "target.<name>.sinks.kafka.<property>",
        "text, integer, decimal or boolean",
        "the target's `kafka`",
        "\"bootstrap.servers\" = \"results:9092\"",
        "Another cluster for `to: kafka`, described as in `kafka`. A target with neither passes over such publications.",
    ),
    doc(
        "target.<name>.sinks.topics.<name>",
        "text",
        "none",
        "\"zoner.alerts\" = \"dev.zoner.alerts\"",
        "Replaces a topic of `to: kafka` by another one.",
    ),
    doc(
        "target.<name>.sinks.ledger_suffix",
        "text",
        "`.ledger`",
        "ledger_suffix = \"-ledger\"",
        "Name of a topic's ledger after the topic's own. A ledger has one partition and is compacted; who deletes it has \
         everything sent again.",
    ),
    doc(
        "target.<name>.sinks.create_topics",
        "boolean",
        "true",
        "create_topics = false",
        "Whether topics that are missing are made, with the broker's default partitions and replicas.",
    ),
    doc(
        "target.<name>.ingest",
        "table",
        "none",
        "ingest = { max_batch_age = \"5s\" }",
        "Keys of `[ingest]` for this target alone.",
    ),
    doc(
        "target.<name>.transform",
        "table",
        "none",
        "transform = { threads = 8 }",
        "Keys of `[transform]` for this target alone.",
    ),
    doc(
        "target.<name>.maintenance",
        "table",
        "none",
        "maintenance = { retention = \"30d\" }",
        "Keys of `[maintenance]` for this target alone.",
    ),
];
