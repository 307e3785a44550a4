//! The session against a server that speaks in the service's shape, from a script.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};
use tidemill_project::clock::Clock;
use tidemill_project::config::{SnowflakeAuth, SnowflakeSettings};
use tidemill_project::{ErrorKind, Secret};

use super::SnowflakeError;
use super::client::{Client, Purpose};
use super::sql;
use super::statement::Statement;
use crate::Silent;

const KEY: &str = include_str!("fixtures/rsa_test_key.pem");
const PASSWORD: &str = "very-secret";

/// Answers by path, in order; everything that was asked.
#[derive(Clone, Default)]
struct Script {
    replies: Arc<Mutex<VecDeque<(u16, String)>>>,
    logins: Arc<Mutex<VecDeque<Value>>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    /// `requestId` of every statement that came, in order.
    ids: Arc<Mutex<Vec<String>>>,
    /// What renewing a token is answered; refused without it.
    renewal: Arc<Mutex<Option<Value>>>,
}

fn rows(rows: &Value) -> (u16, String) {
    let data = json!({"rowtype": [{"name": "N", "type": "text", "nullable": true}], "rowset": rows, "total": 1, "queryId": "q-1"});
    (200, json!({"success": true, "data": data}).to_string())
}

fn refusal(code: &str) -> (u16, String) {
    (200, json!({"success": false, "code": code, "message": "no", "data": null}).to_string())
}

fn welcome(validity: i64) -> Value {
    json!({"success": true, "data": {"token": "session-token", "masterToken": "master-token", "sessionId": 1,
        "validityInSeconds": validity, "masterValidityInSeconds": 14_400, "serverVersion": "9", "sessionInfo": {"roleName": "R"}}})
}

impl Script {
    fn reply(self, reply: (u16, String)) -> Self {
        self.replies.lock().unwrap().push_back(reply);
        self
    }

    fn login(self, answer: Value) -> Self {
        self.logins.lock().unwrap().push_back(answer);
        self
    }

    fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }

    fn body(&self, index: usize) -> Value {
        self.asked.lock().unwrap()[index].1.clone()
    }

    async fn serve(&self) -> SnowflakeSettings {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        SnowflakeSettings {
            account: "ORG-ACCOUNT".into(),
            user: "LOADER".into(),
            role: None,
            warehouse: Some("WH".into()),
            url: Some(url::Url::parse(&url).unwrap()),
            auth: SnowflakeAuth::Password(Secret::new(PASSWORD)),
            databases: BTreeMap::new(),
            statement_timeout: Duration::from_mins(1),
            session_parameters: BTreeMap::new(),
        }
    }
}

async fn answer(State(script): State<Script>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if path == "/queries/v1/query-request" {
        let query = request.uri().query().unwrap_or_default();
        let id = query.split('&').find_map(|pair| pair.strip_prefix("requestId=")).unwrap_or_default();
        script.ids.lock().unwrap().push(id.to_owned());
    }
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
    script.asked.lock().unwrap().push((path.clone(), serde_json::from_slice(&body).unwrap_or(Value::Null)));
    let (status, text) = match path.as_str() {
        "/session/v1/login-request" => {
            (200, script.logins.lock().unwrap().pop_front().unwrap_or_else(|| welcome(3600)).to_string())
        }
        "/session/token-request" if script.renewal.lock().unwrap().is_some() => {
            (200, script.renewal.lock().unwrap().take().unwrap_or_default().to_string())
        }
        "/session" | "/queries/v1/abort-request" => (200, json!({"success": true, "data": null}).to_string()),
        _ => script.replies.lock().unwrap().pop_front().unwrap_or_else(|| rows(&json!([["1"]]))),
    };
    Response::builder().status(status).header("retry-after", "0").body(Body::from(text)).unwrap()
}

fn client(settings: &SnowflakeSettings) -> Client<'_> {
    let purpose = Purpose { database: "DB", run_id: "run-7" };
    Client::new(settings, purpose, Clock::system(), &Silent).unwrap()
}

fn read() -> Statement {
    Statement::idempotent("state", "SELECT 1")
}

fn write() -> Statement {
    Statement::write("merge", "MERGE").bind(["it's"])
}

#[tokio::test]
async fn values_travel_as_bindings_and_the_session_is_tagged() {
    let script = Script::default();
    let settings = script.serve().await;
    let answer = client(&settings).run(&write()).await.unwrap();
    assert_eq!((answer.cell(0, 0), answer.query_id.as_str()), (Some("1"), "q-1"));
    assert_eq!(script.body(1)["bindings"], json!({"1": {"type": "TEXT", "value": "it's"}}));
    let parameters = &script.body(0)["data"]["SESSION_PARAMETERS"];
    assert_eq!((&parameters["TIMEZONE"], &parameters["AUTOCOMMIT"]), (&json!("UTC"), &json!(true)));
    let tag: Value = serde_json::from_str(parameters["QUERY_TAG"].as_str().unwrap()).unwrap();
    assert_eq!(tag, json!({"app": "tidemill", "run_id": "run-7", "target": "DB"}));
}

#[tokio::test]
async fn a_statement_that_runs_long_is_asked_for_until_it_is_done() {
    let running = |code: &str| {
        (200, json!({"success": false, "code": code, "data": {"getResultUrl": "/queries/q/result"}}).to_string())
    };
    let script = Script::default().reply(running("333334")).reply(running("333333")).reply(rows(&json!([["done"]])));
    let settings = script.serve().await;
    let answer = client(&settings).run(&write()).await.unwrap();
    assert_eq!(answer.cell(0, 0), Some("done"));
    assert_eq!(script.paths()[2..], ["/queries/q/result", "/queries/q/result"]);
}

#[tokio::test]
async fn a_statement_past_its_time_is_aborted_and_its_outcome_unknown() {
    let running =
        (200, json!({"success": false, "code": "333334", "data": {"getResultUrl": "/queries/q/result"}}).to_string());
    let script = Script::default().reply(running);
    let mut settings = script.serve().await;
    settings.statement_timeout = Duration::ZERO;
    let error = client(&settings).run(&write()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert_eq!(script.paths().last().map(String::as_str), Some("/queries/v1/abort-request"));
}

#[tokio::test]
async fn too_many_requests_is_waited_out_and_commit_is_sent_once() {
    let script = Script::default().reply((429, String::new())).reply(rows(&json!([["1"]])));
    let settings = script.serve().await;
    client(&settings).run(&write()).await.unwrap();
    assert_eq!(script.paths().len(), 3);
    let script = Script::default().reply(rows(&json!([]))).reply((503, String::new()));
    let settings = script.serve().await;
    let mut session = client(&settings);
    session.run(&sql::begin()).await.unwrap();
    let error = session.run(&sql::commit()).await.unwrap_err();
    assert!(matches!(error, SnowflakeError::NoAnswer { step: "commit", .. }), "{error}");
    assert_eq!(script.paths().len(), 3, "a login, a begin and one commit");
}

#[tokio::test]
async fn a_gateways_page_ends_the_session_of_a_write_and_not_of_a_read() {
    let page = || (502, "<html>bad gateway</html>".to_owned());
    let script = Script::default().reply(page()).reply(rows(&json!([["1"]]))).reply(page());
    let settings = script.serve().await;
    let mut session = client(&settings);
    session.run(&read()).await.unwrap();
    let error = session.run(&write()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    let asked = script.paths().len();
    let error = session.run(&read()).await.unwrap_err();
    assert!(matches!(error, SnowflakeError::SessionLost { .. }), "{error}");
    assert_eq!(script.paths().len(), asked, "nothing is sent through a dead session");
}

#[tokio::test]
async fn a_token_that_expires_inside_a_transaction_never_leads_to_a_second_login() {
    let script = Script::default().reply(rows(&json!([]))).reply(refusal("390112"));
    let settings = script.serve().await;
    let mut session = client(&settings);
    session.run(&sql::begin()).await.unwrap();
    let error = session.run(&write()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(matches!(session.run(&write()).await, Err(SnowflakeError::SessionLost { .. })));
    let logins = script.paths().iter().filter(|path| path.ends_with("login-request")).count();
    assert_eq!(logins, 1);
}

#[tokio::test]
async fn a_renewal_that_fails_does_not_open_another_session() {
    let script = Script::default().login(welcome(0)).reply(rows(&json!([]))).reply(refusal("390104"));
    let settings = script.serve().await;
    let mut session = client(&settings);
    session.run(&sql::begin()).await.unwrap();
    let error = session.run(&write()).await.unwrap_err();
    assert_eq!(script.paths().last().map(String::as_str), Some("/session/token-request"), "{error}");
    assert!(session.run(&write()).await.is_err());
    let logins = script.paths().iter().filter(|path| path.ends_with("login-request")).count();
    assert_eq!(logins, 1, "the rest of a transaction must not run in another session");
}

#[tokio::test]
async fn the_second_key_is_tried_when_the_first_is_refused() {
    let refused = json!({"success": false, "code": "390144", "message": "JWT token is invalid.", "data": null});
    let script = Script::default().login(refused.clone());
    let mut settings = script.serve().await;
    settings.auth = SnowflakeAuth::KeyPair { private_keys: vec![Secret::new(KEY), Secret::new(KEY)], passphrase: None };
    client(&settings).run(&read()).await.unwrap();
    assert_eq!(script.body(0)["data"]["AUTHENTICATOR"], json!("SNOWFLAKE_JWT"));
    assert_eq!(script.paths()[..2], ["/session/v1/login-request", "/session/v1/login-request"]);

    let script = Script::default().login(refused.clone()).login(refused);
    settings.url = script.serve().await.url;
    let error = client(&settings).run(&read()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "login was refused, user=`LOADER`, account=`ORG-ACCOUNT`, code=`390144`: JWT token is invalid."
    );
    assert_eq!((error.code().map(|code| code.0), error.hint().is_some()), (Some(510), true));
}

#[tokio::test]
async fn a_refused_statement_keeps_code_state_and_query_id() {
    let data = json!({"errorCode": "002003", "sqlState": "02000", "queryId": "q-9"});
    let script = Script::default()
        .reply((200, json!({"success": false, "code": "002003", "message": "gone", "data": data}).to_string()));
    let settings = script.serve().await;
    let error = client(&settings).run(&read()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "statement was refused, step=`state`, code=`002003`, sql_state=`02000`, query_id=`q-9`: gone"
    );
    assert!(error.is_missing_object());
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn clear_text_is_for_this_machine_only() {
    let mut settings = SnowflakeSettings {
        account: "A".into(),
        user: "U".into(),
        role: None,
        warehouse: None,
        url: Some(url::Url::parse("http://example.com/").unwrap()),
        auth: SnowflakeAuth::Password(Secret::new(PASSWORD)),
        databases: BTreeMap::new(),
        statement_timeout: Duration::ZERO,
        session_parameters: BTreeMap::new(),
    };
    let purpose = Purpose { database: "D", run_id: "r" };
    let build = |settings: &SnowflakeSettings| Client::new(settings, purpose, Clock::system(), &Silent).map(drop);
    assert!(matches!(build(&settings), Err(SnowflakeError::Settings { .. })));
    settings.url = Some(url::Url::parse("https://example.com/").unwrap());
    assert!(build(&settings).is_ok());
}

#[tokio::test]
async fn a_statement_that_is_sent_again_keeps_its_request_id_and_every_statement_has_its_own() {
    let busy = || (429, String::new());
    let script = Script::default().reply(busy()).reply(busy()).reply(rows(&json!([["1"]]))).reply((503, String::new()));
    let settings = script.serve().await;
    let mut session = client(&settings);
    session.run(&write()).await.unwrap();
    session.run(&read()).await.unwrap();
    let ids = script.ids.lock().unwrap().clone();
    assert_eq!(ids.len(), 5, "a write that was refused twice, a read whose first answer was lost");
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[3] == ids[4], "{ids:?}");
    assert!(ids[0] != ids[3] && ids.iter().all(|id| !id.is_empty()), "{ids:?}");
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not_sent_again() {
    for lost in [(502, "<html>bad gateway</html>".to_owned()), (503, String::new()), (200, "{\"success\": tr".to_owned())] {
        let script = Script::default().reply(lost.clone());
        let settings = script.serve().await;
        let error = client(&settings).run(&write()).await.unwrap_err();
        assert_eq!((error.kind(), script.ids.lock().unwrap().len()), (ErrorKind::OutcomeUnknown, 1), "{lost:?}: {error}");
    }
}

#[tokio::test]
async fn a_poll_that_is_answered_by_a_gateway_is_asked_again() {
    let running =
        (200, json!({"success": false, "code": "333334", "data": {"getResultUrl": "/queries/q/result"}}).to_string());
    let script = Script::default().reply(running).reply((502, "<html>".to_owned())).reply(rows(&json!([["done"]])));
    let settings = script.serve().await;
    let answer = client(&settings).run(&write()).await.unwrap();
    assert_eq!((answer.cell(0, 0), script.ids.lock().unwrap().len()), (Some("done"), 1), "the statement itself is sent once");
}

#[tokio::test]
async fn a_token_that_ran_out_is_renewed_outside_and_inside_a_transaction() {
    let script = Script::default().login(welcome(0));
    let renewed = json!({"success": true, "data": {"sessionToken": "second-token", "validityInSecondsST": 3600,
        "masterToken": "second-master", "validityInSecondsMT": 14_400, "sessionId": 1}});
    *script.renewal.lock().unwrap() = Some(renewed);
    let settings = script.serve().await;
    let mut session = client(&settings);
    session.run(&sql::begin()).await.unwrap();
    session.run(&write()).await.unwrap();
    let paths = script.paths();
    assert!(paths.iter().any(|path| path == "/session/token-request"), "{paths:?}");
    assert_eq!(paths.iter().filter(|path| path.ends_with("login-request")).count(), 1, "{paths:?}");
}

#[tokio::test]
async fn an_oauth_token_travels_in_its_own_place() {
    let script = Script::default();
    let mut settings = script.serve().await;
    settings.auth = SnowflakeAuth::OAuth(Secret::new("oauth-token"));
    client(&settings).run(&read()).await.unwrap();
    let data = &script.body(0)["data"];
    assert_eq!((&data["AUTHENTICATOR"], &data["TOKEN"], data.get("PASSWORD")), (&json!("OAUTH"), &json!("oauth-token"), None));
    assert_eq!(data["LOGIN_NAME"], json!("LOADER"));
}

/// Source: RFC 7519 and Snowflake's "Using key-pair authentication".
#[tokio::test]
async fn a_key_signs_a_token_that_names_account_user_and_fingerprint() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use rsa::pkcs8::DecodePrivateKey as _;
    use sha2::Digest as _;

    /// What PKCS#1 puts before a SHA-256.
    const SHA256: [u8; 19] = [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];
    let script = Script::default();
    let mut settings = script.serve().await;
    settings.auth = SnowflakeAuth::KeyPair { private_keys: vec![Secret::new(KEY)], passphrase: None };
    client(&settings).run(&read()).await.unwrap();
    let token = script.body(0)["data"]["TOKEN"].as_str().unwrap().to_owned();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let public = rsa::RsaPrivateKey::from_pkcs8_pem(KEY).unwrap().to_public_key();
    let scheme = rsa::Pkcs1v15Sign { hash_len: Some(32), prefix: Box::new(SHA256) };
    let hash = sha2::Sha256::digest(signed.as_bytes());
    public.verify(scheme, &hash, &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert_eq!(claims["sub"], json!("ORG-ACCOUNT.LOADER"));
    assert_eq!(claims["iss"], json!("ORG-ACCOUNT.LOADER.SHA256:G14DHbTU8BESSDvHzCJp4saSqdvZ03ETxGZes+nRi8c="));
    assert!(claims["exp"].as_i64() > claims["iat"].as_i64());
}
