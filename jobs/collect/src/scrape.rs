//! A door for Prometheus: `/metrics` of any job, and `/healthz` for whoever asks whether it lives.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::error::{Cause, Error};

/// The content type of a page of metrics, OpenMetrics' text form.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Makes the page at the moment of a scrape. Must return quickly.
pub type Page = Arc<dyn Fn() -> String + Send + Sync>;

/// A server of metrics that listens and is not serving yet.
#[derive(Debug)]
pub struct Scrape {
    listener: TcpListener,
}

impl Scrape {
    /// Listens at `address`; port 0 lets the system choose one.
    ///
    /// # Errors
    /// The address is taken or not this machine's.
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).await.map_err(|source| Cause::Scrape { address, source })?;
        Ok(Self { listener })
    }

    /// The address, with the port that the system gave.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.listener.local_addr().map_err(|source| Cause::Serve { source })?)
    }

    /// Serves until `cancel`.
    ///
    /// # Errors
    /// The socket broke.
    pub async fn serve(self, page: Page, cancel: CancellationToken) -> Result<(), Error> {
        let router =
            Router::new().route("/metrics", get(metrics)).route("/healthz", get(|| async { "ok\n" })).with_state(page);
        let served = axum::serve(self.listener, router).with_graceful_shutdown(async move { cancel.cancelled().await });
        Ok(served.await.map_err(|source| Cause::Serve { source })?)
    }
}

async fn metrics(State(page): State<Page>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page()).into_response()
}
