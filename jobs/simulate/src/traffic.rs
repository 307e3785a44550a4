//! The traffic of one system, as a stream of records and the truth that it implies.

use std::collections::BTreeMap;

use crate::faults::Faults;
use crate::options::Options;
use crate::record::{Record, Sink, SinkError};
use crate::stream::Stream;
use crate::system::System;
use crate::truth::{Table, TopicTruth, Truth};
use crate::{activity, clicks, logins, zentry, zoner};

/// What a system's generator is given.
pub(crate) struct Studio<'s, 'a> {
    pub(crate) stream: &'s mut Stream<'a>,
    pub(crate) faults: &'s mut Faults,
}

/// Records in sending order, and what they imply.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Sorted by sending time; records of the same millisecond in the order in which they were made.
    pub records: Vec<Record>,
    /// What tables must hold after all of it is processed.
    pub truth: Truth,
}

/// Makes the traffic of one system, handing each record on as soon as its turn has come: memory does not grow with the
/// stream, but for what models of users and days need to be known in the end.
///
/// # Errors
/// The sink's; the stream ends with it.
pub fn stream(system: System, options: &Options, sink: &mut Sink<'_>) -> Result<Truth, SinkError> {
    let (mut topics, as_of_us, tables) = pass(system, options, 0, sink)?;
    if let Some(replay_us) = options.replay_after_us {
        pass(system, options, replay_us / 1000, sink)?;
        topics = topics.into_iter().map(|(topic, books)| (topic, books.replayed())).collect();
    }
    Ok(Truth {
        options: [(system.name().to_owned(), options.clone())].into(),
        as_of_us,
        topics: topics.into_iter().map(|(topic, books)| (topic.to_owned(), books)).collect(),
        models: tables.into_iter().map(Table::finish).collect(),
    })
}

type Pass = (BTreeMap<&'static str, TopicTruth>, i64, Vec<Table>);

/// Sends all records once, with sending times later by a number of milliseconds.
fn pass(system: System, options: &Options, shift_ms: i64, sink: &mut Sink<'_>) -> Result<Pass, SinkError> {
    let mut forward = |record| sink(record);
    let mut stream = Stream::new(system, options, shift_ms, &mut forward);
    let mut faults = Faults::new(system, options);
    let studio = &mut Studio { stream: &mut stream, faults: &mut faults };
    let tables = match system {
        System::Zoner => zoner::generate(studio)?,
        System::Activity => activity::generate(studio)?,
        System::Clicks => clicks::generate(studio)?,
        System::Logins => logins::generate(studio)?,
        System::Zentry => zentry::generate(studio)?,
    };
    let as_of_us = stream.as_of_us();
    Ok((stream.finish()?, as_of_us, tables))
}

/// Makes the traffic of one system and holds all of it.
///
/// # Panics
/// Never: what holds the records takes every one.
#[must_use]
pub fn generate(system: System, options: &Options) -> Traffic {
    let mut records = Vec::new();
    let truth = stream(system, options, &mut |record| {
        records.push(record);
        Ok(())
    })
    .expect("a vector takes every record");
    Traffic { records, truth }
}

/// Records of several systems in one order: each system's own order is kept, and all end at about the same time.
#[must_use]
pub fn interleave(traffic: Vec<Vec<Record>>) -> Vec<Record> {
    let total: usize = traffic.iter().map(Vec::len).sum();
    let lengths: Vec<usize> = traffic.iter().map(Vec::len).collect();
    let mut queues: Vec<_> = traffic.into_iter().map(Vec::into_iter).collect();
    let mut taken = vec![0_usize; queues.len()];
    let mut records = Vec::with_capacity(total);
    while records.len() < total {
        // The system that is furthest behind its share is next: taken/length is compared without division.
        let next = (0..queues.len())
            .filter(|index| taken[*index] < lengths[*index])
            .min_by(|one, other| (taken[*one] * lengths[*other]).cmp(&(taken[*other] * lengths[*one])));
        let Some(next) = next else { break };
        taken[next] += 1;
        records.extend(queues[next].next());
    }
    records
}
