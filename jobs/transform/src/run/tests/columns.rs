//! `on_schema_change`: what an incremental run makes of other columns, as dbt has it.

use super::world::{DAY_US, START_US, World, event};
use crate::run::BuildOptions;

const STRATEGIES: [(&str, &str); 3] = [
    ("append", "incremental_strategy='append'"),
    ("merge", "incremental_strategy='merge', unique_key='event_key'"),
    ("microbatch", "incremental_strategy='microbatch', event_time='event_at', batch_size='day', begin='2025-03-09'"),
];

fn write(world: &World, config: &str, columns: &str) {
    let filter = "{% if is_incremental() %} where event_at > (select max(event_at) from {{ this }}){% endif %}";
    let filter = if config.contains("merge") { filter } else { "" };
    world.write(
        "models/m.sql",
        &format!(
            "{{{{ config(materialized='incremental', {config}) }}}}\nselect {columns} from {{{{ source('shop', 'events') }}}}{filter}"
        ),
    );
}

/// A model of one row, whose columns change before a second row comes.
async fn changed(strategy: &str, policy: &str, before: &str, after: &str) -> World {
    let world = World::new();
    write(&world, &format!("{strategy}, on_schema_change='{policy}'"), before);
    world.land(&[event("a", 1, 10, START_US)]).await;
    world.build().await;
    world.land(&[event("b", 2, 20, START_US + 5 * DAY_US)]).await;
    write(&world, &format!("{strategy}, on_schema_change='{policy}'"), after);
    world
}

const FEW: &str = "_key as event_key, event_at, amount";
const MORE: &str = "_key as event_key, event_at, user_id, amount";
const SHOWN: &str = "select event_key, amount, user_id from main.m";

#[tokio::test]
async fn new_columns_are_left_out_with_ignore() {
    for (name, strategy) in STRATEGIES {
        let world = changed(strategy, "ignore", FEW, MORE).await;
        world.build().await;
        assert_eq!(world.rows("select event_key, amount from main.m").await, ["a | 10", "b | 20"], "{name}");
        let columns =
            "select column_name from information_schema.columns where table_name = 'm' and column_name = 'user_id'";
        assert_eq!(world.rows(columns).await, Vec::<String>::new(), "{name}");
        world.full_refresh().await;
        assert_eq!(world.rows(SHOWN).await, ["a | 10 | 1", "b | 20 | 2"], "{name}");
    }
}

#[tokio::test]
async fn other_columns_fail_with_fail_and_the_table_stays() {
    for (name, strategy) in STRATEGIES {
        let world =
            changed(strategy, "fail", FEW, "_key as event_key, event_at, user_id, cast(amount as text) as amount")
                .await;
        let before = world.versions().await["models/main/m"];
        let report = world.try_build(&BuildOptions::default()).await;
        let error = report.node("m").unwrap().error.as_ref().unwrap().to_string();
        assert_eq!(
            error,
            "the model's columns changed and its configuration forbids to go on, model=`m`, columns=`new: user_id; of another type: amount`",
            "{name}"
        );
        assert_eq!(world.versions().await["models/main/m"], before, "{name}");
    }
}

#[tokio::test]
async fn a_column_that_is_gone_is_told_with_ignore() {
    let world = changed(STRATEGIES[0].1, "ignore", MORE, FEW).await;
    let report = world.try_build(&BuildOptions::default()).await;
    let error = report.node("m").unwrap().error.as_ref().unwrap().to_string();
    assert!(error.ends_with("columns=`gone: user_id`"), "{error}");
}

#[tokio::test]
async fn new_columns_are_null_in_rows_from_before_with_append_new_columns() {
    for (name, strategy) in STRATEGIES {
        let world = changed(strategy, "append_new_columns", FEW, MORE).await;
        world.build().await;
        assert_eq!(world.rows(SHOWN).await, ["a | 10 | null", "b | 20 | 2"], "{name}");
        write(
            &world,
            &format!("{strategy}, on_schema_change='append_new_columns'"),
            "_key as event_key, event_at, user_id",
        );
        world.land(&[event("c", 3, 30, START_US + 10 * DAY_US)]).await;
        world.build().await;
        assert_eq!(world.rows(SHOWN).await, ["a | 10 | null", "b | 20 | 2", "c | null | 3"], "{name}");
        assert_eq!(world.build().await.failure(), None);
    }
}

#[tokio::test]
async fn columns_become_those_of_the_query_with_sync_all_columns() {
    for (name, strategy) in STRATEGIES {
        let world = changed(
            strategy,
            "sync_all_columns",
            MORE,
            "user_id as buyer_id, event_at, _key as event_key, cast(amount as text) as amount",
        )
        .await;
        world.build().await;
        assert_eq!(world.rows("select * from main.m").await.len(), 2, "{name}");
        assert_eq!(
            world.rows("select buyer_id, event_key, amount, arrow_typeof(amount) from main.m").await,
            ["2 | b | 20 | Utf8", "null | a | 10 | Utf8"],
            "{name}"
        );
        let gone =
            "select column_name from information_schema.columns where table_name = 'm' and column_name = 'user_id'";
        assert_eq!(world.rows(gone).await, Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn columns_change_without_new_rows_too() {
    let world = World::new();
    write(&world, "incremental_strategy='append', on_schema_change='append_new_columns'", FEW);
    world.land(&[event("a", 1, 10, START_US)]).await;
    world.build().await;
    write(&world, "incremental_strategy='append', on_schema_change='append_new_columns'", MORE);
    world.build().await;
    assert_eq!(world.rows(SHOWN).await, ["a | 10 | null"]);
    let versions = world.versions().await;
    world.build().await;
    assert_eq!(world.versions().await, versions);
}

/// What is computed from its inputs alone has all columns with their values, or refuses.
#[tokio::test]
async fn models_by_group_and_by_newest_change_are_built_anew_or_refuse() {
    let models = [
        (
            "incremental_strategy='aggregate'",
            "user_id, sum(amount) as total",
            "user_id, sum(amount) as total, count(*) as events",
            " group by user_id",
        ),
        (
            "incremental_strategy='merge', unique_key='user_id', latest_by=['event_at', '_key']",
            "user_id, event_at, _key",
            "user_id, event_at, _key, amount as total",
            "",
        ),
    ];
    for (strategy, before, after, end) in models {
        for policy in ["fail", "append_new_columns"] {
            let world = World::new();
            let put = |columns: &str| {
                world.write(
                    "models/m.sql",
                    &format!("{{{{ config(materialized='incremental', {strategy}, on_schema_change='{policy}') }}}}\nselect {columns} from {{{{ source('shop', 'events') }}}}{end}"),
                );
            };
            put(before);
            world.land(&[event("a", 1, 10, START_US)]).await;
            world.build().await;
            put(after);
            world.land(&[event("b", 2, 20, START_US + DAY_US)]).await;
            let report = world.try_build(&BuildOptions::default()).await;
            if policy == "fail" {
                let error = report.node("m").unwrap().error.as_ref().unwrap().to_string();
                assert!(error.contains("columns changed") && error.contains("columns=`new: "), "{strategy}: {error}");
                assert_eq!(world.rows("select user_id from main.m").await, ["1"], "{strategy}");
            } else {
                assert_eq!(report.failure(), None, "{strategy}");
                assert_eq!(world.rows("select user_id, total from main.m").await, ["1 | 10", "2 | 20"], "{strategy}");
            }
        }
    }
}
