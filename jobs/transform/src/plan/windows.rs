//! From touched event times to the batches that read them.

use std::collections::BTreeSet;

use super::PlannedBatch;
use super::range::{RangeSet, TimeRange};
use crate::project::{BatchSize, BatchWindow};

/// More batches than this are not counted out of a range but looked up among those that can hold rows.
const MAX_ENUMERATED: i64 = 2_000;

/// The batches of a model that exist or can hold rows.
///
/// Which they are is looked up when somebody asks for all of them. Most builds ask for those that a change touched, and need
/// not look at every file that the inputs ever got.
#[derive(Debug)]
pub(crate) struct Horizon<'a> {
    /// Width of the batches.
    pub size: BatchSize,
    /// Start of the first batch that is ever built.
    pub begin_us: i64,
    /// Where rows and batches are.
    pub extent: Extent<'a>,
    /// With an unknown coverage, batches are counted out up to here.
    pub until_us: i64,
}

/// Where rows and batches are.
pub(crate) enum Extent<'a> {
    /// Known.
    Known(Found),
    /// Looked up when asked for.
    Lazy(Box<dyn Fn() -> Found + 'a>),
}

/// Where rows and batches were found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Event times for which inputs hold rows, seen through the context; `None` when the log does not say.
    pub coverage: Option<RangeSet>,
    /// Batches in the model's table.
    pub existing: BTreeSet<BatchWindow>,
}

impl std::fmt::Debug for Extent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(found) => found.fmt(f),
            Self::Lazy(_) => f.write_str("Lazy"),
        }
    }
}

impl Horizon<'_> {
    /// Every batch that exists or can hold rows, ascending.
    pub(crate) fn all(&self) -> BTreeSet<BatchWindow> {
        let Found { coverage, existing: mut windows } = match &self.extent {
            Extent::Known(found) => found.clone(),
            Extent::Lazy(look) => look(),
        };
        match coverage {
            Some(coverage) => {
                for range in coverage.ranges() {
                    windows.extend(self.size.windows(range.start_us.max(self.begin_us), range.end_us));
                }
            }
            None => windows.extend(self.size.windows(self.begin_us, self.until_us)),
        }
        windows.retain(|window| window.end_us > self.begin_us);
        windows
    }

    /// The batches that share an instant with `touched`.
    pub(crate) fn touched(&self, touched: &RangeSet) -> BTreeSet<BatchWindow> {
        let narrow = self.narrowest_us();
        let count: i64 = touched
            .ranges()
            .iter()
            .map(|range| range.end_us.saturating_sub(range.start_us) / narrow)
            .fold(0, i64::saturating_add);
        if count > MAX_ENUMERATED {
            let mut windows = self.all();
            windows.retain(|window| touched.intersects(TimeRange::from(*window)));
            return windows;
        }
        touched
            .ranges()
            .iter()
            .flat_map(|range| self.size.windows(range.start_us.max(self.begin_us), range.end_us))
            .collect()
    }

    /// Adds the `lookback` batches before each.
    pub(crate) fn with_lookback(&self, windows: &mut BTreeSet<BatchWindow>, lookback: u32) {
        for window in windows.clone() {
            let mut at = window;
            for _ in 0..lookback {
                at = self.size.window_of(at.start_us - 1);
                if at.end_us <= self.begin_us {
                    break;
                }
                windows.insert(at);
            }
        }
    }

    fn narrowest_us(&self) -> i64 {
        let minute_us = 60_000_000;
        match self.size {
            BatchSize::Minute => minute_us,
            BatchSize::Hour => 60 * minute_us,
            BatchSize::Day => 24 * 60 * minute_us,
            BatchSize::Month => 28 * 24 * 60 * minute_us,
            BatchSize::Year => 365 * 24 * 60 * minute_us,
        }
    }
}

/// Gives batches their names.
pub(crate) fn named(size: BatchSize, windows: impl IntoIterator<Item = BatchWindow>) -> Vec<PlannedBatch> {
    windows.into_iter().map(|window| PlannedBatch { name: size.name(window), window }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: i64 = 3_600_000_000;

    fn horizon(coverage: &[(i64, i64)]) -> Horizon<'static> {
        Horizon {
            size: BatchSize::Hour,
            begin_us: 0,
            extent: Extent::Known(Found {
                coverage: Some(RangeSet::new(
                    coverage.iter().map(|(from, to)| TimeRange::new(from * HOUR_US, to * HOUR_US)),
                )),
                existing: BTreeSet::from([BatchSize::Hour.window_of(100 * HOUR_US)]),
            }),
            until_us: 0,
        }
    }

    fn hours(windows: &BTreeSet<BatchWindow>) -> Vec<i64> {
        windows.iter().map(|window| window.start_us / HOUR_US).collect()
    }

    #[test]
    fn an_unbounded_change_touches_only_batches_that_exist_or_can_hold_rows() {
        let touched = RangeSet::new([TimeRange::new(4 * HOUR_US, i64::MAX)]);
        assert_eq!(hours(&horizon(&[(2, 6), (9, 10)]).touched(&touched)), [4, 5, 9, 100]);
    }

    #[test]
    fn batches_before_begin_are_never_built() {
        let mut horizon = horizon(&[(-3, 2)]);
        horizon.begin_us = HOUR_US;
        assert_eq!(hours(&horizon.all()), [1, 100]);
        assert_eq!(hours(&horizon.touched(&RangeSet::new([TimeRange::new(-HOUR_US, 2 * HOUR_US)]))), [1]);
    }

    #[test]
    fn lookback_adds_the_batches_before() {
        let horizon = horizon(&[(0, 9)]);
        let mut windows = BTreeSet::from([BatchSize::Hour.window_of(5 * HOUR_US), BatchSize::Hour.window_of(HOUR_US)]);
        horizon.with_lookback(&mut windows, 2);
        assert_eq!(hours(&windows), [0, 1, 3, 4, 5]);
    }
}
