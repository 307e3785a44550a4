//! Logs: stderr only, one story per batch at `info`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use serde_json::{Map, Value};
use tidemill_project::clock::Clock;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FmtSpan, FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::args::LogFormat;

/// The run that the process's log lines belong to; the first one that is told counts.
static RUN_ID: OnceLock<String> = OnceLock::new();

/// Puts a run's id into all log lines from here on.
pub(crate) fn name_run(run_id: &str) {
    // A command has one run; commands of tests may name more, which all keep the first name.
    let _ = RUN_ID.set(run_id.to_owned());
}

/// Starts logging. Level `warn` for people, `info` for machines, unless `TIDEMILL_LOG` says otherwise.
///
/// `snowflake_api` prints tokens and SQL below `info`, so it is capped there whatever the filter says. The retries of object
/// stores, which that library calls information, are what a person waits for who sees nothing happen.
pub(crate) fn init(format: LogFormat, env: &BTreeMap<String, String>) {
    let default = match format {
        LogFormat::Text => "warn",
        LogFormat::Json => "info",
    };
    let asked = env.get("TIDEMILL_LOG").map_or(default, String::as_str);
    let filter = EnvFilter::try_new(format!(
        "{asked},snowflake_api=info,datafusion=warn,delta_kernel=error,deltalake=error,librdkafka=off,\
         object_store::client::retry=info"
    ))
    .unwrap_or_else(|_| EnvFilter::new(default));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_span_events(FmtSpan::NONE);
    // A second call happens in tests only, and then the first subscriber stays.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).with_ansi(false).try_init(),
        LogFormat::Json => builder.event_format(JsonLines { clock: Clock::system() }).try_init(),
    };
}

/// One JSON object a line (X33): `time` (RFC 3339, UTC, microseconds), `level`, `run_id`, `target` (the module that speaks),
/// `message`, and whatever the event carries under its own names: `system`, `source`, `topic`, `partition`, `from` and `to`
/// (offsets), `error_code`, `error`.
struct JsonLines {
    clock: Clock,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Map::new();
        let now = chrono::DateTime::from_timestamp_micros(self.clock.now_us()).unwrap_or_default();
        line.insert("time".to_owned(), now.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        if let Some(run_id) = RUN_ID.get() {
            line.insert("run_id".to_owned(), run_id.as_str().into());
        }
        line.insert("target".to_owned(), event.metadata().target().into());
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// Writes an event's fields into an object: numbers and truths as such, all else as text.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    /// Lines of the `log` crate carry where they come from in fields of their own; the module is what counts of that.
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        match field.name() {
            "log.target" => self.0.insert("target".to_owned(), value.into()),
            name if name.starts_with("log.") => None,
            name => self.0.insert(name.to_owned(), value.into()),
        };
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, crate::report::one_line(value));
    }
}
