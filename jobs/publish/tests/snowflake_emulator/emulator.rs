//! The emulator as a process of the test, and a proxy in front of it that remembers sessions and cuts answers.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::stream;
use serde_json::{Value, json};

/// The interpreter that has the emulator installed; the test runner sets it.
const PYTHON: &str = "TIDEMILL_TEST_FAKESNOW_PYTHON";

/// A running emulator; stops when the last test lets go of it, and also when this process is killed.
pub(crate) struct Emulator {
    child: Child,
    witness: Mutex<Option<Witness>>,
    pub(crate) url: String,
}

impl Emulator {
    /// The emulator that all tests of this process share.
    pub(crate) fn shared() -> Arc<Self> {
        static RUNNING: Mutex<Weak<Emulator>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(emulator) = running.upgrade() {
            return emulator;
        }
        let emulator = Arc::new(Self::start());
        *running = Arc::downgrade(&emulator);
        emulator
    }

    fn start() -> Self {
        let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers/fakesnow/launcher.py");
        Self::spawn(&[launcher.to_str().unwrap()])
    }

    /// The emulator as it is published, without the launcher's repairs.
    pub(crate) fn stock() -> Self {
        const SERVE: &str = "import sys, fakesnow\nwith fakesnow.server(port=int(sys.argv[1]), host='127.0.0.1'):\n    \
                             print('ready', flush=True)\n    sys.stdout = sys.stderr\n    sys.stdin.read()";
        Self::spawn(&["-c", SERVE])
    }

    fn spawn(program: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = Command::new(python())
            .args(program)
            .args([port.to_string().as_str(), "127.0.0.1", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("the emulator cannot be started, python=`{}`: {error}", python().display()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready", "the emulator did not come up, program=`{program:?}`");
        Self { child, witness: Mutex::default(), url: format!("http://127.0.0.1:{port}") }
    }

    /// Asks through Snowflake's own Python client.
    ///
    /// # Errors
    /// The server's words when it refuses.
    pub(crate) fn try_ask(&self, database: &str, sql: &str) -> Result<Vec<Vec<Value>>, String> {
        let mut witness = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
        witness.get_or_insert_with(|| Witness::start(&self.url)).ask(database, sql)
    }

    /// The same, for what must go well.
    pub(crate) fn ask(&self, database: &str, sql: &str) -> Vec<Vec<Value>> {
        self.try_ask(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if let Some(mut witness) = self.witness.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            drop(witness.child.stdin.take());
            let _ = witness.child.wait();
        }
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test learns from the runner where its server is")]
fn python() -> PathBuf {
    let Ok(path) = std::env::var(PYTHON) else {
        panic!("{PYTHON} must name the python that has fakesnow; `./tests/run` installs it and sets the variable")
    };
    PathBuf::from(path)
}

/// Snowflake's own Python client, in a process of its own.
struct Witness {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Witness {
    fn start(url: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snowflake_emulator/query.py");
        let mut command = Command::new(python());
        let mut child = command.arg(script).arg(url).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    fn ask(&mut self, database: &str, sql: &str) -> Result<Vec<Vec<Value>>, String> {
        writeln!(self.child.stdin.as_mut().unwrap(), "{}", json!({"database": database, "sql": sql})).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        match answer["error"].take() {
            Value::Null => Ok(serde_json::from_value(answer["rows"].take()).unwrap()),
            error => Err(error.to_string()),
        }
    }
}

/// How an answer gets lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server works, the answer is lost.
    Answer,
    /// The request never arrives.
    Request,
}

#[derive(Default)]
struct Book {
    /// Token -> statements that were sent with it.
    sessions: HashMap<String, Vec<String>>,
    /// The next statement that begins with this is cut.
    cut: Option<(String, Cut)>,
    requests: usize,
}

/// Forwards to the emulator.
#[derive(Clone)]
pub(crate) struct Proxy {
    upstream: String,
    client: reqwest::Client,
    book: Arc<Mutex<Book>>,
    pub(crate) url: String,
}

impl Proxy {
    pub(crate) async fn before(emulator: &Emulator) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            upstream: emulator.url.clone(),
            client: reqwest::Client::new(),
            book: Arc::default(),
            url: format!("http://{}/", listener.local_addr().unwrap()),
        };
        let router = Router::new().fallback(forward).with_state(proxy.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        proxy
    }

    /// Loses the next statement that begins with `sql`.
    pub(crate) fn cut_next(&self, sql: &str, how: Cut) {
        self.book.lock().unwrap().cut = Some((sql.to_owned(), how));
    }

    /// Requests seen since the last call.
    pub(crate) fn take_requests(&self) -> usize {
        std::mem::take(&mut self.book.lock().unwrap().requests)
    }

    /// Ends the transactions of all sessions, as the service does with sessions that vanished.
    pub(crate) async fn end_transactions(&self) {
        let tokens: Vec<_> = self.book.lock().unwrap().sessions.drain().map(|(token, _)| token).collect();
        for token in tokens {
            self.rollback(&token).await;
        }
    }

    async fn rollback(&self, token: &str) {
        let request = self
            .client
            .post(format!("{}/queries/v1/query-request?requestId=0", self.upstream))
            .header("authorization", token)
            .json(&json!({"sqlText": "ROLLBACK"}));
        // A session that was closed properly has no transaction; the emulator says 401 then.
        let _ = request.send().await;
    }
}

async fn forward(State(proxy): State<Proxy>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let token = parts.headers.get("authorization").map(|token| token.to_str().unwrap().to_owned());
    let sql = serde_json::from_slice::<Value>(&body).ok().and_then(|body| Some(body["sqlText"].as_str()?.to_owned()));
    let cut = {
        let mut book = proxy.book.lock().unwrap();
        book.requests += 1;
        if let (Some(token), Some(sql)) = (&token, &sql) {
            book.sessions.entry(token.clone()).or_default().push(sql.clone());
        }
        let hit = matches!((&book.cut, &sql), (Some((start, _)), Some(sql)) if sql.starts_with(start.as_str()));
        if hit { book.cut.take().map(|(_, how)| how) } else { None }
    };
    if cut == Some(Cut::Request) {
        // The session is gone with its connection.
        if let Some(token) = &token {
            proxy.rollback(token).await;
        }
        return broken();
    }
    let mut upstream = proxy.client.request(parts.method, format!("{}{path}", proxy.upstream));
    for name in ["authorization", "content-type", "accept"] {
        if let Some(value) = parts.headers.get(name) {
            upstream = upstream.header(name, value);
        }
    }
    let answer = upstream.body(body).send().await.unwrap();
    let status = answer.status();
    let bytes = answer.bytes().await.unwrap();
    if cut == Some(Cut::Answer) {
        return broken();
    }
    Response::builder().status(status).header("content-type", "application/json").body(Body::from(bytes)).unwrap()
}

/// Half an answer, then the connection ends.
fn broken() -> Response {
    let parts = [Ok(Bytes::from_static(b"{\"succ")), Err(std::io::Error::other("cut"))];
    Response::builder().status(200).body(Body::from_stream(stream::iter(parts))).unwrap()
}
