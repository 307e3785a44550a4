//! Any split of a stream into batches, by any of several processes, with anything delivered again: each key once.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tidemill_project::TopicPartition;

use super::support::{Process, assert_closed, contract, event, keys, memory_lake};
use crate::commit::Verdict;

/// One step of a schedule: which process reads how many records of which partition, whether it restarts first, and whether
/// it lets another one commit between decoding and committing.
#[derive(Clone, Debug)]
struct Step {
    process: usize,
    partition: usize,
    num_records: usize,
    restarts: bool,
    overlaps: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..2_usize, 0..2_usize, 1..6_usize, prop::bool::weighted(0.2), any::<bool>()).prop_map(
        |(process, partition, num_records, restarts, overlaps)| Step {
            process,
            partition,
            num_records,
            restarts,
            overlaps,
        },
    );
    prop::collection::vec(step, 1..12)
}

/// Two partitions of records: a key of few, or one that no contract takes.
fn streams() -> impl Strategy<Value = [Vec<Option<u8>>; 2]> {
    let stream = || prop::collection::vec(prop::option::weighted(0.9, 0..12_u8), 0..24);
    [stream(), stream()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_key_lands_once(streams in streams(), steps in steps(), budget in prop::sample::select(vec![0_usize, 1 << 20])) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let partitions = [TopicPartition::new("events", 0), TopicPartition::new("events", 1)];
            let lake = memory_lake();
            let contract = contract();
            let mut processes = [
                Process::with_budget(&lake, &contract, budget).await,
                Process::with_budget(&lake, &contract, 1 << 20).await,
            ];
            // Where each process reads next in each partition; both believe that they own both.
            let mut next = [[0_usize; 2]; 2];
            for process in &mut processes {
                for partition in &partitions {
                    process.take(partition).await;
                }
            }
            let texts = streams.clone().map(|stream| {
                stream.iter().map(|key| key.map_or("bad".to_owned(), |key| event(&format!("k{key}"), i64::from(key)))).collect::<Vec<_>>()
            });
            let mut held: Option<(usize, usize, crate::batch::Batch)> = None;
            let drain = Step { process: 0, partition: 0, num_records: 24, restarts: true, overlaps: false };
            let last = [drain.clone(), Step { partition: 1, restarts: false, ..drain }];
            for step in steps.into_iter().chain(last) {
                let (who, which) = (step.process, step.partition);
                if step.restarts {
                    if held.as_ref().is_some_and(|(process, ..)| *process == who) {
                        held = None;
                    }
                    processes[who] = Process::with_budget(&lake, &contract, budget).await;
                    for (number, partition) in partitions.iter().enumerate() {
                        next[who][number] = usize::try_from(processes[who].take(partition).await).unwrap();
                    }
                }
                let from = next[who][which];
                let to = (from + step.num_records).min(texts[which].len());
                let mut batches = Vec::new();
                if from < to {
                    let records: Vec<_> = (from..to)
                        .map(|at| (&partitions[which], i64::try_from(at).unwrap(), Some(texts[which][at].as_str())))
                        .collect();
                    next[who][which] = to;
                    batches.push((who, which, processes[who].batch(&records)));
                }
                // A held batch is committed after the one that overtakes it, unless both are of one process.
                if step.overlaps && held.is_none() {
                    held = batches.pop();
                } else if let Some(waiting) = held.take() {
                    if waiting.0 == who { batches.insert(0, waiting) } else { batches.push(waiting) }
                }
                for (who, which, batch) in batches {
                    let verdicts = processes[who].commit(batch).await.verdicts;
                    if verdicts != [Verdict::Landed] {
                        next[who][which] = usize::try_from(processes[who].take(&partitions[which]).await).unwrap();
                    }
                }
            }
            if let Some((who, _, batch)) = held {
                processes[who].commit(batch).await;
            }
            // The last steps may have met a stale batch; what is left is read by a fresh process.
            let mut fresh = Process::start(&lake, &contract).await;
            for (number, partition) in partitions.iter().enumerate() {
                let from = usize::try_from(fresh.take(partition).await).unwrap();
                let records: Vec<_> = (from..texts[number].len())
                    .map(|at| (partition, i64::try_from(at).unwrap(), Some(texts[number][at].as_str())))
                    .collect();
                if !records.is_empty() {
                    fresh.land(&records).await;
                }
            }
            let distinct: BTreeSet<String> = streams.iter().flatten().flatten().map(|key| format!("k{key}")).collect();
            prop_assert_eq!(keys(&lake).await, distinct.into_iter().collect::<Vec<_>>());
            let proof = assert_closed(&lake).await;
            let bad = streams.iter().flatten().filter(|key| key.is_none()).count() as u64;
            prop_assert_eq!(proof.quarantined(), bad);
            Ok(())
        })?;
    }
}
