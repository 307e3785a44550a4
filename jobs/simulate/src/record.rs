//! One Kafka record, and where records go.

/// One Kafka record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Topic.
    pub topic: &'static str,
    /// Partition.
    pub partition: i32,
    /// Key, where the system has one.
    pub key: Option<String>,
    /// Value.
    pub value: Vec<u8>,
    /// Virtual sending time, milliseconds since the epoch, UTC: the record's timestamp.
    pub sent_ms: i64,
    /// Whether it belongs to a producer's transaction that is aborted: nobody may ever read it.
    pub is_aborted: bool,
}

/// Why records could not go on: what the receiver of them says.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Takes records one by one, in the order of their sending times; an error ends the stream.
pub type Sink<'a> = dyn FnMut(Record) -> Result<(), SinkError> + 'a;
