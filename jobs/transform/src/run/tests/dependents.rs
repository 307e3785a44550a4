//! Which models and columns stand on a column of a source.

use std::collections::BTreeMap;

use tidemill_project::SourceName;

use super::world::{World, raw_schema};

const STAGING: &str = "select _key, user_id as person, amount, event_at from {{ source('shop', 'events') }}";
const DAILY: &str = "
select date_trunc('day', event_at) as day, count(*) as events, sum(amount) as total from {{ ref('stg') }} group by 1";
const LARGE: &str = "select person, event_at from {{ ref('stg') }} where amount > 100";
const JOINED: &str = "
with people as (select distinct person as who from {{ ref('stg') }})
select daily.day, daily.total + 1 as more, people.who, (select count(*) from {{ ref('large') }}) as large
from {{ ref('daily') }} as daily cross join people";

async fn dependents(column: &str) -> Vec<String> {
    let world = World::new();
    for (name, sql) in [("stg", STAGING), ("daily", DAILY), ("large", LARGE), ("joined", JOINED)] {
        world.write(&format!("models/{name}.sql"), sql);
    }
    let source = SourceName::new("shop", "events");
    let columns = BTreeMap::from([(source.clone(), vec![column.to_owned()])]);
    let found = world.runner().dependents(&BTreeMap::from([(source, raw_schema())]), &columns).await.unwrap();
    found
        .iter()
        .map(|of| format!("{}({}){}", of.model, of.columns.join(" "), if of.rows { " rows" } else { "" }))
        .collect()
}

#[tokio::test]
async fn a_column_is_followed_through_names_sums_and_filters() {
    assert_eq!(
        dependents("amount").await,
        ["stg(amount)", "daily(total)", "large(person event_at) rows", "joined(more large)"]
    );
}

#[tokio::test]
async fn a_group_and_a_distinct_concern_all_columns() {
    assert_eq!(
        dependents("event_at").await,
        ["stg(event_at)", "daily(day events total) rows", "large(event_at)", "joined(day more who large) rows"]
    );
}

#[tokio::test]
async fn a_column_that_nobody_reads_has_no_dependents() {
    assert_eq!(dependents("_timestamp").await, Vec::<String>::new());
}
