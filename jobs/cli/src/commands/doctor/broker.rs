//! The broker: is it there, are the topics, may we read them, may we be a member of the group, what is its clock.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message as _, Timestamp, TopicPartitionList};
use tidemill_ingest::status::{SourceStatus, status};
use tidemill_project::config::KafkaSettings;
use tidemill_project::contract::Contract;

use super::Finding;
use super::broker_clock::{self, Appended};
use crate::commands::context::Context;
use crate::report::one_line;

const REQUEST: Duration = Duration::from_secs(5);

pub(super) async fn check(context: &Context, probe_clock: bool) -> Vec<Finding> {
    let Some(kafka) = context.settings.kafka.clone() else {
        return vec![Finding::good("kafka", "not configured: files only")];
    };
    let servers = kafka.property("bootstrap.servers").unwrap_or_default().to_owned();
    let mut findings = Vec::new();
    match blocking(&kafka, |consumer| consumer.fetch_metadata(None, REQUEST).map(|all| all.topics().len())).await {
        Ok(num_topics) => {
            findings.push(Finding::good("kafka", format!("{servers}: {num_topics} topics are visible")));
        }
        Err(error) => {
            let found = format!("{servers}: {error}");
            return vec![Finding::bad(
                "kafka",
                found,
                "check bootstrap.servers, security.protocol and the credentials; the broker must be reachable from here",
            )];
        }
    }
    // A project that cannot be read has its own finding.
    let Ok(contracts) = context.contracts() else { return findings };
    let mut some_partition = None;
    let mut newest: Option<Appended> = None;
    for contract in contracts.contracts.iter().filter(|contract| contract.enabled) {
        let found = match status(&context.settings, &context.lake, contract).await {
            Ok(found) => found,
            Err(error) => {
                findings.push(Finding::bad(
                    format!("topics of {}", contract.name),
                    one_line(&error),
                    "mend the lake first",
                ));
                continue;
            }
        };
        let (finding, appended) = check_topics(contract, &found, &kafka).await;
        newest = newest.max(appended);
        if let Some(first) = found.partitions.iter().find(|of| of.end.is_some()) {
            some_partition.get_or_insert_with(|| (first.topic.clone(), first.partition));
        }
        findings.push(finding);
    }
    if let Some(partition) = some_partition {
        findings.push(check_group(&kafka, partition).await);
    }
    findings.push(if probe_clock {
        broker_clock::measure(&kafka, &servers, &context.clock).await
    } else {
        broker_clock::judge(newest, &servers, context.clock.now_us())
    });
    findings
}

/// Whether the topics exist and their records may be read, and the newest record seen on the way that a broker stamped.
async fn check_topics(contract: &Contract, found: &SourceStatus, kafka: &KafkaSettings) -> (Finding, Option<Appended>) {
    let mut newest = None;
    let finding = read_topics(contract, found, kafka, &mut newest).await;
    (finding, newest)
}

async fn read_topics(
    contract: &Contract,
    found: &SourceStatus,
    kafka: &KafkaSettings,
    newest: &mut Option<Appended>,
) -> Finding {
    let what = format!("topics of {}", contract.name);
    if let Some(fault) = &found.broker_fault {
        return Finding::bad(what, fault.clone(), "allow this user to describe the topics");
    }
    let there: BTreeSet<&str> =
        found.partitions.iter().filter(|of| of.end.is_some()).map(|of| of.topic.as_str()).collect();
    let is_missing = |pattern: &&str| !pattern.starts_with('^') && !there.contains(pattern);
    let missing: Vec<&str> = contract.topics.iter().map(|rule| rule.pattern.as_str()).filter(is_missing).collect();
    if there.is_empty() {
        let patterns: Vec<&str> = contract.topics.iter().map(|rule| rule.pattern.as_str()).collect();
        return Finding::bad(
            what,
            format!("none of {} exists", patterns.join(", ")),
            "create the topics, or allow this user to describe them; switch the contract off with `enabled: false`",
        );
    }
    for topic in &there {
        let of_topic = found.partitions.iter().find(|of| of.topic == *topic).map_or(0, |of| of.partition);
        match read(kafka, (*topic).to_owned(), of_topic).await {
            Ok(Some(Timestamp::LogAppendTime(at_ms))) => {
                *newest = newest.take().max(Some(Appended { at_ms, topic: (*topic).to_owned() }));
            }
            Ok(_) => {}
            Err(error) => {
                return Finding::bad(
                    what,
                    format!("{topic}: {error}"),
                    format!("allow this user to read the topic: ACL operation READ on TOPIC {topic}"),
                );
            }
        }
    }
    let gaps: Vec<String> = found
        .partitions
        .iter()
        .filter(|of| of.next.zip(of.end).is_some_and(|(next, end)| next > end))
        .map(|of| format!("{}/{}", of.topic, of.partition))
        .collect();
    if !gaps.is_empty() {
        return Finding::bad(
            what,
            format!("the lake has read beyond the end of {}", gaps.join(", ")),
            "was the topic re-created? `tidemill ingest --on-gap skip` begins the new one",
        );
    }
    let names: Vec<&str> = there.into_iter().collect();
    let note = if missing.is_empty() { String::new() } else { format!("; not there: {}", missing.join(", ")) };
    let lag = found.lag.unwrap_or_default();
    Finding::good(what, format!("{}: readable, {lag} records behind{note}", names.join(", ")))
}

/// Whether offsets of the group may be read, for which one must be allowed to be its member.
async fn check_group(kafka: &KafkaSettings, (topic, partition): (String, i32)) -> Finding {
    let what = format!("group {}", kafka.group);
    let ask = move |consumer: &BaseConsumer| {
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, partition);
        let offsets = consumer.committed_offsets(list, REQUEST)?;
        offsets.elements().iter().try_for_each(rdkafka::topic_partition_list::TopicPartitionListElem::error)
    };
    match blocking(kafka, ask).await {
        Ok(()) => Finding::good(what, "may be joined"),
        Err(error) => Finding::bad(
            what,
            error.to_string(),
            format!("allow this user to be a member: ACL operation READ on GROUP {}", kafka.group),
        ),
    }
}

/// Reads the last record of a partition: what comes is a record with its timestamp, the partition's end, or a refusal.
async fn read(kafka: &KafkaSettings, topic: String, partition: i32) -> Result<Option<Timestamp>, KafkaError> {
    let ask = move |consumer: &BaseConsumer| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, partition, rdkafka::Offset::OffsetTail(1))?;
        consumer.assign(&list)?;
        match consumer.poll(REQUEST) {
            Some(Ok(record)) => Ok(Some(record.timestamp())),
            Some(Err(KafkaError::PartitionEOF(_))) => Ok(None),
            Some(Err(error)) => Err(error),
            None => Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)),
        }
    };
    blocking(kafka, ask).await
}

/// Calls librdkafka where it may block. The consumer asks and never subscribes, so it does not join the group.
async fn blocking<T: Send + 'static>(
    kafka: &KafkaSettings,
    ask: impl FnOnce(&BaseConsumer) -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    let mut config = tidemill_project::kafka::client_config(kafka);
    config.set("group.id", &kafka.group).set("enable.partition.eof", "true").set("enable.auto.commit", "false");
    // The last record of a partition whose records have all expired: its end.
    config.set("auto.offset.reset", "latest");
    let work = move || ask(&config.create()?);
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(KafkaError::Canceled))
}
