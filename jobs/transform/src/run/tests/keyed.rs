//! Models that are kept by key: any sequence of increments gives the rows of a full refresh, and costs what it touches.

use proptest::prelude::*;

use super::world::{DAY_US, Event, HOUR_US, MINUTE_US, START_US, World, event};
use crate::plan::{Action, Reason};
use crate::run::{BuildOptions, Report};

const STAGING: &str = "select _key as event_key, user_id, amount, event_at from {{ source('shop', 'events') }}";
const STAGING_YML: &str = "models: [{name: stg_events, config: {materialized: view, event_time: event_at}}]";

/// An entry is created, updated and deleted by events: amount 9 deletes, and nothing brings it back.
const ENTRIES: &str = "
{{ config(materialized='incremental', incremental_strategy='merge', unique_key='entry_id', deleted='is_deleted',
          deletion='final', latest_by=['updated_at', '_key']) }}
select user_id * 3 + amount % 3 as entry_id, user_id, amount, event_at as updated_at, event_key as _key, amount = 9 as is_deleted
from {{ ref('stg_events') }}";

/// The same with deletions that a later event undoes.
const BY_TIME: &str = "
{{ config(materialized='incremental', incremental_strategy='merge', unique_key=['user_id', 'kind'], deleted='is_deleted',
          event_time='updated_at') }}
select user_id, amount % 2 as kind, amount, event_at as updated_at, amount > 7 as is_deleted
from {{ ref('stg_events') }}";

/// Who follows whom, as the newest event of each pair says.
const FOLLOWS: &str = "
{{ config(materialized='incremental', incremental_strategy='merge', unique_key=['follower_id', 'followed_id'],
          deleted='is_deleted', latest_by=['followed_at', '_key']) }}
select user_id as follower_id, (user_id + amount) % 5 as followed_id, event_at as followed_at, event_key as _key,
    amount in (2, 4) as is_deleted
from {{ ref('stg_events') }} where user_id <> (user_id + amount) % 5";

const COUNTS: &str = "
{{ config(materialized='incremental', incremental_strategy='merge', unique_key='user_id',
          touched_by={'follows': [{'user_id': 'follower_id'}, {'user_id': 'followed_id'}]}) }}
with sides as (
    select followed_id as user_id, 1 as followers, 0 as followed from {{ ref('follows') }}
    union all
    select follower_id as user_id, 0 as followers, 1 as followed from {{ ref('follows') }}
)
select user_id, sum(followers) as follower_count, sum(followed) as followed_count, sum(followers) >= 3 as is_celebrity
from sides group by user_id";

/// Each entry to each follower of its author, unless the author is a celebrity.
const FEED: &str = "
{{ config(materialized='incremental', incremental_strategy='merge', unique_key=['user_id', 'entry_id'],
          touched_by={'entries': {'entry_id': 'entry_id'}, 'follows': {'author_id': 'followed_id', 'user_id': 'follower_id'},
                      'counts': {'author_id': 'user_id'}}) }}
select follows.follower_id as user_id, entries.user_id as author_id, entries.entry_id, entries.amount, entries.updated_at
from {{ ref('entries') }} as entries
join {{ ref('follows') }} as follows on follows.followed_id = entries.user_id
join {{ ref('counts') }} as counts on counts.user_id = entries.user_id
where not counts.is_celebrity";

/// The rank of an entry among its author's: a window over a key.
const RANKED: &str = "
{{ config(materialized='incremental', incremental_strategy='merge', unique_key='entry_id',
          touched_by={'entries': {'user_id': 'user_id'}}) }}
select entry_id, user_id, row_number() over (partition by user_id order by amount, entry_id) as place
from {{ ref('entries') }}";

const TOTALS: &str = "
{{ config(materialized='incremental', incremental_strategy='aggregate') }}
with events as (select * from {{ ref('stg_events') }} where amount > 0)
select cast(event_at as date) as event_date, user_id, count(*) as events, sum(amount) as amount, min(amount) as least,
    max(event_at) as last_at, avg(amount) as mean, count(distinct amount) as kinds, approx_distinct(event_key) as keys,
    bool_or(amount > 8) as has_nine, bool_and(amount > 1) as all_large, arg_max(event_key, event_at) as last_key,
    median(amount) as middle, sum(amount) filter (where amount > 4) as large
from events group by 1, 2 having count(*) > 1";

/// A second aggregate over a table whose rows change and go.
const PER_AUTHOR: &str = "
{{ config(materialized='incremental', incremental_strategy='aggregate', unique_key='author_id') }}
select author_id, count(*) as copies, count(distinct user_id) as readers, max(amount) as most
from {{ ref('feed') }} group by author_id";

const MODELS: [(&str, &str); 9] = [
    ("entries", ENTRIES),
    ("by_time", BY_TIME),
    ("follows", FOLLOWS),
    ("counts", COUNTS),
    ("feed", FEED),
    ("ranked", RANKED),
    ("totals", TOTALS),
    ("per_author", PER_AUTHOR),
    ("stg_events", STAGING),
];

fn world() -> World {
    filled(World::new())
}

fn filled(world: World) -> World {
    world.write("models/stg_events.yml", STAGING_YML);
    for (name, sql) in MODELS {
        world.write(&format!("models/{name}.sql"), sql);
    }
    world
}

async fn all_rows(world: &World) -> Vec<(&'static str, Vec<String>)> {
    let mut rows = Vec::new();
    for (name, _) in MODELS {
        rows.push((name, world.rows(&format!("select * from {name}")).await));
    }
    rows
}

fn action<'a>(plan: &'a crate::plan::Plan, model: &str) -> &'a Action {
    &plan.models.iter().find(|planned| planned.model == model).unwrap().action
}

fn written(report: &Report, model: &str) -> u64 {
    report.node(model).unwrap().rows_written
}

/// Nobody computed a whole where the change tells.
fn assert_incremental(report: &Report) {
    for node in &report.nodes {
        assert_eq!(node.whole_because, None, "{}", node.name);
    }
}

#[tokio::test]
async fn an_older_event_never_overwrites_and_a_deletion_is_final() {
    let world = world();
    world.land(&[event("b", 1, 4, START_US + HOUR_US)]).await;
    world.build().await;
    world.land(&[event("a", 1, 1, START_US)]).await;
    assert_incremental(&world.build().await);
    assert_eq!(world.rows("select entry_id, amount from entries").await, ["4 | 4"]);
    world.land(&[event("d", 1, 9, START_US - HOUR_US)]).await;
    world.build().await;
    assert_eq!(world.rows("select entry_id, amount from entries order by 1").await, ["4 | 4"]);
    // 1 * 3 + 9 % 3 is entry 3: it was deleted before it was created.
    world.land(&[event("e", 1, 3, START_US + 5 * HOUR_US)]).await;
    let report = world.build().await;
    assert_incremental(&report);
    assert_eq!(written(&report, "entries"), 0);
    assert_eq!(world.rows("select entry_id, amount from entries order by 1").await, ["4 | 4"]);

    // Other words for the same query are remembered and change nothing.
    let words =
        ENTRIES.replace("from {{ ref('stg_events') }}", "from (select * from {{ ref('stg_events') }}) as every");
    world.write("models/entries.sql", &words);
    let report = world.build().await;
    assert_eq!(report.node("entries").unwrap().reason, Some(Reason::UpToDate));
    assert_eq!(world.rows("select entry_id, amount from entries order by 1").await, ["4 | 4"]);
    assert!(world.plan().await.is_empty());
    world.land(&[event("f", 2, 3, START_US)]).await;
    assert_incremental(&world.build().await);
    assert_eq!(world.rows("select entry_id, amount from entries order by 1").await, ["4 | 4", "6 | 3"]);
}

#[tokio::test]
async fn hidden_columns_and_state_are_not_shown() {
    let world = world();
    world.land(&[event("a", 1, 1, START_US)]).await;
    world.build().await;
    let names = world
        .rows(
            "select column_name from information_schema.columns where table_name = 'entries' and table_schema = 'main'",
        )
        .await;
    assert_eq!(names, ["amount", "entry_id", "updated_at", "user_id"]);
}

#[tokio::test]
async fn a_join_costs_the_keys_that_are_touched() {
    let world = world();
    let mut events = Vec::new();
    for user in 0..40_i64 {
        for step in 1..9_i64 {
            events.push(event(&format!("u{user}s{step}"), user, step, START_US + (user * 10 + step) * MINUTE_US));
        }
    }
    world.land(&events).await;
    world.build().await;
    world.land(&[event("new", 1, 5, START_US + DAY_US)]).await;
    let plan = world.plan().await;
    assert!(matches!(action(&plan, "entries"), Action::Keys { .. }), "{plan:?}");
    let report = world.build().await;
    assert_incremental(&report);
    assert_eq!(written(&report, "entries"), 1);
    assert!(written(&report, "feed") < 10, "{report:#?}");
    assert_eq!(written(&report, "totals"), 0, "a group of one row is below its having");
    let increments = all_rows(&world).await;
    world.full_refresh().await;
    assert_eq!(all_rows(&world).await, increments);
}

#[tokio::test]
async fn an_aggregate_reads_the_new_files_alone() {
    let world = filled(World::in_folder());
    let events: Vec<Event> = (0..50)
        .map(|index| event(&format!("e{index}"), index % 3, 1 + index % 8, START_US + index * MINUTE_US))
        .collect();
    world.land(&events).await;
    world.build().await;
    // Whoever still reads the old file fails.
    for file in world.raw().await.files() {
        std::fs::remove_file(world.root().join("lake/raw/shop/events").join(file.path)).unwrap();
    }
    world.land(&[event("late", 1, 7, START_US + 3 * MINUTE_US)]).await;
    let select = vec!["totals".to_owned(), "entries".to_owned()];
    let selection = crate::graph::Selection { select, ..crate::graph::Selection::default() };
    let report = world.build_selected(&selection, &BuildOptions::default()).await;
    assert!(report.failure().is_none(), "{report:#?}");
    assert_incremental(&report);
    assert_eq!(world.rows("select sum(events) from totals").await, ["51"]);
}

#[tokio::test]
async fn rows_that_leave_an_input_leave_its_readers() {
    let world = world();
    let events: Vec<Event> = (0..30)
        .map(|index| event(&format!("e{index}"), index % 4, 1 + index % 8, START_US + index * MINUTE_US))
        .collect();
    world.land(&events).await;
    world.build().await;
    world.delete(&["e3", "e7", "e8"]).await;
    let report = world.build().await;
    assert_incremental(&report);
    let increments = all_rows(&world).await;
    world.full_refresh().await;
    assert_eq!(all_rows(&world).await, increments);
}

#[tokio::test]
async fn two_builds_at_once_give_the_rows_of_one() {
    let world = world();
    let events: Vec<Event> = (0..60)
        .map(|index| event(&format!("e{index}"), index % 4, 1 + index % 8, START_US + index * MINUTE_US))
        .collect();
    for part in events.chunks(20) {
        world.land(part).await;
        let (one, other, third) = tokio::join!(world.build(), world.build(), world.build());
        assert!(one.failure().is_none() && other.failure().is_none() && third.failure().is_none());
    }
    let increments = all_rows(&world).await;
    world.full_refresh().await;
    assert_eq!(all_rows(&world).await, increments);
}

#[tokio::test]
async fn dbts_merge_keeps_what_it_is_told_to_keep() {
    let world = World::new();
    world.write(
        "models/merged.sql",
        "{{ config(materialized='incremental', incremental_strategy='merge', unique_key='user_id',
                   merge_exclude_columns=['first_key']) }}
         select user_id, max(amount) as amount, min(_key) as first_key from {{ source('shop', 'events') }}
         {% if is_incremental() %} where event_at > (select max(event_at) - interval '1 hour' from {{ source('shop', 'events') }}) {% endif %}
         group by user_id",
    );
    world.write(
        "models/updated.sql",
        "{{ config(materialized='incremental', incremental_strategy='merge', unique_key='user_id',
                   merge_update_columns=['amount']) }}
         select user_id, max(amount) as amount, min(_key) as first_key, min(event_at) as first_at from {{ source('shop', 'events') }}
         {% if is_incremental() %} where event_at > (select max(event_at) - interval '1 hour' from {{ source('shop', 'events') }}) {% endif %}
         group by user_id",
    );
    world.write(
        "models/replaced.sql",
        "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='user_id') }}
         select user_id, _key from {{ source('shop', 'events') }}
         {% if is_incremental() %} where _key > (select max(_key) from {{ this }}) {% endif %}",
    );
    world.write(
        "models/overwritten.sql",
        "{{ config(materialized='incremental', incremental_strategy='insert_overwrite', partition_by='day') }}
         select cast(event_at as date) as day, _key from {{ source('shop', 'events') }}
         {% if is_incremental() %} where event_at > timestamp '2025-03-09T12:00:00' {% endif %}",
    );
    world.land(&[event("a", 1, 5, START_US), event("b", 2, 5, START_US), event("c", 2, 6, START_US)]).await;
    world.build().await;
    world.land(&[event("d", 2, 1, START_US + DAY_US), event("e", 3, 2, START_US + DAY_US)]).await;
    let report = world.build().await;
    assert_eq!(report.node("merged").unwrap().reason, Some(Reason::NewData { inputs: vec!["shop.events".to_owned()] }));
    assert_eq!(world.rows("select * from merged").await, ["1 | 5 | a", "2 | 1 | b", "3 | 2 | e"]);
    assert_eq!(
        world.rows("select user_id, amount, first_key, cast(first_at as date) from updated").await,
        ["1 | 5 | a | 2025-03-09", "2 | 1 | b | 2025-03-09", "3 | 2 | e | 2025-03-10"]
    );
    assert_eq!(world.rows("select * from replaced").await, ["1 | a", "2 | d", "3 | e"]);
    assert_eq!(world.rows("select _key from overwritten").await, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn a_merge_of_two_rows_for_one_key_is_refused() {
    let world = World::new();
    world.write(
        "models/merged.sql",
        "{{ config(materialized='incremental', incremental_strategy='merge', unique_key='user_id') }}
         select user_id, amount from {{ source('shop', 'events') }}",
    );
    world.land(&[event("a", 1, 5, START_US)]).await;
    world.build().await;
    world.land(&[event("b", 1, 6, START_US)]).await;
    let report = world.try_build(&BuildOptions::default()).await;
    insta::assert_snapshot!(report.node("merged").unwrap().message.as_deref().unwrap(), @"a merge got several rows for one key, model=`merged`, unique_key=`user_id`, rows too many=`1`");
}

#[tokio::test]
async fn what_does_not_merge_is_computed_whole_and_says_so() {
    let world = World::new();
    world.write(
        "models/listed.sql",
        "{{ config(materialized='incremental', incremental_strategy='aggregate') }}
         select user_id, string_agg(_key, ',' order by _key) as keys from {{ source('shop', 'events') }} group by user_id",
    );
    world.land(&[event("a", 1, 5, START_US)]).await;
    world.build().await;
    world.land(&[event("b", 1, 6, START_US)]).await;
    let report = world.build().await;
    assert_eq!(report.node("listed").unwrap().whole_because.as_deref(), Some("`string_agg` does not merge"));
    assert_eq!(world.rows("select keys from listed").await, ["a,b"]);
}

/// What happens between two builds.
#[derive(Clone, Debug)]
enum Step {
    Land(Vec<Event>),
    Delete(Vec<usize>),
    Compact,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0..6_i64, 1..10_i64, 0..50 * 60_i64);
    let land = prop::collection::vec(row, 1..25).prop_map(|rows| {
        Step::Land(
            rows.into_iter()
                .map(|(user, amount, minute)| event("", user, amount, START_US + minute * MINUTE_US))
                .collect(),
        )
    });
    let delete = prop::collection::vec(0..60_usize, 1..4).prop_map(Step::Delete);
    prop::collection::vec(prop_oneof![5 => land, 1 => delete, 1 => Just(Step::Compact)], 2..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Whatever arrives in whatever order, is deleted or moved to other files: the rows are those of a full refresh, no model
    /// was computed as a whole for it, and a build after it has nothing to do.
    #[test]
    fn increments_by_key_give_the_rows_of_a_full_refresh(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = world();
            world.land(&[]).await;
            world.build().await;
            let mut keys: Vec<String> = Vec::new();
            for step in steps {
                match step {
                    Step::Land(mut events) => {
                        for event in &mut events {
                            event.key = format!("k{:03}", keys.len());
                            keys.push(event.key.clone());
                        }
                        world.land(&events).await;
                    }
                    Step::Delete(indices) => {
                        let gone: Vec<&str> = indices.iter().filter_map(|index| keys.get(*index)).map(String::as_str).collect();
                        world.delete(&gone).await;
                    }
                    Step::Compact => world.compact().await,
                }
                assert_incremental(&world.build().await);
            }
            let increments = all_rows(&world).await;
            let before = world.versions().await;
            world.build().await;
            prop_assert_eq!(world.versions().await, before);
            world.full_refresh().await;
            prop_assert_eq!(all_rows(&world).await, increments);
            Ok(())
        })?;
    }
}
