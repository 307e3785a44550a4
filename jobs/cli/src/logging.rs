//! Logs: stderr only, one story per batch at `info`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{OnceLock, PoisonError, RwLock};

use serde_json::{Map, Value};
use tidemill_project::SourceName;
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

/// The system of every source that the process has read a contract of, by the source's name.
static SYSTEMS: RwLock<BTreeMap<String, String>> = RwLock::new(BTreeMap::new());

/// Lets log lines that name one of these sources name its system as well.
pub(crate) fn name_systems(systems: impl IntoIterator<Item = (SourceName, impl Into<String>)>) {
    let systems = systems.into_iter().map(|(source, system)| (source.to_string(), system.into()));
    // A map is whole after every insertion, so one that a panic let go of is as good as any.
    SYSTEMS.write().unwrap_or_else(PoisonError::into_inner).extend(systems);
}

/// What the contract of a source calls its system. A source whose contract has not been read (one that is gone, whose
/// records still lie in quarantine) goes by its own name, which is the default of the contract as well.
fn system_of(source: &str) -> String {
    let systems = SYSTEMS.read().unwrap_or_else(PoisonError::into_inner);
    let own_name = || source.split_once('.').map_or(source, |(source, _)| source).to_owned();
    systems.get(source).cloned().unwrap_or_else(own_name)
}

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
/// `message`, and whatever the event carries under its own names: `source`, `topic`, `partition`, `from` and `to` (offsets),
/// `error_code`, `error`. A line that names a source names its `system` too, as the contract says: put in here, in one place,
/// because a room that warns of a store that does not answer knows the source's name and nothing else of it.
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
        let value = value.into();
        if field.name() == "source"
            && let Some(source) = value.as_str()
        {
            self.0.insert("system".to_owned(), system_of(source).into());
        }
        match field.name() {
            "log.target" => self.0.insert("target".to_owned(), value),
            name if name.starts_with("log.") => None,
            name => self.0.insert(name.to_owned(), value),
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panics with the lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `speak` logs, as a collector reads them.
    fn lines(speak: impl FnOnce()) -> Vec<Map<String, Value>> {
        let written = Written::default();
        let (clock, _) = Clock::manual(1_741_478_400_000_000, 7);
        let writer = written.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).event_format(JsonLines { clock }).finish();
        tracing::subscriber::with_default(subscriber, speak);
        let bytes = written.0.lock().expect("nobody panics with the lock").clone();
        let text = String::from_utf8(bytes).expect("JSON is UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect()
    }

    #[test]
    fn x33_a_line_that_names_a_source_names_the_system_of_its_contract() {
        name_systems([(SourceName::new("log33", "taps"), "plumbing"), (SourceName::new("log33", "pipes"), "log33")]);
        let lines = lines(|| {
            tracing::info!(source = %SourceName::new("log33", "taps"), partition = 3, "offsets committed");
            tracing::warn!(source = "log33.pipes", "store does not answer");
            tracing::warn!(source = "log33gone.orders", "records quarantined");
            tracing::info!("nothing about a source");
        });
        let systems: Vec<_> = lines.iter().map(|line| line.get("system").and_then(Value::as_str)).collect();
        assert_eq!(systems, [Some("plumbing"), Some("log33"), Some("log33gone"), None]);
        assert_eq!(lines[0]["source"], "log33.taps");
        assert_eq!((&lines[0]["time"], &lines[0]["partition"]), (&"2025-03-09T00:00:00.000000Z".into(), &3.into()));
    }
}
