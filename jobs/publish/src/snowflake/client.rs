//! One session with the server: statements in, rows of text out.
//!
//! A session knows whether its transaction is [`Phase::Idle`] or [`Phase::Open`]; after an answer that never came it is
//! [`Phase::Dead`] for good, because nobody knows which of the two it is. A client never logs in twice: what was begun in one
//! session would be carried on in another.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use snowflake_api::connection::ConnectionError;
use snowflake_api::{AuthArgs, SnowflakeApi, SnowflakeApiBuilder, SnowflakeApiError};
use tidemill_project::clock::Clock;
use tidemill_project::config::{SnowflakeAuth, SnowflakeSettings};
use tidemill_project::crash;

use super::SnowflakeError;
use super::answer::Answer;
use super::auth::{Credential, credentials};
use super::shim::{CALL, Call, SessionGone, Shim};
use super::statement::{Effect, Statement};
use crate::PublishObserver;

/// What a session may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No transaction is open.
    Idle,
    /// A transaction is open, or may be.
    Open,
    /// An answer was lost: nothing more may be sent but the farewell.
    Dead,
}

/// What a session belongs to; goes into the query tag, where costs are attributed by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose<'a> {
    pub(super) database: &'a str,
    pub(super) run_id: &'a str,
}

/// One session. Used by one task at a time.
pub(super) struct Client<'a> {
    settings: &'a SnowflakeSettings,
    http: reqwest_middleware::ClientWithMiddleware,
    plain_http: reqwest::Client,
    may_log_in: Arc<AtomicBool>,
    credentials: Vec<Credential>,
    database: String,
    api: Option<SnowflakeApi>,
    phase: Phase,
    observer: &'a dyn PublishObserver,
}

impl std::fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("database", &self.database).field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl<'a> Client<'a> {
    /// Prepares a session; the login happens with the first statement.
    ///
    /// # Errors
    /// A key that cannot be read, or an address that would receive credentials in clear text.
    pub(super) fn new(
        settings: &'a SnowflakeSettings,
        purpose: Purpose<'_>,
        clock: Clock,
        observer: &'a dyn PublishObserver,
    ) -> Result<Self, SnowflakeError> {
        if let Some(url) = &settings.url {
            let loopback = match url.host() {
                Some(url::Host::Domain(name)) => name == "localhost",
                Some(url::Host::Ipv4(address)) => address.is_loopback(),
                Some(url::Host::Ipv6(address)) => address.is_loopback(),
                None => false,
            };
            if url.scheme() != "https" && !loopback {
                return Err(SnowflakeError::Settings {
                    detail: format!("url must be https, it receives credentials, url=`{url}`"),
                });
            }
        }
        let plain_http = reqwest::Client::builder()
            .gzip(true)
            .user_agent(concat!("tidemill/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_mins(2))
            .build()
            .map_err(|error| SnowflakeError::Settings { detail: format!("no http client can be built: {error}") })?;
        let may_log_in = Arc::new(AtomicBool::new(true));
        let shim = Shim {
            base: settings.url.clone(),
            session_parameters: session_parameters(settings, purpose),
            may_log_in: Arc::clone(&may_log_in),
            deadline: settings.statement_timeout,
            clock,
            is_oauth: matches!(settings.auth, SnowflakeAuth::OAuth(_)),
        };
        let http = reqwest_middleware::ClientBuilder::new(plain_http.clone()).with(shim).build();
        Ok(Self {
            settings,
            http,
            plain_http,
            may_log_in,
            credentials: credentials(&settings.auth)?,
            database: purpose.database.to_owned(),
            api: None,
            phase: Phase::Idle,
            observer,
        })
    }

    /// The connection pool for uploads, which bear no session token.
    pub(super) fn http(&self) -> &reqwest::Client {
        &self.plain_http
    }

    /// Sends a statement and passes the crash point `publish.snowflake.<step>` when it was answered.
    pub(super) async fn run(&mut self, statement: &Statement) -> Result<Answer, SnowflakeError> {
        let step = statement.step;
        if self.phase == Phase::Dead {
            return Err(SnowflakeError::SessionLost { step });
        }
        self.observer.statement(&statement.sql);
        let before = self.phase;
        // Before it is sent: a BEGIN whose answer is lost may have begun something.
        if statement.effect == Effect::Begin {
            self.phase = Phase::Open;
        }
        match self.send(statement).await {
            Ok(answer) => {
                if statement.effect == Effect::End {
                    self.phase = Phase::Idle;
                }
                let point = format!("publish.snowflake.{step}");
                crash::point(&point);
                self.observer.step(&point);
                Ok(answer)
            }
            Err(error) => {
                if error.ends_session() || (statement.effect != Effect::None && before == Phase::Open) {
                    self.phase = Phase::Dead;
                }
                tracing::debug!(step, %error, "statement failed");
                Err(error)
            }
        }
    }

    /// Ends the transaction, if one may be open, and the session. Faults are only logged: the service ends both by itself.
    pub(super) async fn close(mut self) {
        if self.phase == Phase::Open
            && let Err(error) = self.run(&super::sql::rollback()).await
        {
            tracing::warn!(%error, "a transaction could not be rolled back, the server will do it");
        }
        if let Some(mut api) = self.api.take()
            && let Err(error) = api.close_session().await
        {
            tracing::debug!(error = %plain(&error), "a session could not be closed, the server will do it");
        }
    }

    async fn send(&mut self, statement: &Statement) -> Result<Answer, SnowflakeError> {
        if let Some(api) = &self.api {
            return exec(api, statement).await.map_err(|failure| failure.into_error(statement.step));
        }
        let mut refused = None;
        for credential in &self.credentials {
            let api = SnowflakeApiBuilder::new(self.auth_args(credential))
                .with_client(self.http.clone())
                .build()
                .map_err(|error| SnowflakeError::Settings { detail: plain(&error) })?;
            match exec(&api, statement).await {
                Err(Failure::Login { code, message }) => {
                    tracing::warn!(credential = credential.label(), code, "login was refused");
                    refused = Some((code, message));
                }
                result => {
                    self.may_log_in.store(false, Ordering::SeqCst);
                    tracing::debug!(credential = credential.label(), "logged in");
                    self.api = Some(api);
                    return result.map_err(|failure| failure.into_error(statement.step));
                }
            }
        }
        let (code, message) = refused.unwrap_or_else(|| (String::new(), "no key is configured".to_owned()));
        Err(SnowflakeError::Login {
            user: self.settings.user.clone(),
            account: self.settings.account.clone(),
            code,
            message,
        })
    }

    fn auth_args(&self, credential: &Credential) -> AuthArgs {
        AuthArgs {
            account_identifier: self.settings.account.clone(),
            warehouse: self.settings.warehouse.clone(),
            database: Some(self.database.clone()),
            // Names are always whole; but the emulator's MERGE makes a temporary table, in the current schema.
            schema: Some("PUBLIC".to_owned()),
            username: self.settings.user.clone(),
            role: self.settings.role.clone(),
            auth_type: credential.to_auth_type(),
        }
    }
}

/// Parameters that hold for the whole session; what the user sets wins.
fn session_parameters(settings: &SnowflakeSettings, purpose: Purpose<'_>) -> Map<String, Value> {
    let tag = json!({"app": "tidemill", "run_id": purpose.run_id, "target": purpose.database}).to_string();
    let mut parameters = Map::new();
    for (name, value) in [
        ("QUERY_TAG", json!(tag)),
        ("TIMEZONE", json!("UTC")),
        ("TIMESTAMP_TYPE_MAPPING", json!("TIMESTAMP_NTZ")),
        ("AUTOCOMMIT", json!(true)),
        ("STATEMENT_TIMEOUT_IN_SECONDS", json!(settings.statement_timeout.as_secs())),
        // The service's own default is twelve hours.
        ("LOCK_TIMEOUT", json!(120)),
        ("ABORT_DETACHED_QUERY", json!(true)),
        ("TRANSACTION_ABORT_ON_ERROR", json!(true)),
        ("ERROR_ON_NONDETERMINISTIC_MERGE", json!(true)),
    ] {
        parameters.insert(name.to_owned(), value);
    }
    parameters.extend(settings.session_parameters.clone());
    parameters
}

enum Failure {
    Login { code: String, message: String },
    Refused { code: String, message: String, sql_state: String, query_id: String },
    NoAnswer { acted: bool, source: Box<dyn std::error::Error + Send + Sync> },
    SessionGone,
}

impl Failure {
    fn into_error(self, step: &'static str) -> SnowflakeError {
        match self {
            // A session was there before, so this is a login that should never have been tried.
            Self::Login { .. } | Self::SessionGone => SnowflakeError::SessionLost { step },
            Self::Refused { code, message, sql_state, query_id } => {
                SnowflakeError::Refused { step, code, sql_state, query_id, message }
            }
            Self::NoAnswer { acted, source } => SnowflakeError::NoAnswer { step, acted, source },
        }
    }
}

async fn exec(api: &SnowflakeApi, statement: &Statement) -> Result<Answer, Failure> {
    let bindings = (!statement.bindings.is_empty()).then(|| {
        let numbered = statement.bindings.iter().enumerate();
        Value::Object(
            numbered.map(|(index, text)| ((index + 1).to_string(), json!({"type": "TEXT", "value": text}))).collect(),
        )
    });
    let call = Call::new(bindings, statement.repeat);
    CALL.scope(RefCell::new(call), async {
        let result = api.exec(&statement.sql).await;
        let call = CALL.with(|call| call.borrow().clone());
        match result {
            Ok(result) => Ok(Answer::new(result, call.query_id)),
            Err(SnowflakeApiError::ApiError(code, message)) => {
                // A gateway's answer says nothing about the statement behind it.
                if code.starts_with("HTTP5") {
                    return Err(Failure::NoAnswer { acted: true, source: format!("{code}: {message}").into() });
                }
                Err(Failure::Refused { code, message, sql_state: call.sql_state, query_id: call.query_id })
            }
            Err(error) if is_session_gone(&error) => Err(Failure::SessionGone),
            Err(SnowflakeApiError::AuthError(_)) if call.refused_login.is_some() => {
                let (code, message) = call.refused_login.unwrap_or_default();
                Err(Failure::Login { code, message })
            }
            Err(error) => Err(Failure::NoAnswer { acted: call.acted, source: Box::new(Plain(plain(&error))) }),
        }
    })
    .await
}

fn is_session_gone(error: &SnowflakeApiError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<SessionGone>() {
            return true;
        }
        if let Some(reqwest_middleware::Error::Middleware(inner)) = error.downcast_ref::<reqwest_middleware::Error>() {
            return inner.is::<SessionGone>();
        }
        next = error.source();
    }
    false
}

/// The text of an error without addresses: they carry request ids and, for uploads, signatures.
fn plain(error: &SnowflakeApiError) -> String {
    match error {
        SnowflakeApiError::RequestError(
            ConnectionError::RequestError(error)
            | ConnectionError::RequestMiddlewareError(reqwest_middleware::Error::Reqwest(error)),
        ) => without_url(error),
        error => error.to_string(),
    }
}

pub(super) fn without_url(error: &reqwest::Error) -> String {
    let mut text = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "timed out".to_owned(),
        (_, true) => "could not connect".to_owned(),
        _ => "connection failed".to_owned(),
    };
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Plain(String);
