//! Stretches of event time, and how a change at one instant reaches others through a model's context.

/// Event times `[start, end)`, microseconds since the epoch, UTC. The ends of `i64` stand for "unbounded": all arithmetic
/// saturates there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TimeRange {
    /// First instant of the range.
    pub start_us: i64,
    /// The instant after its last one.
    pub end_us: i64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { start_us: i64::MIN, end_us: i64::MAX };

    /// Builds `[start, end)`; empty when `end <= start`.
    #[must_use]
    pub fn new(start_us: i64, end_us: i64) -> Self {
        Self { start_us, end_us }
    }

    /// Whether the range holds no instant.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.end_us <= self.start_us
    }

    /// Whether the two share an instant.
    #[must_use]
    pub fn intersects(self, other: Self) -> bool {
        self.start_us < other.end_us && other.start_us < self.end_us
    }

    /// What the two share; empty when they are apart.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self { start_us: self.start_us.max(other.start_us), end_us: self.end_us.min(other.end_us) }
    }

    /// The outputs that a change in this range of an input reaches: an output at `x` reads `[x - before, x + after]`, so a
    /// change at `t` reaches `[t - after, t + before]`.
    #[must_use]
    pub fn reached_through(self, context: Reach) -> Self {
        Self {
            start_us: self.start_us.saturating_sub(context.after_us),
            end_us: self.end_us.saturating_add(context.before_us),
        }
    }

    /// The inputs that an output range reads: the other direction of [`Self::reached_through`].
    #[must_use]
    pub fn read_through(self, context: Reach) -> Self {
        Self {
            start_us: self.start_us.saturating_sub(context.before_us),
            end_us: self.end_us.saturating_add(context.after_us),
        }
    }
}

impl From<crate::project::BatchWindow> for TimeRange {
    fn from(window: crate::project::BatchWindow) -> Self {
        Self { start_us: window.start_us, end_us: window.end_us }
    }
}

/// How far around a batch an input is read, in microseconds. `i64::MAX` is unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reach {
    /// Time before the batch's start.
    pub before_us: i64,
    /// Time after the batch's end.
    pub after_us: i64,
}

impl From<crate::project::ContextSpan> for Reach {
    fn from(context: crate::project::ContextSpan) -> Self {
        Self { before_us: micros(context.before), after_us: micros(context.after) }
    }
}

fn micros(span: crate::project::Span) -> i64 {
    match span {
        crate::project::Span::Bounded(duration) => i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
        crate::project::Span::Unbounded => i64::MAX,
    }
}

impl Reach {
    /// The reach of two steps, one behind the other: a model that reads a view that reads a table.
    #[must_use]
    pub fn then(self, inner: Self) -> Self {
        Self {
            before_us: self.before_us.saturating_add(inner.before_us),
            after_us: self.after_us.saturating_add(inner.after_us),
        }
    }
}

/// Ranges without overlap, ascending; neighbours that touch are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet(Vec<TimeRange>);

impl RangeSet {
    /// Builds the set from ranges in any order.
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = TimeRange>) -> Self {
        let mut ranges: Vec<TimeRange> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        ranges.sort_unstable();
        let mut merged: Vec<TimeRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start_us <= last.end_us => last.end_us = last.end_us.max(range.end_us),
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    /// The ranges, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[TimeRange] {
        &self.0
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any range of the set shares an instant with `range`. A binary search.
    #[must_use]
    pub fn intersects(&self, range: TimeRange) -> bool {
        let first = self.0.partition_point(|candidate| candidate.end_us <= range.start_us);
        self.0.get(first).is_some_and(|candidate| candidate.intersects(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_joins_what_overlaps_or_touches() {
        let set =
            RangeSet::new([TimeRange::new(5, 9), TimeRange::new(0, 2), TimeRange::new(2, 3), TimeRange::new(8, 8)]);
        assert_eq!(set.ranges(), [TimeRange::new(0, 3), TimeRange::new(5, 9)]);
        assert!(set.intersects(TimeRange::new(2, 6)));
        assert!(!set.intersects(TimeRange::new(3, 5)));
    }

    #[test]
    fn a_change_reaches_exactly_the_outputs_that_read_it() {
        let context = Reach { before_us: 3, after_us: 2 };
        let reached = TimeRange::new(100, 101).reached_through(context);
        for x in 90..110 {
            let reads = TimeRange::new(x, x + 1).read_through(context);
            let output = TimeRange::new(x, x + 1);
            assert_eq!(reads.intersects(TimeRange::new(100, 101)), reached.intersects(output), "output at {x}");
        }
    }

    #[test]
    fn an_unbounded_reach_does_not_wrap() {
        let context = Reach { before_us: i64::MAX, after_us: 0 }.then(Reach { before_us: 1, after_us: 1 });
        let reached = TimeRange::new(10, 11).reached_through(context);
        assert_eq!(reached, TimeRange::new(9, i64::MAX));
    }
}
