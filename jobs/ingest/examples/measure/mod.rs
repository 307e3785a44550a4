//! What the examples share: decoding all values, the best of some rounds, a line of the report.

use std::time::Duration;

use tidemill_ingest::decode::{Decoder, NoHeaders, Record, RegisteredSchema, SchemaId};
use tidemill_project::clock::Clock;
use tidemill_project::contract::Contract;

pub(crate) const BATCH: usize = 20_000;
pub(crate) const ROUNDS: usize = 5;

/// Decodes values batch by batch; `schema` is the one that their prefixes name by the id 1. Returns the number of rows.
pub(crate) fn decode(
    contract: &Contract,
    schema: Option<&RegisteredSchema>,
    values: &[Vec<u8>],
    timestamp_us: Option<i64>,
) -> usize {
    let mut decoder = Decoder::new(contract).expect("a contract that compiles");
    decoder.learn(SchemaId(1), schema);
    let topic = contract.topics.first().map(|rule| rule.pattern.as_str());
    let mut num_rows = 0;
    for batch in values.chunks(BATCH) {
        decoder.begin(batch.len());
        for (offset, value) in batch.iter().enumerate() {
            decoder.push(&Record {
                payload: Some(value),
                headers: &NoHeaders,
                topic,
                topic_rule: Some(0),
                partition: Some(0),
                offset: i64::try_from(offset).ok(),
                place_in_file: None,
                timestamp_us,
                clock_us: 0,
            });
        }
        let decoded = decoder.finish().expect("columns of one length");
        assert!(decoded.rejections.is_empty(), "{:?}", decoded.rejections.first());
        num_rows += decoded.batch.num_rows();
    }
    num_rows
}

/// The shortest time of some runs, each of which must yield so many rows.
pub(crate) fn best(num_events: usize, run: impl Fn() -> usize) -> Duration {
    let clock = Clock::system();
    let times = (0..ROUNDS).map(|_| {
        let watch = clock.stopwatch();
        assert_eq!(run(), num_events);
        watch.elapsed()
    });
    times.min().expect("at least one round")
}

pub(crate) fn report(name: &str, num_events: usize, time: Duration) {
    let per_event = time / u32::try_from(num_events).expect("fewer than 2^32 events");
    println!("{name:<11} {per_event:>7.1?} an event, {:.2} M events/s", 1e3 / per_event.as_secs_f64() / 1e9);
}
