//! Plans as files, batches that fail, changed SQL, audits.

use super::world::{DAY_US, HOUR_US, START_US, World, event};
use crate::graph::Selection;
use crate::plan::{Action, PlanFile, PlanOptions, Reason, SqlChange};
use crate::run::{BuildOptions, Outcome};

const PER_HOUR: &str = "
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='hour_start', batch_size='hour',
          begin='2025-01-01') }}
select date_trunc('hour', event_at) as hour_start, count(*) as events, sum(amount) as amount
from {{ source('shop', 'events') }} group by 1";

const PER_USER: &str = "
{{ config(materialized='incremental', incremental_strategy='aggregate') }}
select user_id, count(*) as events from {{ source('shop', 'events') }} group by user_id";

/// Fails on amounts of zero, in their batch alone.
const DIVIDED: &str = "
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='hour_start', batch_size='hour',
          begin='2025-01-01') }}
select date_trunc('hour', event_at) as hour_start, sum(100 / amount) as shares
from {{ source('shop', 'events') }} group by 1";

fn world(models: &[(&str, &str)]) -> World {
    let world = World::new();
    for (name, sql) in models {
        world.write(&format!("models/{name}.sql"), sql);
    }
    world
}

async fn plan_text(world: &World) -> String {
    serde_json::to_string_pretty(&world.plan().await).unwrap()
}

#[tokio::test]
async fn a_plan_tells_what_will_be_read() {
    let world = world(&[("per_hour", PER_HOUR), ("per_user", PER_USER)]);
    world.land(&[event("a", 1, 1, START_US), event("b", 1, 2, START_US + 3 * DAY_US)]).await;
    let plan = world.plan().await;
    assert!(plan.models.iter().all(|model| model.reason == Reason::NeverBuilt && model.reads.files == 2));
    world.build().await;
    world.land(&[event("c", 1, 2, START_US + 3 * DAY_US + HOUR_US)]).await;
    let plan = world.plan().await;
    let reads: Vec<u64> = plan.models.iter().map(|model| model.reads.files).collect();
    assert_eq!(reads, [1, 1], "{plan:#?}");
    assert!(plan.models.iter().all(|model| model.reads.bytes > 0));
    let Action::Batches { batches, .. } = &plan.models[0].action else { panic!("{plan:?}") };
    assert_eq!(batches.iter().map(|batch| batch.name.as_str()).collect::<Vec<_>>(), ["2025-03-12T01"]);
}

#[tokio::test]
async fn a_plan_file_runs_exactly_what_it_says() {
    let world = world(&[("per_hour", PER_HOUR), ("per_user", PER_USER)]);
    world.land(&[event("a", 1, 1, START_US)]).await;
    let text = plan_text(&world).await;
    let file = PlanFile::parse("plan.json", &text).unwrap();
    let options = BuildOptions { plan: file.clone().options(), ..BuildOptions::default() };
    let report = world.build_selected(&file.selection(), &options).await;
    assert!(report.failure().is_none(), "{report:#?}");
    assert_eq!(world.rows("select events from per_user").await, ["1"]);

    let stale = plan_text(&world).await;
    world.land(&[event("b", 1, 1, START_US)]).await;
    let file = PlanFile::parse("plan.json", &stale).unwrap();
    let options = BuildOptions { plan: file.clone().options(), ..BuildOptions::default() };
    let report = world.build_selected(&file.selection(), &options).await;
    assert_eq!(report.failure(), Some(tidemill_project::ErrorKind::Conflict));
    insta::assert_snapshot!(report.node("per_user").unwrap().message.as_deref().unwrap(), @"the lake has moved since the plan was made, model=`per_user`");
    assert_eq!(world.rows("select events from per_user").await, ["1"]);
    assert!(PlanFile::parse("plan.json", "{}").is_err());
}

#[tokio::test]
async fn a_batch_that_fails_takes_no_other_with_it_and_is_built_again_alone() {
    let world = world(&[("divided", DIVIDED), ("reader", "select count(*) as n from {{ ref('divided') }}")]);
    world.write("models/reader.yml", "models: [{name: reader, config: {materialized: table}}]");
    world.land(&[event("a", 1, 10, START_US)]).await;
    world.build().await;
    world.land(&[event("b", 1, 0, START_US + HOUR_US), event("c", 1, 5, START_US + 2 * HOUR_US)]).await;
    let report = world.try_build(&BuildOptions::default()).await;
    let node = report.node("divided").unwrap();
    assert_eq!(node.outcome, Outcome::Error);
    assert_eq!(node.failed_batches, ["2025-03-09T01"]);
    assert_eq!(node.batches.as_deref(), Some(["2025-03-09T02".to_owned()].as_slice()));
    assert_eq!(report.node("reader").unwrap().outcome, Outcome::Skipped);
    assert_eq!(world.rows("select shares from divided").await, ["10", "20"]);

    // Nothing new came: the batch stays stale all the same.
    let plan = world.plan().await;
    let planned = plan.models.iter().find(|model| model.model == "divided").unwrap();
    assert_eq!(planned.reason, Reason::BatchesFailed);
    world.delete(&["b"]).await;
    world.land(&[event("d", 1, 4, START_US + HOUR_US), event("e", 1, 4, START_US + 3 * HOUR_US)]).await;
    let plan =
        PlanOptions { batches: [("divided".to_owned(), node.failed_batches.clone())].into(), ..PlanOptions::default() };
    let select = Selection { select: vec!["divided".to_owned()], ..Selection::default() };
    let report = world.build_selected(&select, &BuildOptions { plan, ..BuildOptions::default() }).await;
    assert_eq!(report.node("divided").unwrap().batches.as_deref(), Some(["2025-03-09T01".to_owned()].as_slice()));
    let report = world.build().await;
    assert_eq!(report.node("divided").unwrap().batches.as_deref(), Some(["2025-03-09T03".to_owned()].as_slice()));
    assert_eq!(world.rows("select shares from divided").await, ["10", "20", "25", "25"]);
}

#[tokio::test]
async fn a_batch_fails_alone_where_inputs_have_no_event_time() {
    let model =
        "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day', batch_size='day',
                            begin='2025-01-01') }}
        select cast(at as date) as day, sum(10 / (amount - 5)) as shares from {{ ref('sold') }} group by 1";
    let world = world(&[("daily", model)]);
    world.write("seeds/sold.csv", "at,amount\n2025-01-01 10:00:00,7\n2025-01-03 10:00:00,5\n2025-01-04 10:00:00,6\n");
    let report = world.try_build(&BuildOptions::default()).await;
    let node = report.node("daily").unwrap();
    assert_eq!((node.outcome, node.failed_batches.as_slice()), (Outcome::Error, ["2025-01-03".to_owned()].as_slice()));
    assert_eq!(world.rows("select day, shares from daily").await, ["2025-01-01 | 5", "2025-01-04 | 10"]);

    world.write("seeds/sold.csv", "at,amount\n2025-01-01 10:00:00,7\n2025-01-03 10:00:00,15\n2025-01-04 10:00:00,6\n");
    let report = world.build().await;
    assert_eq!(report.node("daily").unwrap().batches.as_deref(), Some(["2025-01-03".to_owned()].as_slice()));
    assert_eq!(
        world.rows("select day, shares from daily").await,
        ["2025-01-01 | 5", "2025-01-03 | 1", "2025-01-04 | 10"]
    );

    // Of changed SQL all batches are of one making.
    world.write("models/daily.sql", &model.replace("amount - 5", "amount - 6"));
    let report = world.try_build(&BuildOptions::default()).await;
    assert_eq!(report.node("daily").unwrap().failed_batches, Vec::<String>::new());
    assert_eq!(world.rows("select shares from daily").await, ["1", "10", "5"]);
}

#[tokio::test]
async fn a_template_may_ask_for_its_batch_where_inputs_have_no_event_time() {
    let model = "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='at', batch_size='day',
                            begin='2025-04-04') }}
        select at, '{% if model.batch %}{{ model.batch.id }}{% endif %}' as batch from {{ ref('sold') }}
        {% if model.batch %}where at >= '{{ model.batch.event_time_start }}' and at < '{{ model.batch.event_time_end }}'{% endif %}";
    let world = world(&[("daily", model)]);
    world.write("seeds/sold.csv", "at\n2025-04-03 10:00:00\n2025-04-05 10:00:00\n");
    world.build().await;
    assert_eq!(world.rows("select cast(at as date), left(batch, 10) from daily").await, ["2025-04-05 | 2025-04-05"]);
}

#[tokio::test]
async fn changed_sql_is_told_apart_and_goes_by_policy() {
    let world = world(&[("per_user", PER_USER)]);
    world.land(&[event("a", 1, 1, START_US)]).await;
    world.build().await;
    let planned = async || world.plan().await.models.remove(0);

    world.write(
        "models/per_user.sql",
        &PER_USER.replace(
            "from {{ source('shop', 'events') }}",
            "from (select * from {{ source('shop', 'events') }}) as every",
        ),
    );
    assert!(matches!(planned().await.reason, Reason::UpToDate));

    let more = PER_USER.replace("count(*) as events", "count(*) as events, max(amount) as most");
    world.write("models/per_user.sql", &more);
    let plan = planned().await;
    assert_eq!(plan.reason, Reason::SqlChanged);
    assert_eq!(plan.sql_change, Some(SqlChange::NonBreaking { added: vec!["most".to_owned()] }));

    world.write("models/per_user.sql", &PER_USER.replace("count(*)", "count(*) + 1"));
    assert_eq!(planned().await.sql_change, Some(SqlChange::Breaking { columns: vec!["events".to_owned()] }));

    world.write("models/per_user.yml", "models: [{name: per_user, config: {on_sql_change: fail}}]");
    let report = world.try_build(&BuildOptions::default()).await;
    insta::assert_snapshot!(report.node("per_user").unwrap().message.as_deref().unwrap(), @"the model's SQL changed and its configuration forbids to go on, model=`per_user`, change=`breaking, changes events`");

    world.write("models/per_user.yml", "models: [{name: per_user, config: {full_refresh: false}}]");
    world.land(&[event("b", 2, 1, START_US)]).await;
    world.build().await;
    assert_eq!(world.rows("select * from per_user").await, ["1 | 1", "2 | 2"], "rows that were there stay");
    world.full_refresh().await;
    assert_eq!(world.rows("select * from per_user").await, ["1 | 1", "2 | 2"]);
}

#[tokio::test]
async fn an_audit_keeps_bad_rows_from_being_seen() {
    for (name, sql) in [("per_hour", PER_HOUR), ("per_user", PER_USER)] {
        let world = world(&[(name, sql), ("reader", &format!("select count(*) as n from {{{{ ref('{name}') }}}}"))]);
        world.write(
            "models/models.yml",
            &format!(
                "models:
  - name: {name}
    config: {{audit: before}}
    columns: [{{name: events, data_tests: [{{accepted_values: {{values: [1, 2], quote: false}}}}]}}]
  - {{name: reader, config: {{materialized: table}}}}
"
            ),
        );
        world.land(&[event("a", 1, 1, START_US)]).await;
        world.build().await;
        let before = world.versions().await[&format!("models/main/{name}")];
        world.land(&[event("b", 1, 1, START_US), event("c", 1, 1, START_US)]).await;
        let report = world.try_build(&BuildOptions::default()).await;
        assert_eq!(report.failure(), Some(tidemill_project::ErrorKind::Rejected));
        let node = report.node(name).unwrap();
        assert_eq!((node.outcome, node.failures), (Outcome::Fail, Some(1)));
        assert_eq!(report.node("reader").unwrap().outcome, Outcome::Skipped);
        assert_eq!(world.versions().await[&format!("models/main/{name}")], before);
        assert_eq!(world.rows(&format!("select events from {name}")).await, ["1"]);
        let kept = world.rows("select model, row from ops.audit_failures").await;
        assert_eq!(kept, [format!("{name} | {{\"value_field\":3,\"n_records\":1}}")]);
        // Mended data passes, from the state that counts.
        world.delete(&["c"]).await;
        world.build().await;
        assert_eq!(world.rows(&format!("select events from {name}")).await, ["2"]);
    }
}
