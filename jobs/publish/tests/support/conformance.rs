//! What every sink must do.

use tidemill_project::{Diagnostic, ErrorKind};
use tidemill_publish::{ChangeCounts, Outcome, PublishRequest, Strategy};

use super::{Fixture, request};

fn counts(inserted: u64, updated: u64, deleted: u64) -> ChangeCounts {
    ChangeCounts { inserted, updated, deleted }
}

fn pairs(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|(user, minutes)| ((*user).to_owned(), *minutes)).collect()
}

fn nights(fixture: &dyn Fixture) -> PublishRequest {
    request(fixture.database(), &["nights"])
}

/// Everything is sent once, then nothing.
pub(crate) async fn sends_all_then_nothing(fixture: &dyn Fixture) {
    fixture.models().build("nights", &["d1", "d2"], &[("d1", Some("a"), 1), ("d2", Some("b"), 2)]).await;
    let first = fixture.publish(nights(fixture)).await.unwrap();
    assert_eq!(
        (first.tables[0].outcome, first.tables[0].counts, first.tables[0].seq),
        (Outcome::Published, counts(2, 0, 0), Some(1))
    );
    assert_eq!(fixture.target("nights").await, pairs(&[("a", 1), ("b", 2)]));
    let second = fixture.publish(nights(fixture)).await.unwrap();
    assert_eq!((second.tables[0].outcome, second.tables[0].counts), (Outcome::UpToDate, counts(0, 0, 0)));
}

/// The target follows inserts, updates, deletes and rows that move between batches; the same rows built again send nothing.
pub(crate) async fn follows_every_change(fixture: &dyn Fixture) {
    let models = fixture.models();
    models.build("nights", &["d1", "d2"], &[("d1", Some("a"), 1), ("d1", Some("b"), 2), ("d1", Some("c"), 3)]).await;
    fixture.publish(nights(fixture)).await.unwrap();
    let rows = [("d1", Some("a"), 5), ("d2", Some("b"), 2), ("d2", Some("x"), 9)];
    models.build("nights", &["d1", "d2"], &rows).await;
    let report = fixture.publish(nights(fixture)).await.unwrap();
    assert_eq!(report.tables[0].counts, counts(1, 2, 1), "x came, a changed, b moved, c left");
    assert_eq!(fixture.target("nights").await, pairs(&[("a", 5), ("b", 2), ("x", 9)]));
    models.build("nights", &["d1", "d2"], &rows).await;
    assert_eq!(fixture.publish(nights(fixture)).await.unwrap().tables[0].outcome, Outcome::UpToDate);
    models.build("nights", &["d1", "d2"], &[]).await;
    assert_eq!(fixture.publish(nights(fixture)).await.unwrap().tables[0].counts, counts(0, 0, 3));
    assert_eq!(fixture.target("nights").await, []);
}

/// Of rows with one key the last one wins: greatest batch, last row.
pub(crate) async fn the_last_of_duplicate_keys_wins(fixture: &dyn Fixture) {
    let rows = [("d1", Some("a"), 1), ("d1", Some("a"), 2), ("d2", Some("a"), 3), ("d2", Some("a"), 4)];
    fixture.models().build("nights", &["d1", "d2"], &rows).await;
    fixture.publish(nights(fixture)).await.unwrap();
    assert_eq!(fixture.target("nights").await, pairs(&[("a", 4)]));
}

/// A NULL key stops the model and names it.
pub(crate) async fn refuses_null_keys(fixture: &dyn Fixture) {
    fixture.models().build("nights", &["d1"], &[("d1", None, 1)]).await;
    let error = fixture.publish(nights(fixture)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "a key column is null in a row to publish, model=`nights`, column=`user_id`, rows=`1`"
    );
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// A model that was made again is compared whole: what it lost leaves the target.
pub(crate) async fn compares_a_model_that_was_made_again(fixture: &dyn Fixture) {
    let models = fixture.models();
    models.build("nights", &["d1"], &[("d1", Some("a"), 1), ("d1", Some("b"), 2)]).await;
    fixture.publish(nights(fixture)).await.unwrap();
    models.lake.drop_table(&tidemill_lake::TableId::model("main", "nights")).await.unwrap();
    models.build("nights", &["d1"], &[("d1", Some("a"), 1), ("d1", Some("c"), 3)]).await;
    let report = fixture.publish(nights(fixture)).await.unwrap();
    assert_eq!(
        (report.tables[0].from, report.tables[0].counts, report.tables[0].seq),
        (None, counts(1, 0, 1), Some(2))
    );
    assert_eq!(fixture.target("nights").await, pairs(&[("a", 1), ("c", 3)]));
}

/// Batches of rows without a key are replaced whole, equal rows kept as often as they are there.
pub(crate) async fn replaces_batches_without_a_key(fixture: &dyn Fixture) {
    let mut request = nights(fixture);
    request.publications[0].strategy = Strategy::ReplaceBatches;
    request.publications[0].unique_key.clear();
    let models = fixture.models();
    models.build("nights", &["d1", "d2"], &[("d1", Some("a"), 1), ("d1", Some("a"), 1), ("d2", Some("b"), 2)]).await;
    fixture.publish(request.clone()).await.unwrap();
    assert_eq!(fixture.target("nights").await, pairs(&[("a", 1), ("a", 1), ("b", 2)]));
    models.build("nights", &["d1"], &[("d1", Some("a"), 1), ("d1", Some("c"), 3)]).await;
    fixture.publish(request).await.unwrap();
    assert_eq!(fixture.target("nights").await, pairs(&[("a", 1), ("b", 2), ("c", 3)]));
}

/// Rows are added; a row that leaves is an error and leaves the target alone.
pub(crate) async fn appends_only(fixture: &dyn Fixture) {
    let mut request = nights(fixture);
    request.publications[0].strategy = Strategy::AppendOnly;
    let models = fixture.models();
    models.build("nights", &["d1"], &[("d1", Some("a"), 1)]).await;
    fixture.publish(request.clone()).await.unwrap();
    models.build("nights", &["d2"], &[("d2", Some("b"), 2)]).await;
    assert_eq!(fixture.publish(request.clone()).await.unwrap().tables[0].counts, counts(1, 0, 0));
    models.build("nights", &["d1"], &[]).await;
    let error = fixture.publish(request).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.0), Some(503));
    assert_eq!(fixture.target("nights").await, pairs(&[("a", 1), ("b", 2)]));
}

/// Publishers that race end with the model in the target; the one that lost plans again or says that it lost.
pub(crate) async fn survives_a_race(fixture: &dyn Fixture) {
    let models = fixture.models();
    for round in 0..4 {
        models.build("nights", &["d1"], &[("d1", Some("a"), round), ("d1", Some("b"), round * 10)]).await;
        let (one, two) = tokio::join!(fixture.publish(nights(fixture)), fixture.publish(nights(fixture)));
        for result in [one, two] {
            if let Err(error) = result {
                assert!(error.kind().is_retryable(), "{error}");
            }
        }
        fixture.publish(nights(fixture)).await.unwrap();
        assert_eq!(fixture.target("nights").await, pairs(&[("a", round), ("b", round * 10)]), "round {round}");
    }
}
