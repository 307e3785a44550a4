//! Login events as the shipped `logins` contract reads them.

/// One login every 2 milliseconds of event time.
const EVENTS_PER_S: u64 = 500;
/// 2025-03-08T00:00:00Z: full hours from the first event on.
pub(crate) const START_S: i64 = 1_741_392_000;

/// The second of event time at which the backlog's event `number` happened.
pub(crate) fn second_of(number: u64) -> i64 {
    START_S + i64::try_from(number / EVENTS_PER_S).unwrap_or(i64::MAX)
}

/// Writes event `number` as JSON, about 210 bytes. Ids differ from event to event in all their digits, so that no branch,
/// dictionary or cache gets used to them.
pub(crate) fn write_login(out: &mut String, number: u64, second: i64) {
    use std::fmt::Write as _;
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let user = mixed % 200_000;
    let device = ["android", "iOS"][usize::from(mixed % 5 > 2)];
    let locale = ["MI", "CA", "NY", "TX", "RU", "FR"][usize::try_from(number % 6).unwrap_or(0)];
    out.clear();
    write!(
        out,
        r#"{{"user_id":"9f0c2a7e-1111-4000-8000-{user:012x}","app_version":"2.4.{}","device_type":"{device}","ip":"203.0.{}.{}","locale":"{locale}","device_id":"{:08x}-2222-4000-8000-{number:012x}","timestamp":"{second}"}}"#,
        number % 10,
        number % 199,
        number % 251,
        mixed >> 32,
    )
    .expect("a string takes whatever is written to it");
}

/// Average bytes of an event.
pub(crate) fn mean_bytes() -> usize {
    let mut text = String::new();
    let total: usize = (0..1_000)
        .map(|number| {
            write_login(&mut text, number * 977, second_of(number * 977));
            text.len()
        })
        .sum();
    total / 1_000
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn events_differ_and_have_the_size_of_the_issue() {
        let mut texts = BTreeSet::new();
        for number in 0..10_000 {
            let mut text = String::new();
            write_login(&mut text, number, second_of(number));
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
            assert!(texts.insert(text));
        }
        assert!((195..=225).contains(&mean_bytes()), "{}", mean_bytes());
    }
}
