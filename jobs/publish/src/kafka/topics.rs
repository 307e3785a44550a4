//! Topics that a publication needs: looked for, and made where they are missing.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tidemill_project::clock::Clock;

use super::KafkaFault;
use crate::{Error, Result};

const REQUEST: Duration = Duration::from_secs(30);
/// A request to create topics. Short, because a broker that does not know the request never answers it (librdkafka's in-process one
/// has no controller), and what takes longer on a real one is waited for below.
const CREATION: Duration = Duration::from_secs(5);
/// How long a new topic may take until it has a leader.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// Makes sure that topics, (name, whether it is a ledger), can be written to. Results get the broker's default number of
/// partitions; a ledger has one, because its order is what it is for, and keeps the newest record for ever.
pub(super) async fn ensure(config: &ClientConfig, wanted: &[(&str, bool)], may_create: bool, clock: &Clock) -> Result<()> {
    let first = wanted.first().map_or("", |(name, _)| *name).to_owned();
    let client_fault = |source| KafkaFault::Client { act: "look for the topic", topic: first.clone(), source };
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(client_fault)?;
    let admin = std::sync::Arc::new(admin);
    let led = led_topics(&admin, None).await?.map_err(client_fault)?;
    let missing: Vec<(&str, bool)> = wanted.iter().filter(|(name, _)| !led.contains(*name)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    if let (false, Some((name, _))) = (may_create, missing.first()) {
        return Err(KafkaFault::NoTopic { topic: (*name).to_owned() }.into());
    }
    let topics: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|(name, is_ledger)| {
            let partitions = if *is_ledger { 1 } else { -1 };
            let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
            if *is_ledger { topic.set("cleanup.policy", "compact") } else { topic }
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(CREATION)).operation_timeout(Some(CREATION));
    match admin.create_topics(&topics, &options).await {
        Ok(results) => {
            for (name, code) in results.into_iter().filter_map(Result::err) {
                if code != RDKafkaErrorCode::TopicAlreadyExists {
                    let source = KafkaError::AdminOp(code);
                    return Err(KafkaFault::Client { act: "create the topic", topic: name, source }.into());
                }
            }
        }
        // Some brokers make topics only when they are asked for one.
        Err(error) => tracing::debug!(%error, "topics cannot be created by request"),
    }
    for (name, _) in missing {
        wait_for_leader(&admin, name, clock).await?;
    }
    Ok(())
}

/// Whether all of `wanted` can be read from.
pub(super) async fn are_there(config: &ClientConfig, wanted: &[&str]) -> Result<bool> {
    let first = wanted.first().copied().unwrap_or_default().to_owned();
    let client_fault = |source| KafkaFault::Client { act: "look for the topic", topic: first.clone(), source };
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(client_fault)?;
    let led = led_topics(&std::sync::Arc::new(admin), None).await?.map_err(client_fault)?;
    Ok(wanted.iter().all(|name| led.contains(*name)))
}

type Admin = std::sync::Arc<AdminClient<DefaultClientContext>>;

async fn wait_for_leader(admin: &Admin, topic: &str, clock: &Clock) -> Result<()> {
    let stopwatch = clock.stopwatch();
    loop {
        match led_topics(admin, Some(topic)).await? {
            Ok(led) if led.contains(topic) => return Ok(()),
            _ if stopwatch.elapsed() > PATIENCE => {
                return Err(KafkaFault::NoTopic { topic: topic.to_owned() }.into());
            }
            _ => clock.sleep(PAUSE).await,
        }
    }
}

/// Names of topics all of whose partitions have a leader.
async fn led_topics(admin: &Admin, topic: Option<&str>) -> Result<Result<BTreeSet<String>, KafkaError>> {
    let (admin, topic) = (std::sync::Arc::clone(admin), topic.map(str::to_owned));
    let work = tokio::task::spawn_blocking(move || {
        let metadata = admin.inner().fetch_metadata(topic.as_deref(), REQUEST)?;
        let led = metadata.topics().iter().filter(|topic| {
            topic.error().is_none()
                && !topic.partitions().is_empty()
                && topic.partitions().iter().all(|partition| partition.leader() >= 0)
        });
        Ok(led.map(|topic| topic.name().to_owned()).collect())
    });
    work.await.map_err(Error::join("look for a topic"))
}
