//! A few blocking HTTP calls to servers on loopback.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A finished call.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: String,
}

/// Sends a request with an optional JSON body and returns whatever the server answers.
///
/// # Errors
/// When there is no answer within ten seconds.
pub fn send(method: &str, url: &str, body: Option<&Value>) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let mut request = client.request(method.parse()?, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("no answer from {method} {url}"))?;
        Ok(Answer { status: response.status().as_u16(), body: response.text().await? })
    })
}

/// Like [`send`].
///
/// # Errors
/// When there is no answer, or one that is no success.
pub fn succeed(method: &str, url: &str, body: Option<&Value>) -> Result<String> {
    let answer = send(method, url, body)?;
    if !(200..300).contains(&answer.status) {
        bail!("{method} {url} answered {}: {}", answer.status, answer.body);
    }
    Ok(answer.body)
}
