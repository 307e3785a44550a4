//! Posts readings to `tidemill collect`, in the body of the phone app.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidemill_project::clock::Clock;
use tokio::task::{JoinError, JoinHandle};

use crate::Record;

/// Requests that may be under way: each waits for the broker, so that one after the other would take milliseconds apiece.
const IN_FLIGHT: usize = 16;
/// How long the door may keep sending a request away.
const PATIENCE: Duration = Duration::from_mins(1);

/// A request did not get through.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// A record cannot be posted: it is not what the simulator makes for the door.
    #[error("record is no reading of a phone")]
    Shape(#[source] serde_json::Error),
    /// The address cannot be read.
    #[error("`{url}` is no address of a collector; write it as http://127.0.0.1:8080/sensor-logger")]
    Url {
        /// As it was given.
        url: String,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nobody answered.
    #[error("no answer from the collector, url=`{url}`; is `tidemill collect` running?")]
    Send {
        /// Where to.
        url: Url,
        /// Cause.
        source: reqwest::Error,
    },
    /// An answer that a retry does not change, or that came for a minute.
    #[error("the collector refused a message, url=`{url}`, status=`{status}`, answer=`{answer}`")]
    Refused {
        /// Where to.
        url: Url,
        /// Status code.
        status: StatusCode,
        /// What it said.
        answer: String,
    },
}

/// Where to, and as whom.
#[derive(Clone)]
pub struct Door {
    url: Url,
    api_key: Option<String>,
}

impl Door {
    /// A collector's route, and the key of the phones; none where the door lets everybody in.
    ///
    /// # Errors
    /// [`PostError::Url`] when the text is no URL.
    pub fn new(url: &str, api_key: Option<String>) -> Result<Self, PostError> {
        let parsed = Url::parse(url).map_err(|source| PostError::Url { url: url.to_owned(), source: source.into() })?;
        Ok(Self { url: parsed, api_key })
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// A record as `activity` makes it: each value its JSON text, so that no number passes through a double.
#[derive(Deserialize)]
struct Reading<'r> {
    #[serde(borrow)]
    message_id: &'r RawValue,
    #[serde(borrow)]
    session_id: &'r RawValue,
    #[serde(borrow)]
    device_id: &'r RawValue,
    #[serde(borrow)]
    sensor: Option<&'r RawValue>,
    #[serde(borrow)]
    time: Option<&'r RawValue>,
    #[serde(borrow)]
    x: Option<&'r RawValue>,
    #[serde(borrow)]
    y: Option<&'r RawValue>,
    #[serde(borrow)]
    z: Option<&'r RawValue>,
}

/// Posts records: readings of one message of a phone travel together, as long as they come one after the other.
#[derive(Debug)]
pub struct Poster {
    http: Client,
    door: Door,
    clock: Clock,
    /// The body that is being filled: what is the same for all of its readings, and these.
    head: String,
    readings: String,
    open: FuturesUnordered<JoinHandle<Result<(), PostError>>>,
}

impl Poster {
    /// Makes a client. Nobody is asked anything yet.
    ///
    /// # Errors
    /// [`PostError::Send`] when no client can be made.
    pub fn new(door: Door, clock: Clock) -> Result<Self, PostError> {
        let http = Client::builder().build().map_err(|source| PostError::Send { url: door.url.clone(), source })?;
        Ok(Self { http, door, clock, head: String::new(), readings: String::new(), open: FuturesUnordered::new() })
    }

    /// Takes a record; posts the message before when the record begins another.
    ///
    /// # Errors
    /// A message before was refused, or the record is no reading.
    pub async fn push(&mut self, record: &Record) -> Result<(), PostError> {
        let reading: Reading<'_> = serde_json::from_slice(&record.value).map_err(PostError::Shape)?;
        let head = format!(
            r#"{{"messageId":{},"sessionId":{},"deviceId":{},"payload":["#,
            reading.message_id, reading.session_id, reading.device_id
        );
        if head != self.head {
            self.post().await?;
            self.head = head;
        }
        if !self.readings.is_empty() {
            self.readings.push(',');
        }
        let text = |value: Option<&RawValue>| value.map_or("null", RawValue::get).to_owned();
        self.readings.push_str(&format!(
            r#"{{"name":{},"time":{},"values":{{"x":{},"y":{},"z":{}}}}}"#,
            text(reading.sensor),
            text(reading.time),
            text(reading.x),
            text(reading.y),
            text(reading.z)
        ));
        Ok(())
    }

    /// Posts what is left and waits until everything is acknowledged.
    ///
    /// # Errors
    /// A message was refused.
    pub async fn flush(&mut self) -> Result<(), PostError> {
        self.post().await?;
        while let Some(posted) = self.open.next().await {
            finished(posted)?;
        }
        Ok(())
    }

    /// Sends the message at hand on its way, when fewer than the most are.
    async fn post(&mut self) -> Result<(), PostError> {
        if self.readings.is_empty() {
            return Ok(());
        }
        while self.open.len() >= IN_FLIGHT
            && let Some(posted) = self.open.next().await
        {
            finished(posted)?;
        }
        let body = format!("{}{}]}}", self.head, self.readings);
        self.readings.clear();
        self.open.push(tokio::spawn(post(self.http.clone(), self.door.clone(), self.clock.clone(), body)));
        Ok(())
    }
}

/// Posts a body until it is acknowledged.
async fn post(http: Client, door: Door, clock: Clock, body: String) -> Result<(), PostError> {
    let watch = clock.stopwatch();
    loop {
        let mut request = http.post(door.url.clone()).header(CONTENT_TYPE, "application/json").body(body.clone());
        if let Some(key) = &door.api_key {
            request = request.header("x-api-key", key);
        }
        let fault = |source| PostError::Send { url: door.url.clone(), source };
        let response = request.send().await.map_err(fault)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        // As the app does: the same body again when the door says so; copies fall to the readings' keys.
        let again = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let wait_s = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        if !again || watch.elapsed() > PATIENCE {
            let answer = response.text().await.map_err(fault)?;
            return Err(PostError::Refused { url: door.url, status, answer });
        }
        clock.sleep(Duration::from_secs(wait_s.unwrap_or(1))).await;
    }
}

/// What came of a request that is over.
fn finished(posted: Result<Result<(), PostError>, JoinError>) -> Result<(), PostError> {
    posted.unwrap_or_else(|fault| match fault.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // Nobody cancels them but the end of the process.
        Err(_) => Ok(()),
    })
}
