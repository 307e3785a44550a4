//! Any sequence of acts by two handles on one table is what a plain map would make of it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{committed, id, memory, partition, request, rows, spec, values};
use crate::maintain::{MaintainOptions, maintain, maybe_checkpoint};
use crate::{CommitOutcome, Table};

/// What one of the two writers does next.
#[derive(Clone, Debug)]
enum Act {
    Append { day: u32, count: u8 },
    Replace { day: u32, count: u8 },
    Compact,
    Checkpoint,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (9_u32..12, 1_u8..5).prop_map(|(day, count)| Act::Append { day, count }),
        2 => (9_u32..12, 0_u8..5).prop_map(|(day, count)| Act::Replace { day, count }),
        1 => Just(Act::Compact),
        1 => Just(Act::Checkpoint),
        1 => Just(Act::Reopen),
    ]
}

/// Commits until it is through, planning again from the new version each time.
async fn commit_until_through(table: &mut Table, day: u32, fresh: &[i64], is_replace: bool, app: &str) {
    let lake = table.lake().clone();
    let add = table.write_files(vec![rows(day, fresh.iter().copied())]).await.unwrap();
    loop {
        let remove = if is_replace { table.files_of(&partition(day)) } else { Vec::new() };
        let mut request = request(&lake, add.clone(), remove);
        let next = table.txn_version(app).unwrap_or(0) + 1;
        request.txns.insert(app.to_owned(), next);
        match table.commit(request).await.unwrap() {
            CommitOutcome::Committed(_) => return,
            CommitOutcome::Lost(winners) => assert!(!winners.is_empty()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Rows, progress and versions of both handles agree with the model and with a table that is opened afresh.
    #[test]
    fn two_handles_agree_with_a_plain_map(acts in prop::collection::vec((any::<bool>(), act()), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = memory();
            let lakes = [world.lake.clone(), world.neighbour()];
            let mut tables = [
                lakes[0].open_or_create(&spec(), "test").await.unwrap(),
                lakes[1].open_or_create(&spec(), "test").await.unwrap(),
            ];
            let mut model = BTreeMap::<u32, BTreeSet<i64>>::new();
            let mut num_commits = BTreeMap::<String, i64>::new();
            let mut next_value = 0;
            for (is_second, act) in acts {
                let (at, app) = (usize::from(is_second), format!("app/{is_second}"));
                match act {
                    Act::Append { day, count } | Act::Replace { day, count } => {
                        let fresh: Vec<i64> = (next_value..next_value + i64::from(count)).collect();
                        next_value += i64::from(count);
                        let is_replace = matches!(act, Act::Replace { .. });
                        commit_until_through(&mut tables[at], day, &fresh, is_replace, &app).await;
                        let rows = model.entry(day).or_default();
                        if is_replace {
                            rows.clear();
                        }
                        rows.extend(fresh);
                        *num_commits.entry(app).or_default() += 1;
                    }
                    Act::Compact => {
                        maintain(&lakes[at], &id(), &MaintainOptions::full("test")).await.unwrap();
                    }
                    Act::Checkpoint => {
                        maybe_checkpoint(&tables[at]).await.unwrap();
                    }
                    Act::Reopen => tables[at] = lakes[at].open(&id()).await.unwrap().unwrap(),
                }
            }
            let expected: Vec<i64> = model.values().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
            let fresh = lakes[0].open(&id()).await.unwrap().unwrap();
            for table in &mut tables {
                table.refresh().await.unwrap();
                assert_eq!(values(table).await, expected);
                assert_eq!(table.txns(), &num_commits);
                assert_eq!((table.version(), table.files()), (fresh.version(), fresh.files()));
            }
            // What is written next starts from there.
            let [first, _] = &mut tables;
            committed(super::append(first, rows(9, [next_value])).await);
        });
    }
}
