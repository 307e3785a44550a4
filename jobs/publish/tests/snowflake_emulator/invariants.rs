//! What holds for every sequence of statements, whatever the test was about. Source: SNOWFLAKE.md section 9, instrument 4.

use crate::world::PASSWORD;

const DDL: [&str; 5] = ["CREATE", "ALTER", "DROP", "TRUNCATE", "COPY"];

/// Holds them against what one process sent, in order.
pub(crate) fn hold(statements: &[String]) {
    let mut is_open = false;
    for sql in statements {
        let head = sql.split_whitespace().next().unwrap_or_default();
        match head {
            "BEGIN" => {
                assert!(!is_open, "BEGIN inside a transaction: {statements:#?}");
                is_open = true;
            }
            "COMMIT" => {
                assert!(is_open, "COMMIT without BEGIN, or a second one: {statements:#?}");
                is_open = false;
            }
            // A new session begins with PUT; the old one's transaction is the server's to end.
            "ROLLBACK" | "PUT" => is_open = false,
            head => assert!(!(is_open && DDL.contains(&head)), "DDL inside a transaction would commit it: {sql}"),
        }
        if head == "MERGE" && !sql.contains(".OPS.TIDEMILL_HEAD__") {
            assert!(sql.contains("QUALIFY ROW_NUMBER()"), "a merge without QUALIFY inserts duplicates: {sql}");
        }
        if head == "COPY" {
            assert!(
                sql.contains("USE_LOGICAL_TYPE = TRUE") && !sql.contains("PURGE") && sql.contains("/ FILE_FORMAT"),
                "{sql}"
            );
        }
        assert_ne!(head, "USE", "names are always whole");
        assert!(!sql.contains(PASSWORD), "a secret in a statement: {sql}");
    }
}
