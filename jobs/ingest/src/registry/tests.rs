//! The client against a registry in this process that answers from a script.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value as Json, json};
use tidemill_project::clock::Clock;
use tidemill_project::config::{RegistryAuth, RegistrySettings};
use tidemill_project::contract::{ColumnType, Format};
use tidemill_project::{Diagnostic, ErrorKind, Secret, SourceName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::{Compatibility, Registry, RegistryError, Schemas};
use crate::deadline::Deadline;
use crate::decode::tests::support::{column, contract, record};
use crate::decode::{Decoder, Pushed, RegisteredSchema, RejectionClass, SchemaId, SchemaKind};
use crate::retry::Retry;

const SCHEMA: &str =
    r#"{"type": "record", "name": "A", "fields": [{"name": "at", "type": "long"}, {"name": "v", "type": "string"}]}"#;

/// A registry in memory: answers by method and path, and what it was asked.
#[derive(Clone, Default)]
struct Stub {
    answers: Arc<Mutex<HashMap<String, (u16, String)>>>,
    /// Answers 503 to so many requests first.
    outage: Arc<Mutex<u32>>,
    asked: Arc<Mutex<Vec<String>>>,
    logins: Arc<Mutex<Vec<Option<String>>>>,
}

impl Stub {
    #[expect(clippy::needless_pass_by_value, reason = "calls give what they have just made")]
    fn answer(self, what: &str, status: u16, body: impl ToString) -> Self {
        self.answers.lock().insert(what.to_owned(), (status, body.to_string()));
        self
    }

    async fn serve(&self) -> RegistrySettings {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/apis/ccompat/v7/", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        RegistrySettings {
            url: url.parse().unwrap(),
            auth: RegistryAuth::None,
            ca: None,
            client_certificate: None,
            timeout: Duration::from_secs(10),
        }
    }

    async fn registry(&self) -> Registry {
        Registry::new(&self.serve().await).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

async fn answer(State(stub): State<Stub>, request: Request) -> Response {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let what = format!("{} {}", request.method(), path.trim_start_matches("/apis/ccompat/v7"));
    let login = request.headers().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    stub.logins.lock().push(login);
    stub.asked.lock().push(what.clone());
    let left = *stub.outage.lock();
    if left > 0 {
        *stub.outage.lock() = left - 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match stub.answers.lock().get(&what) {
        Some((status, body)) => (StatusCode::from_u16(*status).unwrap(), body.clone()).into_response(),
        None => (StatusCode::NOT_FOUND, "no such page").into_response(),
    }
}

fn unknown(code: u64) -> Json {
    json!({"error_code": code, "message": "not there"})
}

fn avro(text: &str) -> RegisteredSchema {
    RegisteredSchema { kind: SchemaKind::Avro, text: text.to_owned(), references: Vec::new() }
}

#[tokio::test]
async fn a_schema_is_asked_for_once_and_an_unknown_id_again() {
    let stub = Stub::default().answer("GET /schemas/ids/7", 200, json!({"schema": SCHEMA})).answer(
        "GET /schemas/ids/8",
        404,
        unknown(40_403),
    );
    let registry = stub.registry().await;
    for _ in 0..2 {
        let schema = registry.schema(SchemaId(7)).await.unwrap().expect("known");
        assert_eq!(*schema, avro(SCHEMA));
        assert_eq!(registry.clone().schema(SchemaId(8)).await.unwrap(), None);
    }
    let times = |what: &str| stub.asked().iter().filter(|asked| *asked == what).count();
    assert_eq!((times("GET /schemas/ids/7"), times("GET /schemas/ids/8")), (1, 2));
}

#[tokio::test]
async fn references_come_before_the_schemas_that_name_them() {
    let reference = |subject: &str| json!([{"name": subject, "subject": subject, "version": 1}]);
    let version =
        |text: &str, references: Json| json!({"schema": text, "references": references, "id": 1, "version": 1});
    let both = json!([{"subject": "a", "version": 1}, {"subject": "c", "version": 1}]);
    let stub = Stub::default()
        .answer("GET /schemas/ids/7", 200, json!({"schema": "top", "references": both}))
        .answer("GET /subjects/a/versions/1", 200, version("a", reference("b/1")))
        .answer("GET /subjects/b%2F1/versions/1", 200, version("b", reference("c")))
        .answer("GET /subjects/c/versions/1", 200, version("c", json!([])));
    let schema = stub.registry().await.schema(SchemaId(7)).await.unwrap().unwrap();
    let place = |text: &str| schema.references.iter().position(|known| known == text).unwrap();
    assert!(place("c") < place("b") && place("b") < place("a"), "{:?}", schema.references);
    assert_eq!(schema.references.len(), 3);
}

#[tokio::test]
async fn only_the_interfaces_own_404_says_that_an_id_is_unknown() {
    let registry = Stub::default().registry().await;
    let error = registry.schema(SchemaId(7)).await.expect_err("a page that is not there");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.hint().unwrap().contains("apis/ccompat/v7"));
}

#[tokio::test]
async fn refusals_are_told_apart_by_what_the_caller_can_do() {
    let kinds = [
        (401, ErrorKind::Configuration),
        (403, ErrorKind::Configuration),
        (500, ErrorKind::Unavailable),
        (429, ErrorKind::Unavailable),
        (422, ErrorKind::Invalid),
    ];
    for (status, kind) in kinds {
        let stub = Stub::default().answer("GET /schemas/types", status, unknown(u64::from(status) * 100 + 1));
        let error = stub.registry().await.ping().await.expect_err("refused");
        assert_eq!(error.kind(), kind, "{status}");
    }
    let gone = Stub::default().serve().await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", closed.local_addr().unwrap()).parse().unwrap();
    drop(closed);
    let error = Registry::new(&RegistrySettings { url, ..gone }).unwrap().ping().await.expect_err("nobody there");
    assert!(matches!(error, RegistryError::Silent { .. }), "{error}");
    assert_eq!((error.kind(), error.code().unwrap().0), (ErrorKind::Unavailable, 410));
    let senseless = Stub::default().answer("GET /schemas/types", 200, "<html>");
    assert_eq!(senseless.registry().await.ping().await.expect_err("no JSON").kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn logins_travel_with_every_request_and_stand_in_no_text() {
    let stub = Stub::default().answer("GET /schemas/types", 200, json!(["AVRO"]));
    let basic = RegistryAuth::Basic { username: "key".to_owned(), password: Secret::new("secret-1") };
    for auth in [basic, RegistryAuth::Bearer(Secret::new("secret-2"))] {
        let registry = Registry::new(&RegistrySettings { auth, ..stub.serve().await }).unwrap();
        registry.ping().await.unwrap();
        assert!(!format!("{registry:?}").contains("secret-"));
        let error = registry.latest("s").await.expect_err("no such page");
        assert!(!format!("{error} {error:?}").contains("secret-"));
    }
    let logins = stub.logins.lock().clone();
    assert_eq!(logins[0].as_deref(), Some("Basic a2V5OnNlY3JldC0x"));
    assert_eq!(logins[2].as_deref(), Some("Bearer secret-2"));
}

#[tokio::test]
async fn a_subject_without_versions_takes_any_schema() {
    let path = "POST /compatibility/subjects/s-value/versions/latest?verbose=true";
    let ask = async |status: u16, body: Json| {
        let stub = Stub::default().answer(path, status, body).answer(
            "GET /subjects/s-value/versions/latest",
            404,
            unknown(40_401),
        );
        let registry = stub.registry().await;
        assert_eq!(registry.latest("s-value").await.unwrap(), None);
        registry.compatibility("s-value", &avro(SCHEMA)).await
    };
    let fine = Compatibility { is_compatible: true, messages: Vec::new() };
    assert_eq!(ask(404, unknown(40_401)).await.unwrap(), fine);
    assert_eq!(ask(200, json!({"is_compatible": true})).await.unwrap(), fine);
    let messages = vec!["READER_FIELD_MISSING_DEFAULT_VALUE at /fields/3".to_owned()];
    let broken = json!({"is_compatible": false, "messages": messages});
    assert_eq!(ask(200, broken).await.unwrap(), Compatibility { is_compatible: false, messages });
    assert_eq!(ask(422, unknown(42_201)).await.expect_err("no schema").kind(), ErrorKind::Invalid);
}

fn schemas(registry: Registry) -> Schemas {
    let clock = Clock::system();
    let retry = Retry {
        deadline: Deadline::new(&clock, Some(Duration::from_secs(20))),
        clock,
        cancel: CancellationToken::new(),
    };
    Schemas::of(SourceName::new("shop", "events"), registry, retry)
}

fn decoder() -> Decoder {
    let mut contract = contract(vec![column("v", ColumnType::Text)]);
    contract.format = Format::Avro;
    let mut decoder = Decoder::new(&contract).unwrap();
    decoder.begin(2);
    decoder
}

/// Second 1741478400, and "x".
const VALUE: &[u8] = b"\x00\x00\x00\x00\x07\x80\xe8\xe6\xfc\x0c\x02x";

#[tokio::test]
async fn c6_a_registry_that_is_down_for_a_while_is_waited_for_and_quarantines_nothing() {
    let stub = Stub::default().answer("GET /schemas/ids/7", 200, json!({"schema": SCHEMA}));
    *stub.outage.lock() = 3;
    let mut decoder = decoder();
    schemas(stub.registry().await).teach(&mut decoder, [VALUE, VALUE].into_iter()).await.unwrap();
    assert_eq!(stub.asked().len(), 4);
    assert_eq!(decoder.push(&record(VALUE)), Pushed::Landed(0));
}

#[tokio::test]
async fn c6_a_registry_that_stays_down_ends_the_run_with_a_retryable_error() {
    let stub = Stub::default();
    *stub.outage.lock() = u32::MAX;
    let clock = Clock::system();
    let retry = Retry {
        deadline: Deadline::new(&clock, Some(Duration::from_millis(300))),
        clock,
        cancel: CancellationToken::new(),
    };
    let schemas = Schemas::of(SourceName::new("shop", "events"), stub.registry().await, retry);
    let error = schemas.teach(&mut decoder(), std::iter::once(VALUE)).await.expect_err("never answered");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.code().unwrap().0, 410);
}

#[tokio::test]
async fn c6_an_id_that_the_registry_does_not_know_is_quarantined() {
    let stub = Stub::default().answer("GET /schemas/ids/7", 404, unknown(40_403));
    let mut decoder = decoder();
    schemas(stub.registry().await).teach(&mut decoder, std::iter::once(VALUE)).await.unwrap();
    assert_eq!(decoder.push(&record(VALUE)), Pushed::Rejected(RejectionClass::UnknownSchema));
}

/// Answers every request over TLS with an empty list.
async fn serve_tls() -> u16 {
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("src/registry/fixtures").join(name);
    let chain = CertificateDer::pem_file_iter(file("test.crt")).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(file("test.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust the certificate leaves in the middle of the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]").await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

#[tokio::test]
async fn x34_a_registry_is_trusted_by_the_authority_that_the_settings_name() {
    let url = format!("https://localhost:{}/", serve_tls().await).parse().unwrap();
    let settings = RegistrySettings { url, ..Stub::default().serve().await };
    let error = Registry::new(&settings).unwrap().ping().await.expect_err("nobody vouches for it");
    assert!(matches!(error, RegistryError::Silent { .. }), "{error}");
    let ca = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/registry/fixtures/test.crt"));
    Registry::new(&RegistrySettings { ca, ..settings.clone() }).unwrap().ping().await.unwrap();
    let missing = RegistrySettings { ca: Some("no/such.pem".into()), ..settings };
    let error = Registry::new(&missing).expect_err("no file");
    assert_eq!((error.kind(), error.code().unwrap().0), (ErrorKind::Configuration, 411));
}
