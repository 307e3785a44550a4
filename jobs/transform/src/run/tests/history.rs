//! Snapshots: what their tables hold after each run.

use serde_json::json;

use super::world::World;
use crate::artifacts::Invocation;
use crate::graph::Selection;
use crate::project::NodeId;
use crate::run::{BuildOptions, Kinds, Report};

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

#[tokio::test]
async fn snapshots_are_selected_run_and_recorded_as_what_they_are() {
    let world = world(CONFIG);
    world.write("models/towns.sql", "select city from {{ ref('people_history') }}");
    world.write(
        "snapshots/people.yml",
        "snapshots: [{name: people_history, columns: [{name: dbt_scd_id, data_tests: [unique]}]}]",
    );
    world.build().await;
    world.write("seeds/people.csv", "id,city,changed_at\n1,Berlin,2025-02-02\n2,Köln,2025-01-01\n");
    let of_kind = |kinds| BuildOptions { kinds, ..BuildOptions::default() };
    let names = |report: &Report| -> Vec<String> {
        report.nodes.iter().map(|node| format!("{} {}", node.kind, node.name)).collect()
    };
    assert_eq!(names(&world.build_with(&of_kind(Kinds::MODELS)).await), ["model towns"]);
    assert_eq!(world.rows("select count(*) from people_history").await, ["2"], "models are built without snapshots");
    world.build_with(&of_kind(Kinds::SEEDS)).await;
    assert_eq!(names(&world.build_with(&of_kind(Kinds::SNAPSHOTS)).await), ["snapshot people_history"]);
    assert_eq!(world.rows("select count(*) from people_history").await, ["3"]);

    let runner = world.runner();
    let selection = Selection { select: vec!["resource_type:snapshot".to_owned()], ..Selection::default() };
    let listed = runner.ls(&selection).unwrap();
    let listed: Vec<&str> =
        listed.iter().filter(|node| node.kind == "snapshot").map(|node| node.name.as_str()).collect();
    assert_eq!(listed, ["people_history"]);
    let snapshot = NodeId::Model("people_history".to_owned());
    assert_eq!(runner.label(&snapshot), "snapshot main.people_history");
    let invocation = Invocation { id: "one".to_owned(), started_at_us: 0, now_us: 0 };
    let manifest = runner.manifest(&invocation, &std::collections::BTreeMap::new());
    let node = &manifest["nodes"]["snapshot.shop.people_history"];
    assert_eq!((&node["resource_type"], &node["config"]["strategy"]), (&json!("snapshot"), &json!("check")), "{node}");
    assert_eq!(node["access"], json!(null));
    assert_eq!(manifest["parent_map"]["model.shop.towns"], json!(["snapshot.shop.people_history"]));
}
