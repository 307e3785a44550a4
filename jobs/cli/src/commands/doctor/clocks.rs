//! When clocks count as different.

use super::Finding;

/// Beyond this, commits carry times that a person would call wrong, and `max_future` refuses events that are right.
const MAX_SKEW_S: i64 = 60;

/// The fault, if there is one, of a machine whose clock less ours is `skew_us`.
pub(super) fn fault(what: &str, place: &str, skew_us: i64) -> Option<Finding> {
    let skew_s = skew_us / 1_000_000;
    let side = if skew_s > 0 { "ahead of" } else { "behind" };
    (skew_s.abs() > MAX_SKEW_S).then(|| {
        Finding::bad(
            what,
            format!("{place}: its clock is {} s {side} this machine's", skew_s.abs()),
            "let this machine follow a time server, and the other one if it is yours",
        )
    })
}

/// What is said of clocks that agree.
pub(super) fn agreement(skew_us: i64) -> String {
    format!("clocks differ by {} s", skew_us.abs() / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_borne_and_more_is_a_fault_on_either_side() {
        let found = |skew_s: i64| fault("lake", "s3://b", skew_s * 1_000_000).map(|fault| (fault.ok, fault.found));
        assert_eq!((found(60), found(-60), found(0)), (None, None, None));
        let ahead = "s3://b: its clock is 61 s ahead of this machine's".to_owned();
        assert_eq!(found(61), Some((Some(false), ahead)));
        let behind = "s3://b: its clock is 3600 s behind this machine's".to_owned();
        assert_eq!(found(-3_600), Some((Some(false), behind)));
    }
}
