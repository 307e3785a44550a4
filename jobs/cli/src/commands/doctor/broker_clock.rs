//! The broker's clock.
//!
//! Kafka has no request that tells it. What tells it is a record that the broker stamped (`message.timestamp.type =
//! LogAppendTime`); other records carry their producers' time, which says nothing. Such a record that lies in a topic already
//! proves one thing: the broker's clock has read that time, so it reads at least that now. It can convict a clock that is ahead
//! and acquit none, because when the record came is not known. Who wants to know more lets a topic be made for a moment, in
//! which a record comes at a time that is known. Topics of the user are never written to.

use std::time::Duration;

use rdkafka::Timestamp;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tidemill_project::clock::{Clock, ClockReading, Micros};
use tidemill_project::config::KafkaSettings;

use super::{Finding, clocks};

const WHAT: &str = "kafka clock";
const REQUEST: Duration = Duration::from_secs(10);

/// A record that a broker stamped when it came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Appended {
    /// Milliseconds since the epoch, by the broker's clock.
    pub(super) at_ms: i64,
    pub(super) topic: String,
}

/// What the newest record that a broker stamped proves.
pub(super) fn judge(newest: Option<Appended>, servers: &str, now_us: Micros) -> Finding {
    const ADVICE: &str = "`tidemill doctor --probe-kafka` measures it, with a topic of its own that it deletes again";
    let Some(Appended { at_ms, topic }) = newest else {
        let found =
            format!("{servers}: not known: no record here is stamped by the broker, and Kafka has no request for it");
        return Finding::unknown(WHAT, found, ADVICE);
    };
    let least_skew_us = at_ms.saturating_mul(1000).saturating_sub(now_us);
    if least_skew_us > 0
        && let Some(fault) =
            clocks::fault(WHAT, &format!("{servers} (stamp of the newest record of {topic})"), least_skew_us)
    {
        return fault;
    }
    let age_s = least_skew_us.min(0).abs() / 1_000_000;
    let found = format!(
        "{servers}: no more known than that it is not more than {age_s} s behind: so old is the newest stamp, of {topic}"
    );
    Finding::unknown(WHAT, found, ADVICE)
}

/// Makes a topic whose records the broker stamps, sends one, and deletes the topic.
pub(super) async fn measure(kafka: &KafkaSettings, servers: &str, clock: &Clock) -> Finding {
    let topic = format!("tidemill-doctor-{}", clock.new_id());
    let admin = match tidemill_project::kafka::client_config(kafka).create::<AdminClient<DefaultClientContext>>() {
        Ok(admin) => admin,
        Err(error) => return not_measured(servers, &topic, &error),
    };
    if let Err(error) = create(&admin, &topic).await {
        return not_measured(servers, &topic, &error);
    }
    let reading = ask(kafka, &topic, clock).await;
    let deleted = match admin.delete_topics(&[&topic], &options()).await {
        Ok(results) => {
            results.into_iter().try_for_each(|result| result.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
        }
        Err(error) => Err(error),
    };
    if let Err(error) = deleted {
        let found = format!("{servers}: topic {topic} was made to read the clock and cannot be deleted: {error}");
        return Finding::bad(WHAT, found, format!("delete the topic {topic}; it holds one empty record"));
    }
    match reading {
        Ok(Some(reading)) => {
            let skew_us = reading.skew_us();
            clocks::fault(WHAT, servers, skew_us)
                .unwrap_or_else(|| Finding::good(WHAT, format!("{servers}: {}", clocks::agreement(skew_us))))
        }
        Ok(None) => Finding::unknown(
            WHAT,
            format!("{servers}: not known: it does not stamp records, though the topic asked for it"),
            "compare the broker's clock with this machine's by hand",
        ),
        Err(error) => not_measured(servers, &topic, &error),
    }
}

fn not_measured(servers: &str, topic: &str, error: &KafkaError) -> Finding {
    Finding::unknown(
        WHAT,
        format!("{servers}: not known: no record could be sent to a topic {topic}: {error}"),
        "allow this user CREATE, WRITE and DELETE on TOPIC tidemill-doctor-*, or compare the clocks by hand",
    )
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

async fn create(admin: &AdminClient<DefaultClientContext>, topic: &str) -> Result<(), KafkaError> {
    let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(-1)).set("message.timestamp.type", "LogAppendTime");
    let results = admin.create_topics([&topic], &options()).await?;
    results.into_iter().try_for_each(|result| result.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
}

/// Sends empty records until one's answer was as quick as an answer is; `None` when the broker leaves records their
/// producers' time. The first one waits for the topic's leader, and a reading is as exact as its answer was quick.
async fn ask(kafka: &KafkaSettings, topic: &str, clock: &Clock) -> Result<Option<ClockReading>, KafkaError> {
    let mut config = tidemill_project::kafka::client_config(kafka);
    config.set("message.timeout.ms", REQUEST.as_millis().to_string()).set("linger.ms", "0");
    let producer: FutureProducer = config.create()?;
    let mut reading = None;
    for _ in 0..2 {
        let asked_us = clock.now_us();
        let record = FutureRecord::<[u8], [u8]>::to(topic).partition(0).payload(&[]);
        let delivered = producer.send(record, REQUEST).await.map_err(|(error, _)| error)?;
        let answered_us = clock.now_us();
        let Timestamp::LogAppendTime(said_ms) = delivered.timestamp else { return Ok(None) };
        reading = Some(ClockReading { asked_us, said_us: said_ms.saturating_mul(1000), answered_us });
    }
    Ok(reading)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: Micros = 1_741_478_400_000_000;

    fn judged(ahead_s: i64) -> Finding {
        let newest = Appended { at_ms: NOW_US / 1000 + ahead_s * 1000, topic: "orders".to_owned() };
        judge(Some(newest), "b:9092", NOW_US)
    }

    #[test]
    fn a_stamp_from_the_future_convicts_the_brokers_clock_and_an_older_one_does_not_acquit_it() {
        let fault = judged(61);
        assert_eq!(fault.ok, Some(false));
        assert!(fault.found.contains("orders") && fault.found.contains("61 s ahead"), "{}", fault.found);
        for ahead_s in [60, 0, -5, -7_200] {
            let finding = judged(ahead_s);
            assert_eq!(finding.ok, None, "{}", finding.found);
            assert!(finding.advice.contains("--probe-kafka"));
        }
        assert!(judged(-7_200).found.contains("7200 s"));
    }

    #[test]
    fn without_a_stamp_of_the_broker_its_clock_is_not_known() {
        let finding = judge(None, "b:9092", NOW_US);
        assert_eq!((finding.ok, finding.state()), (None, "unknown"));
    }
}
