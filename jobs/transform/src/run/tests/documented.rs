//! The examples of docs/sql.md.

use regex::Regex;

use super::world::World;

const PAGE: &str = include_str!("../../../../../docs/sql.md");

/// An expression, the rows that it is over (none for one value), and what the page says it is.
fn examples() -> Vec<(String, Option<String>, String)> {
    let example = Regex::new(r"`([^`]+)`(?: over (\(.+\)))? is (.+?) \|\n").unwrap();
    let found = example.captures_iter(PAGE);
    found
        .map(|found| (found[1].to_owned(), found.get(2).map(|rows| rows.as_str().to_owned()), found[3].to_owned()))
        .collect()
}

#[tokio::test]
async fn examples_give_what_the_page_says() {
    let world = World::new();
    let examples = examples();
    for (index, (expression, rows, _)) in examples.iter().enumerate() {
        let from = rows.as_deref().map_or_else(String::new, |rows| {
            let columns = if rows.split("), (").next().unwrap_or_default().contains(", ") { "x, y" } else { "x" };
            format!(" from (values {rows}) as t({columns})")
        });
        world.write(&format!("models/example_{index}.sql"), &format!("select {expression} as value{from}"));
    }
    world.build().await;
    let mut told = Vec::new();
    for (index, (expression, _, _)) in examples.iter().enumerate() {
        told.push(format!(
            "{expression} is {}",
            world.rows(&format!("select value from example_{index}")).await.join(", ")
        ));
    }
    let said: Vec<String> = examples.iter().map(|(expression, _, value)| format!("{expression} is {value}")).collect();
    assert_eq!(told, said);
    assert_eq!(said.len(), 20);
}

#[tokio::test]
async fn a_session_ends_where_the_gap_is_longer() {
    let world = World::new();
    let query = PAGE.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    world.write("models/sessions.sql", query);
    world.write("seeds/stg_events.csv", "user_id,event_at\n1,2025-03-09 10:00:00\n1,2025-03-09 10:30:00\n1,2025-03-09 11:00:01\n1,2025-03-09 11:00:01\n2,2025-03-09 10:59:00\n");
    world.build().await;
    assert_eq!(
        world
            .rows("select user_id, cast(session_start as time), cast(session_end as time), num_events from sessions")
            .await,
        ["1 | 10:00:00 | 10:30:00 | 2", "1 | 11:00:01 | 11:00:01 | 2", "2 | 10:59:00 | 10:59:00 | 1"]
    );
}
