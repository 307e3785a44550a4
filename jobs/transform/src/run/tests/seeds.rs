//! Seeds: types, faults with their lines, and that an unchanged file is not loaded again.

use super::world::{World, tell};
use crate::graph::Selection;
use crate::run::Outcome;

fn world() -> World {
    let world = World::new();
    world.write("seeds/codes.csv", "code,rate,since,active\n007,1.5,2025-03-09,true\n,2,2025-03-10,false\n");
    world
}

#[tokio::test]
async fn columns_are_typed_by_their_values_and_empty_fields_are_null() {
    let world = world();
    world.build().await;
    let types =
        "select arrow_typeof(code), arrow_typeof(rate), arrow_typeof(since), arrow_typeof(active) from codes limit 1";
    assert_eq!(world.rows(types).await, ["Utf8 | Float64 | Date32 | Boolean"]);
    assert_eq!(
        world.rows("select * from codes").await,
        ["007 | 1.5 | 2025-03-09 | true", "null | 2.0 | 2025-03-10 | false"]
    );
}

#[tokio::test]
async fn an_unchanged_file_is_not_loaded_again() {
    let world = world();
    world.build().await;
    let before = world.versions().await;
    let report = world.build().await;
    assert_eq!(report.node("codes").unwrap().outcome, Outcome::UpToDate);
    assert_eq!(world.versions().await, before);
    world.write("seeds/codes.csv", "code,rate,since,active\n007,1.5,2025-03-09,true\n");
    assert_eq!(world.build().await.node("codes").unwrap().rows_written, 1);
    assert_eq!(world.rows("select count(*) from codes").await, ["1"]);
}

#[tokio::test]
async fn a_plan_says_which_seeds_would_be_loaded_and_loads_none() {
    let world = world();
    let told = async |full_refresh| {
        let plans = world.runner().plan_seeds(&Selection::all(), full_refresh).await.unwrap();
        plans.into_iter().map(|plan| (plan.seed, plan.rows, plan.is_due)).collect::<Vec<_>>()
    };
    let before = world.versions().await;
    assert_eq!(told(false).await, [("codes".to_owned(), 2, true)]);
    assert_eq!(world.versions().await, before);
    world.build().await;
    assert_eq!(told(false).await, [("codes".to_owned(), 2, false)]);
    assert_eq!(told(true).await, [("codes".to_owned(), 2, true)]);
    world.write("seeds/codes.csv", "code,rate\n7\n");
    let error = world.runner().plan_seeds(&Selection::all(), false).await.unwrap_err();
    assert!(tell(&error).contains("line: 2"), "{}", tell(&error));
}

#[tokio::test]
async fn ragged_rows_and_unknown_zones_are_told_with_their_lines() {
    let world = World::new();
    world.write("seeds/zones.csv", "user_id,tz\n1,Europe/Berlin\n2,Europe/Berlim\n3\n");
    world.write(
        "seeds/zones.yml",
        "seeds: [{name: zones, columns: [{name: tz, config: {meta: {tidemill: {text_format: time_zone}}}}]}]",
    );
    let told = async || {
        let error = world.refused().await;
        assert_eq!(tidemill_project::Diagnostic::kind(&error), tidemill_project::ErrorKind::Configuration);
        tell(&error)
    };
    assert!(told().await.contains("line: 4"), "{}", told().await);
    world.write("seeds/zones.csv", "user_id,tz\n1,Europe/Berlin\n2,Europe/Berlim\n");
    let text = told().await;
    assert!(
        text.contains("line: 3") && text.contains("Europe/Berlim") && text.contains("did you mean `Europe/Berlin`"),
        "{text}"
    );
}
