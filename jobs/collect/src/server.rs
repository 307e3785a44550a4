//! Routes, and the life of the server from listening to drained.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tidemill_project::Topic;
use tidemill_project::clock::Clock;
use tidemill_project::config::{CollectSettings, KafkaSettings};
use tidemill_project::contract::Contract;
use tidemill_project::metrics::{Metrics, ReadingLabels, RequestLabels, RouteLabels};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::auth::Guard;
use crate::body;
use crate::check::check;
use crate::envelope::Envelope;
use crate::error::{Cause, Error};
use crate::limits::Limits;
use crate::refusal::Refusal;
use crate::send::Sender;
use crate::tls::{self, TlsListener};

/// Where phones post to.
pub const ROUTE: &str = "/sensor-logger";

/// A server that listens and is not serving yet.
pub struct Collector {
    door: Arc<Door>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    settings: CollectSettings,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What requests share.
struct Door {
    guard: Guard,
    limits: Limits,
    sender: Sender,
    contract: Contract,
    max_body_bytes: usize,
    clock: Clock,
    metrics: Metrics,
    stopping: AtomicBool,
    broken: CancellationToken,
}

impl Collector {
    /// Listens at the settings' address; connections wait until [`Collector::serve`].
    ///
    /// `contracts` are those of the project; the one that names the topic judges the readings.
    ///
    /// # Errors
    /// The address is taken, certificate or key set are not usable, no contract names the topic, or librdkafka refuses its
    /// settings. The broker need not be up.
    pub async fn bind(
        settings: CollectSettings,
        kafka: &KafkaSettings,
        contracts: &[Contract],
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let contract = contracts
            .iter()
            .find(|contract| contract.topics.iter().any(|topic| topic.pattern == settings.topic))
            .ok_or_else(|| Cause::NoContract { topic: Topic(settings.topic.clone()) })?;
        let door = Door {
            guard: Guard::new(&settings, clock.clone())?,
            limits: Limits::new(settings.max_buffered_bytes, settings.max_queued_records),
            sender: Sender::new(kafka, &settings)?,
            contract: contract.clone(),
            max_body_bytes: settings.max_body_bytes,
            clock,
            metrics,
            stopping: AtomicBool::new(false),
            broken: CancellationToken::new(),
        };
        let tls = settings.tls.as_ref().map(tls::acceptor).transpose()?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|source| Cause::Listen { address: settings.listen, source })?;
        Ok(Self { door: Arc::new(door), listener, tls, settings })
    }

    /// The address, with the port that the system gave when the settings say 0.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.listener.local_addr().map_err(|source| Cause::Serve { source })?)
    }

    /// Serves until `cancel`, then answers the open requests, sends what is queued and ends.
    ///
    /// # Errors
    /// The producer broke down for good: start anew, its callers were told 503.
    pub async fn serve(self, cancel: CancellationToken) -> Result<(), Error> {
        let Self { door, listener, tls, settings } = self;
        let router = Router::new()
            .route(ROUTE, post(collect))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(Arc::clone(&door));
        let stopped = CancellationToken::new();
        let stop = {
            let (door, stopped) = (Arc::clone(&door), stopped.clone());
            async move {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = door.broken.cancelled() => {}
                }
                door.stopping.store(true, Ordering::SeqCst);
                stopped.cancel();
            }
        };
        let served = async {
            match tls {
                Some(acceptor) => {
                    axum::serve(TlsListener::new(listener, acceptor), router).with_graceful_shutdown(stop).await
                }
                None => axum::serve(listener, router).with_graceful_shutdown(stop).await,
            }
            .map_err(|source| Cause::Serve { source })
        };
        // A connection that stays open without a request would hold the drain for ever.
        let clock = door.clock.clone();
        let overdue = async {
            stopped.cancelled().await;
            clock.sleep(settings.drain_timeout).await;
        };
        tokio::select! {
            served = served => served?,
            () = overdue => tracing::warn!("requests were still open when the drain ended"),
        }
        let fatal = door.sender.fatal();
        let timeout = settings.drain_timeout;
        let flushing = Arc::clone(&door);
        // A task that panics has nothing queued any more.
        let _ = tokio::task::spawn_blocking(move || flushing.sender.flush(timeout)).await;
        match fatal {
            Some(reason) => Err(Cause::Fatal { reason }.into()),
            None => Ok(()),
        }
    }
}

async fn collect(State(door): State<Arc<Door>>, request: Request<Body>) -> Response {
    let stopwatch = door.clock.stopwatch();
    let response = match door.admit(request).await {
        Ok(answer) => answer,
        Err(refusal) => {
            tracing::debug!(status = refusal.status.as_u16(), field = refusal.field, "request refused");
            refusal.into_response()
        }
    };
    let families = door.metrics.families();
    let labels = RequestLabels { route: ROUTE, status: response.status().as_u16() };
    families.collect_requests.get_or_create(&labels).inc();
    families.collect_seconds.get_or_create(&RouteLabels { route: ROUTE }).observe(stopwatch.elapsed().as_secs_f64());
    response
}

impl Door {
    /// Takes one request through all of its steps. The order matters: nothing is read for a caller who is not known, no
    /// memory is taken beyond the limits, and nothing is sent for a device that is not the caller's.
    async fn admit(&self, request: Request<Body>) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        let caller = self.guard.authenticate(&head.headers)?;
        let announced = body::announced(&head.headers);
        if announced.is_some_and(|bytes| bytes > self.max_body_bytes) {
            return Err(Refusal::too_large(self.max_body_bytes));
        }
        // Compressed bodies and those of unknown length may grow to the limit.
        let is_plain = !head.headers.contains_key(header::CONTENT_ENCODING);
        let reserved = announced.filter(|_| is_plain).unwrap_or(self.max_body_bytes);
        let _memory = self.limits.body(reserved)?;
        let body = body::read(&head.headers, body, self.max_body_bytes).await?;
        let envelope = Envelope::parse(&body)?;
        if !caller.covers(&envelope.device) {
            return Err(Refusal::forbidden("the key does not cover the device"));
        }
        self.limits.readings(&caller, envelope.len())?;
        let room = self.limits.queue(envelope.len())?;
        self.count_queue();
        let now_us = self.clock.now_us();
        let mut rejected = Vec::new();
        let mut values = Vec::with_capacity(envelope.len());
        for (index, reading) in envelope.readings().enumerate() {
            if let Err(error) = check(&self.contract, &reading, now_us) {
                rejected.push(json!({"index": index, "error": error}));
            }
            values.push(reading.to_json());
        }
        let sent = self.sender.send(&envelope.device, &values).await;
        drop(room);
        self.count_queue();
        if sent.is_err() && self.sender.fatal().is_some() {
            // The producer refuses everything from here on; a new process starts with a clean one.
            self.broken.cancel();
        }
        sent?;
        let accepted = values.len() - rejected.len();
        let count = |outcome, number: usize| {
            let labels = ReadingLabels { outcome };
            self.metrics.families().collect_records.get_or_create(&labels).inc_by(number as u64);
        };
        count("accepted", accepted);
        count("rejected", rejected.len());
        Ok((StatusCode::OK, Json(json!({"accepted": accepted, "rejected": rejected}))).into_response())
    }

    fn count_queue(&self) {
        let queued = i64::try_from(self.limits.queued()).unwrap_or(i64::MAX);
        self.metrics.families().collect_queued.set(queued);
    }
}

/// 200 while requests can be served; load balancers look here before they send any.
async fn ready(State(door): State<Arc<Door>>) -> Response {
    if door.stopping.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    let asked = Arc::clone(&door);
    match tokio::task::spawn_blocking(move || asked.sender.is_ready()).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n").into_response(),
        Ok(Err(reason)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the check failed\n").into_response(),
    }
}

async fn metrics(State(door): State<Arc<Door>>) -> Response {
    door.count_queue();
    ([(header::CONTENT_TYPE, crate::scrape::CONTENT_TYPE)], door.metrics.render()).into_response()
}
