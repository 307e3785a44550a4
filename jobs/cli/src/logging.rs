//! Logs: stderr only, one story per batch at `info`.

use std::collections::BTreeMap;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::args::LogFormat;

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
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).try_init(),
    };
}
