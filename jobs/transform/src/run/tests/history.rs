//! Snapshots: what their tables hold after each run.

use super::world::World;

const CONFIG: &str = "unique_key='id', strategy='check', check_cols=['city']";

fn world(config: &str) -> World {
    let world = World::new();
    world.write("seeds/people.csv", "id,city,changed_at\n1,Bonn,2025-01-01\n2,Köln,2025-01-01\n");
    world.write(
        "snapshots/people.sql",
        &format!("{{% snapshot people_history %}}\n{{{{ config({config}) }}}}\nselect * from {{{{ ref('people') }}}}\n{{% endsnapshot %}}\n"),
    );
    world
}

const ROWS: &str = "select id, city, dbt_valid_from, dbt_valid_to is null as is_valid from people_history";

#[tokio::test]
async fn a_changed_row_ends_where_the_new_one_begins() {
    let world = world("unique_key='id', strategy='timestamp', updated_at='changed_at'");
    world.build().await;
    assert_eq!(world.rows(ROWS).await, ["1 | Bonn | 2025-01-01 | true", "2 | Köln | 2025-01-01 | true"]);
    let before = world.versions().await;
    world.build().await;
    assert_eq!(world.versions().await, before, "nothing changed, nothing is written");

    world.write("seeds/people.csv", "id,city,changed_at\n1,Berlin,2025-02-02\n2,Köln,2025-01-01\n3,Ulm,2025-02-03\n");
    world.build().await;
    assert_eq!(
        world.rows("select id, city, dbt_valid_from, dbt_valid_to from people_history").await,
        [
            "1 | Berlin | 2025-02-02 | null",
            "1 | Bonn | 2025-01-01 | 2025-02-02",
            "2 | Köln | 2025-01-01 | null",
            "3 | Ulm | 2025-02-03 | null",
        ]
    );
    // A full refresh never throws history away.
    world.full_refresh().await;
    assert_eq!(world.rows("select count(*), count(distinct dbt_scd_id) from people_history").await, ["4 | 4"]);
}

#[tokio::test]
async fn columns_that_are_not_checked_change_nothing() {
    let world = world(CONFIG);
    world.build().await;
    world.write("seeds/people.csv", "id,city,changed_at\n1,Bonn,2025-09-09\n2,Kiel,2025-01-01\n");
    world.build().await;
    assert_eq!(
        world.rows("select id, city, dbt_valid_to is null as is_valid from people_history").await,
        ["1 | Bonn | true", "2 | Kiel | true", "2 | Köln | false"]
    );
}

#[tokio::test]
async fn keys_that_have_gone_end_or_stay() {
    for (deletes, wanted) in [
        ("ignore", vec!["1 | Bonn | true", "2 | Köln | true"]),
        ("invalidate", vec!["1 | Bonn | true", "2 | Köln | false"]),
    ] {
        let world = world(&format!("{CONFIG}, hard_deletes='{deletes}'"));
        world.build().await;
        world.write("seeds/people.csv", "id,city,changed_at\n1,Bonn,2025-01-01\n");
        world.build().await;
        let rows = "select id, city, dbt_valid_to is null as is_valid from people_history";
        assert_eq!(world.rows(rows).await, wanted, "{deletes}");
    }
}

#[tokio::test]
async fn a_deletion_may_be_a_row_and_so_may_a_return() {
    let world = world(&format!("{CONFIG}, hard_deletes='new_record'"));
    let rows = "select id, city, dbt_is_deleted, dbt_valid_to is null as is_valid from people_history where id = 2";
    world.build().await;
    world.write("seeds/people.csv", "id,city,changed_at\n1,Bonn,2025-01-01\n");
    world.build().await;
    assert_eq!(world.rows(rows).await, ["2 | Köln | False | false", "2 | Köln | True | true"]);
    world.write("seeds/people.csv", "id,city,changed_at\n1,Bonn,2025-01-01\n2,Köln,2025-01-01\n");
    world.build().await;
    assert_eq!(
        world.rows(rows).await,
        ["2 | Köln | False | false", "2 | Köln | False | true", "2 | Köln | True | false"]
    );
}

#[tokio::test]
async fn a_snapshot_may_be_yaml_alone_and_end_in_the_future() {
    let world = World::new();
    world.write("seeds/people.csv", "id,city,changed_at\n1,Bonn,2025-01-01\n");
    world.write(
        "snapshots/people.yml",
        "snapshots:
  - name: people_history
    relation: ref('people')
    config:
      unique_key: id
      strategy: timestamp
      updated_at: changed_at
      dbt_valid_to_current: \"date '9999-12-31'\"
      snapshot_meta_column_names: {dbt_valid_to: valid_until}
",
    );
    world.write(
        "models/now.sql",
        "select id, city from {{ ref('people_history') }} where valid_until = date '9999-12-31'",
    );
    world.build().await;
    world.write("seeds/people.csv", "id,city,changed_at\n1,Ulm,2025-02-01\n");
    world.build().await;
    assert_eq!(world.rows("select * from now").await, ["1 | Ulm"]);
    assert_eq!(
        world.rows("select city, valid_until from people_history").await,
        ["Bonn | 2025-02-01", "Ulm | 9999-12-31"]
    );
}
