//! A request's body: bounded, in time, decompressed.

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use futures::StreamExt;

use crate::refusal::Refusal;

/// A phone on a bad network sends 1 MiB in this time; whoever needs longer only holds memory.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a body of at most `limit` bytes, and at most `limit` again once decompressed.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let is_gzip = encoding(headers)?;
    let bytes = tokio::time::timeout(BODY_TIMEOUT, gather(body, limit)).await.map_err(|_| Refusal::slow_body())??;
    if !is_gzip {
        return Ok(bytes);
    }
    // A megabyte takes milliseconds; off the async threads all the same.
    match tokio::task::spawn_blocking(move || inflate(&bytes, limit)).await {
        Ok(inflated) => inflated,
        Err(_) => Err(Refusal::malformed(None, "the gzip body is broken")),
    }
}

/// The length that a request announces, if it does.
pub(crate) fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn encoding(headers: &HeaderMap) -> Result<bool, Refusal> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(false) };
    match value.to_str().map(|text| text.trim().to_ascii_lowercase()).as_deref() {
        Ok("" | "identity") => Ok(false),
        Ok("gzip" | "x-gzip") => Ok(true),
        Ok(other) => Err(Refusal::encoding(other)),
        Err(_) => Err(Refusal::encoding("?")),
    }
}

async fn gather(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Refusal::malformed(None, "the body ended early"))?;
        if bytes.len() + chunk.len() > limit {
            return Err(Refusal::too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

fn inflate(bytes: &[u8], limit: usize) -> Result<Bytes, Refusal> {
    let mut inflated = Vec::new();
    // One byte more than allowed tells a body of exactly the limit from a larger one, however well it was packed.
    let mut reader = MultiGzDecoder::new(bytes).take(limit as u64 + 1);
    reader.read_to_end(&mut inflated).map_err(|_| Refusal::malformed(None, "the gzip body is broken"))?;
    if inflated.len() > limit { Err(Refusal::too_large(limit)) } else { Ok(inflated.into()) }
}
