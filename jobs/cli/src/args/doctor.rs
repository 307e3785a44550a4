//! Arguments of `doctor`.

use clap::Args;

/// Arguments of `doctor`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Create a topic `tidemill-doctor-ID` for a moment, to read the broker's clock from a record in it
    #[arg(long)]
    pub(crate) probe_kafka: bool,
}
