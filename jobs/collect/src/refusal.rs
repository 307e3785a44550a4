//! Answers that are not 200: status, field, reason, and when to come again.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a request was refused. The body is `{"error": {"status", "field", "reason"}}`; `field` is null when none is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) field: Option<&'static str>,
    pub(crate) reason: String,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, field: Option<&'static str>, reason: impl Into<String>) -> Self {
        Self { status, field, reason: reason.into(), retry_after: None }
    }

    /// 400: the body, or a field of its envelope, is not what the route takes.
    pub(crate) fn malformed(field: Option<&'static str>, reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, field, reason)
    }

    /// 401: no key, or none that is known.
    pub(crate) fn unauthorized(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, None, reason)
    }

    /// 403: the key is known and does not cover the device.
    pub(crate) fn forbidden(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, Some("deviceId"), reason)
    }

    /// 408: the body did not come in time.
    pub(crate) fn slow_body() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, None, "the body did not arrive in time")
    }

    /// 413: more bytes than `limit`.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, None, format!("the body is larger than {limit} bytes"))
    }

    /// 415: an encoding that is not spoken here.
    pub(crate) fn encoding(found: &str) -> Self {
        let reason = format!("content encoding `{found}` is not known; send gzip or none");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, reason)
    }

    /// 429: too much at once, come again after `wait`.
    pub(crate) fn busy(reason: impl Into<String>, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(StatusCode::TOO_MANY_REQUESTS, None, reason) }
    }

    /// 503: the broker did not acknowledge. Records may have been written; the same body again does no harm.
    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Self { retry_after: Some(Duration::from_secs(1)), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, None, reason) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"error": {"status": self.status.as_u16(), "field": self.field, "reason": self.reason}});
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: a caller that obeys must find the door open.
            let seconds = wait.as_millis().div_ceil(1000).max(1).to_string();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(&seconds).expect("digits are a header's value"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidemill\""));
        }
        // The body may not have been read to its end; the connection cannot be used for another request then.
        if matches!(self.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
