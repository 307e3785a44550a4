//! A reqwest middleware below `snowflake-api` that covers what the crate cannot do.
//!
//! The crate builds its requests alone, so what belongs to one call travels in a task-local ([`Call`]). Its traps, and what
//! covers each, are in SNOWFLAKE.md section 4.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{Extensions, StatusCode};
use reqwest::{Body, Method, Request, Response, Url, header};
use reqwest_middleware::{Error, Middleware, Next};
use serde_json::{Map, Value, json};
use tidemill_project::clock::Clock;

use super::answer::normalise;
use super::statement::Repeat;

const LOGIN: &str = "/session/v1/login-request";
const QUERY: &str = "/queries/v1/query-request";
/// Codes of "still running": ask the result's URL.
const RUNNING: [&str; 2] = ["333333", "333334"];
/// Tries of one request while the server surely did nothing, or while doing it twice is the same as once.
const MAX_TRIES: u32 = 4;
/// Polls begin fast, because most statements that miss the 45 s miss them narrowly.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What one call brings along and what it learns.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) bindings: Option<Value>,
    pub(super) repeat: Repeat,
    /// Whether the server may have acted on a request whose answer never came.
    pub(super) acted: bool,
    pub(super) query_id: String,
    pub(super) sql_state: String,
    /// Code and message when the server refused to log us in; the crate's own type for it is private.
    pub(super) refused_login: Option<(String, String)>,
}

impl Call {
    pub(super) fn new(bindings: Option<Value>, repeat: Repeat) -> Self {
        Self { bindings, repeat, acted: false, query_id: String::new(), sql_state: String::new(), refused_login: None }
    }
}

tokio::task_local! {
    pub(super) static CALL: RefCell<Call>;
}

/// Notes something about the running call; nothing outside of one.
pub(super) fn with_call<R>(act: impl FnOnce(&mut Call) -> R) -> Option<R> {
    CALL.try_with(|call| act(&mut call.borrow_mut())).ok()
}

/// The middleware.
pub(super) struct Shim {
    /// Another place than the service's own.
    pub(super) base: Option<Url>,
    pub(super) session_parameters: Map<String, Value>,
    /// Cleared once a session is there: a second login would carry on the rest of a transaction in a session that has none.
    pub(super) may_log_in: Arc<AtomicBool>,
    pub(super) deadline: Duration,
    pub(super) clock: Clock,
    /// Whether what the crate takes for a password is an OAuth token.
    pub(super) is_oauth: bool,
}

/// Why a login was refused here; looked for in the chain of an error.
#[derive(Debug, thiserror::Error)]
#[error("session was lost, and a new one must not take its place silently")]
pub(super) struct SessionGone;

/// The server did not finish a statement in the time that the settings give it.
#[derive(Debug, thiserror::Error)]
#[error("statement ran longer than its time, and was asked to stop")]
pub(super) struct DeadlinePassed;

#[async_trait]
impl Middleware for Shim {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let host = request.url().host_str().unwrap_or_default();
        if !host.ends_with(".snowflakecomputing.com") && !host.ends_with(".snowflakecomputing.cn") {
            return next.run(request, extensions).await;
        }
        // The crate sends `//session/token-request`.
        let path = format!("/{}", request.url().path().trim_start_matches('/'));
        request.url_mut().set_path(&path);
        self.rebase(request.url_mut());
        let (is_login, is_query) = (path == LOGIN, path == QUERY);
        if is_login {
            if !self.may_log_in.load(Ordering::SeqCst) {
                return Err(Error::Middleware(SessionGone.into()));
            }
            edit(&mut request, |body| {
                if let Some(parameters) = body.pointer_mut("/data/SESSION_PARAMETERS").and_then(Value::as_object_mut) {
                    parameters.extend(self.session_parameters.clone());
                }
                if let Some(data) = body.get_mut("data").and_then(Value::as_object_mut).filter(|_| self.is_oauth) {
                    let token = data.remove("PASSWORD").unwrap_or_default();
                    data.insert("AUTHENTICATOR".to_owned(), json!("OAUTH"));
                    data.insert("TOKEN".to_owned(), token);
                }
            });
        }
        if is_query && let Some(Some(bindings)) = with_call(|call| call.bindings.clone()) {
            edit(&mut request, |body| body["bindings"] = bindings);
        }
        let repeat = if is_query { with_call(|call| call.repeat).unwrap_or(Repeat::IfNotRun) } else { Repeat::Always };
        let origin = request.url().clone();
        let headers = request.headers().clone();
        let stopwatch = self.clock.stopwatch();
        let mut answer = self.send(request, extensions, &next, repeat).await?;
        let mut pause = FIRST_PAUSE;
        while is_query && RUNNING.contains(&answer["code"].as_str().unwrap_or_default()) {
            if stopwatch.elapsed() > self.deadline {
                self.abort(&origin, &headers, extensions, &next).await;
                with_call(|call| call.acted = true);
                return Err(Error::Middleware(DeadlinePassed.into()));
            }
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let place = answer.pointer("/data/getResultUrl").and_then(Value::as_str).unwrap_or_default();
            let place = origin.join(place).map_err(|error| Error::Middleware(error.into()))?;
            let mut poll = Request::new(Method::GET, place);
            for name in [header::AUTHORIZATION, header::ACCEPT] {
                if let Some(value) = headers.get(&name) {
                    poll.headers_mut().insert(name, value.clone());
                }
            }
            // The statement runs whether we hear of it or not.
            with_call(|call| call.acted = true);
            answer = self.send(poll, extensions, &next, Repeat::Always).await?;
        }
        normalise(&mut answer, is_login, is_query);
        if is_login && answer["success"] == json!(false) {
            let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
            with_call(|call| call.refused_login = Some((text("code"), text("message"))));
        }
        let response = http::Response::builder()
            .status(StatusCode::OK)
            .header(header::CONTENT_TYPE, "application/json")
            .body(answer.to_string())
            .map_err(|error| Error::Middleware(error.into()))?;
        Ok(Response::from(response))
    }
}

impl Shim {
    fn rebase(&self, url: &mut Url) {
        let Some(base) = &self.base else { return };
        let mut moved = base.clone();
        moved.set_path(url.path());
        moved.set_query(url.query());
        *url = moved;
    }

    /// Sends a request as often as `repeat` allows. An answer that is no JSON (a gateway's page) becomes an error answer with the
    /// HTTP status as code.
    async fn send(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: &Next<'_>,
        repeat: Repeat,
    ) -> reqwest_middleware::Result<Value> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            let copy = request
                .try_clone()
                .ok_or_else(|| Error::middleware(std::io::Error::other("a request's body is a stream")))?;
            let result = match next.clone().run(copy, extensions).await {
                Ok(response) => read(response).await,
                Err(error) => Err(error),
            };
            let (again, wait) = match &result {
                Ok(Received { status, .. }) if *status == StatusCode::TOO_MANY_REQUESTS => {
                    (repeat != Repeat::Never, wait_of(&result))
                }
                Ok(Received { status, .. }) if status.is_server_error() => {
                    with_call(|call| call.acted = true);
                    (repeat == Repeat::Always, None)
                }
                Ok(_) => (false, None),
                Err(error) if is_refused(error) => (repeat != Repeat::Never, None),
                Err(_) => {
                    with_call(|call| call.acted = true);
                    (repeat == Repeat::Always, None)
                }
            };
            if !again || tries >= MAX_TRIES {
                return match result {
                    Ok(received) if received.status.is_server_error() && received.answer.is_none() => Err(
                        Error::middleware(std::io::Error::other(format!("http status {}", received.status.as_u16()))),
                    ),
                    Ok(received) => Ok(received.into_answer()),
                    Err(error) => Err(error),
                };
            }
            tries += 1;
            self.clock.sleep(wait.unwrap_or(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks the server to stop a statement; whether it does is unknown either way.
    async fn abort(&self, origin: &Url, headers: &header::HeaderMap, extensions: &mut Extensions, next: &Next<'_>) {
        let id = origin.query_pairs().find(|(key, _)| key == "requestId").map(|(_, value)| value.into_owned());
        let mut place = origin.clone();
        place.set_path("/queries/v1/abort-request");
        let mut request = Request::new(Method::POST, place);
        if let Some(token) = headers.get(header::AUTHORIZATION) {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(json!({ "sqlText": "", "requestId": id }).to_string().into());
        if let Err(error) = self.send(request, extensions, next, Repeat::Always).await {
            tracing::warn!(%error, "the server could not be asked to stop a statement");
        }
    }
}

struct Received {
    status: StatusCode,
    retry_after: Option<Duration>,
    answer: Option<Value>,
    text: String,
}

impl Received {
    fn into_answer(self) -> Value {
        self.answer.unwrap_or_else(|| {
            json!({"success": false, "code": format!("HTTP{}", self.status.as_u16()), "message": self.text, "data": null})
        })
    }
}

async fn read(response: Response) -> reqwest_middleware::Result<Received> {
    let status = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(|seconds: u64| Duration::from_secs(seconds.min(60)));
    let bytes = response.bytes().await.map_err(Error::from)?;
    let answer = serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object);
    // Half a body under status 200 is a cut answer, not a refusal.
    if answer.is_none() && status.is_success() {
        return Err(Error::middleware(std::io::Error::other("answer is no JSON object")));
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    Ok(Received { status, retry_after, answer, text })
}

fn wait_of(result: &reqwest_middleware::Result<Received>) -> Option<Duration> {
    result.as_ref().ok().and_then(|received| received.retry_after)
}

/// Whether the server surely never saw the request.
fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Reqwest(error) if error.is_connect())
}

fn edit(request: &mut Request, change: impl FnOnce(&mut Value)) {
    let body = request.body().and_then(Body::as_bytes).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    if let Some(mut body) = body {
        change(&mut body);
        *request.body_mut() = Some(body.to_string().into());
        request.headers_mut().remove(header::CONTENT_LENGTH);
    }
}
