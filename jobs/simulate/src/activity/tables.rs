//! Windows, bouts and days of the phones. Readings come in the order of their times: a window is known when the next pane
//! begins.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Session;
use crate::time::{DAY_US, SECOND_US, floor};
use crate::truth::{Cell, Kind, Table};

const SLIDE_US: i64 = 2 * SECOND_US;
const WINDOW_US: i64 = 10 * SECOND_US;

/// An acceleration that landed.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    pub(super) us: i64,
    /// Its recording among all.
    pub(super) session: usize,
    pub(super) magnitude: f64,
    pub(super) is_late: bool,
}

#[derive(Default)]
struct Pane {
    magnitudes: Vec<f64>,
    late: u64,
}

/// A run of windows of one class, each two seconds after the one before.
struct Bout {
    class: &'static str,
    start_us: i64,
    last_us: i64,
    windows: u64,
}

pub(super) struct Tables {
    windows: Table,
    pane_us: i64,
    /// The last panes by recording, the newest behind; five make a window.
    panes: VecDeque<BTreeMap<usize, Pane>>,
    /// The open bout of each recording.
    open: BTreeMap<usize, Bout>,
    /// By start, recording.
    closed: Vec<(usize, Bout)>,
    /// Windows with a reading in their first two seconds, by day, device, class.
    daily: BTreeMap<(i64, String, &'static str), u64>,
    keep: usize,
    /// Whether it is known what is late.
    knows_late: bool,
}

/// The class of a magnitude; a bound belongs to the class above it.
fn class(magnitude: f64) -> &'static str {
    match magnitude {
        ..2.0 => "Stationary",
        2.0..8.0 => "Walking",
        8.0..20.0 => "Running",
        _ => "Sprinting",
    }
}

impl Tables {
    pub(super) fn new(keep: usize, knows_late: bool) -> Self {
        let columns = if knows_late { WINDOWS } else { WINDOWS_BUT_LATE };
        Self {
            windows: Table::new("activity_windows", columns, 3, keep),
            pane_us: i64::MIN,
            panes: VecDeque::new(),
            open: BTreeMap::new(),
            closed: Vec::new(),
            daily: BTreeMap::new(),
            keep,
            knows_late,
        }
    }

    pub(super) fn book(&mut self, reading: Reading, sessions: &[Session]) {
        self.advance(floor(reading.us, SLIDE_US), sessions);
        if let Some(newest) = self.panes.back_mut() {
            let pane = newest.entry(reading.session).or_default();
            pane.magnitudes.push(reading.magnitude);
            pane.late += u64::from(reading.is_late);
        }
    }

    /// Moves the newest pane to one that begins at an instant; each that ends on the way ends a window.
    fn advance(&mut self, to_us: i64, sessions: &[Session]) {
        while self.pane_us < to_us && self.panes.iter().any(|pane| !pane.is_empty()) {
            self.close_window(self.pane_us + SLIDE_US - WINDOW_US, sessions);
            self.pane_us += SLIDE_US;
            self.panes.push_back(BTreeMap::new());
            if self.panes.len() > 5 {
                self.panes.pop_front();
            }
        }
        if self.pane_us < to_us {
            self.pane_us = to_us;
            self.panes = VecDeque::from([BTreeMap::new()]);
        }
    }

    fn close_window(&mut self, start_us: i64, sessions: &[Session]) {
        let in_window: BTreeSet<usize> = self.panes.iter().flat_map(|pane| pane.keys().copied()).collect();
        for session in in_window {
            let panes: Vec<&Pane> = self.panes.iter().filter_map(|pane| pane.get(&session)).collect();
            let magnitudes: Vec<f64> = panes.iter().flat_map(|pane| pane.magnitudes.iter().copied()).collect();
            let late = panes.iter().map(|pane| pane.late).sum::<u64>();
            // Panes before the first are missing: then nothing leads.
            let first =
                (self.panes.len() == 5).then(|| self.panes.front().and_then(|pane| pane.get(&session))).flatten();
            let leading = first.map_or(0, |pane| pane.magnitudes.len() as u64);
            let Session { session_id, device_id } = &sessions[session];
            let summary = Summary::of(&magnitudes);
            let mut cells = vec![
                Cell::Int(start_us),
                session_id.clone().into(),
                device_id.clone().into(),
                Cell::Int(start_us + WINDOW_US),
                (magnitudes.len() as u64).into(),
                summary.class.into(),
                leading.into(),
            ];
            cells.extend(self.knows_late.then(|| late.into()));
            let Summary { mean, deviation, least, greatest, confidence, .. } = summary;
            cells.extend([mean, deviation, least, greatest, confidence].map(Cell::Double));
            self.windows.row(&cells);
            if leading > 0 {
                let day = start_us.div_euclid(DAY_US);
                *self.daily.entry((day, device_id.clone(), summary.class)).or_default() += 1;
            }
            self.continue_bout(session, start_us, summary.class);
        }
        self.windows.close_group();
    }

    fn continue_bout(&mut self, session: usize, start_us: i64, class: &'static str) {
        if let Some(bout) = self.open.get_mut(&session) {
            let is_next = bout.last_us + SLIDE_US == start_us;
            let is_same_day = bout.last_us.div_euclid(DAY_US) == start_us.div_euclid(DAY_US);
            if is_next && is_same_day && bout.class == class {
                bout.last_us = start_us;
                bout.windows += 1;
                return;
            }
        }
        let bout = Bout { class, start_us, last_us: start_us, windows: 1 };
        self.closed.extend(self.open.insert(session, bout).map(|bout| (session, bout)));
    }

    pub(super) fn finish(mut self, sessions: &[Session]) -> Vec<Table> {
        self.advance(self.pane_us.saturating_add(WINDOW_US), sessions);
        self.closed.extend(std::mem::take(&mut self.open));
        let mut bouts = Table::new("activity_bouts", BOUTS, 3, self.keep);
        for (session, bout) in self.closed {
            let Session { session_id, device_id } = &sessions[session];
            bouts.row(&[
                Cell::Int(bout.start_us),
                session_id.clone().into(),
                device_id.clone().into(),
                bout.class.into(),
                Cell::Int(bout.last_us + SLIDE_US),
                bout.windows.into(),
                (2 * bout.windows).into(),
            ]);
        }
        let mut daily = Table::new("activity_daily", DAILY, 3, self.keep);
        for ((day, device_id, class), windows) in self.daily {
            daily.row(&[Cell::Int(day), device_id.into(), class.into(), (2 * windows).into(), windows.into()]);
        }
        vec![self.windows, bouts, daily]
    }
}

/// What a window says of its magnitudes.
struct Summary {
    class: &'static str,
    mean: f64,
    /// Of the population.
    deviation: f64,
    least: f64,
    greatest: f64,
    confidence: f64,
}

impl Summary {
    fn of(magnitudes: &[f64]) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a window has fewer than 2^53 readings")]
        let count = magnitudes.len() as f64;
        let mean = magnitudes.iter().sum::<f64>() / count;
        let squares = magnitudes.iter().map(|magnitude| (magnitude - mean) * (magnitude - mean)).sum::<f64>();
        let class_of_mean = class(mean);
        #[expect(clippy::cast_precision_loss, reason = "a window has fewer than 2^53 readings")]
        let agreeing = magnitudes.iter().filter(|magnitude| class(**magnitude) == class_of_mean).count() as f64;
        Self {
            class: class_of_mean,
            mean,
            deviation: (squares / count).sqrt(),
            least: magnitudes.iter().copied().fold(f64::INFINITY, f64::min),
            greatest: magnitudes.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            confidence: agreeing / count,
        }
    }
}

const WINDOWS: &[(&str, Kind)] = &[
    ("window_start", Kind::Instant),
    ("session_id", Kind::Text),
    ("device_id", Kind::Text),
    ("window_end", Kind::Instant),
    ("sample_count", Kind::Int),
    ("activity", Kind::Text),
    ("leading_samples", Kind::Int),
    ("late_samples", Kind::Int),
    ("avg_magnitude", Kind::Double),
    ("stddev_magnitude", Kind::Double),
    ("min_magnitude", Kind::Double),
    ("max_magnitude", Kind::Double),
    ("confidence", Kind::Double),
];
const WINDOWS_BUT_LATE: &[(&str, Kind)] = &[
    WINDOWS[0],
    WINDOWS[1],
    WINDOWS[2],
    WINDOWS[3],
    WINDOWS[4],
    WINDOWS[5],
    WINDOWS[6],
    WINDOWS[8],
    WINDOWS[9],
    WINDOWS[10],
    WINDOWS[11],
    WINDOWS[12],
];
const BOUTS: &[(&str, Kind)] = &[
    ("bout_start", Kind::Instant),
    ("session_id", Kind::Text),
    ("device_id", Kind::Text),
    ("activity", Kind::Text),
    ("bout_end", Kind::Instant),
    ("windows", Kind::Int),
    ("seconds", Kind::Int),
];
const DAILY: &[(&str, Kind)] = &[
    ("local_date", Kind::Day),
    ("device_id", Kind::Text),
    ("activity", Kind::Text),
    ("seconds", Kind::Int),
    ("windows", Kind::Int),
];

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_US: i64 = 1_741_521_600_000_000;

    fn sessions() -> Vec<Session> {
        vec![Session { session_id: "s1".to_owned(), device_id: "d1".to_owned() }]
    }

    fn tables(readings: &[(i64, f64)]) -> Vec<crate::ModelTruth> {
        let mut tables = Tables::new(100, true);
        for (ms, magnitude) in readings {
            let reading = Reading { us: NOON_US + ms * 1_000, session: 0, magnitude: *magnitude, is_late: false };
            tables.book(reading, &sessions());
        }
        tables.finish(&sessions()).into_iter().map(|table| table.finish().1).collect()
    }

    /// GA5: the mean is that of readings, not of panes.
    #[test]
    fn windows_are_those_of_the_golden_case_ga5() {
        let truth = tables(&[(0, 1.0), (500, 1.0), (1_000, 1.0), (2_000, 9.0)]);
        let rows = truth[0].rows.clone().expect("few rows are kept");
        let shown: Vec<String> = rows
            .iter()
            .map(|row| {
                let offset_s = (row[0].as_i64().expect("an instant") - NOON_US) / SECOND_US;
                format!("{offset_s} {} {} {} {} {} {}", row[4], row[8], row[9], row[5], row[12], row[6])
            })
            .collect();
        assert_eq!(
            shown,
            [
                "-8 3 1.0 0.0 \"Stationary\" 1.0 0",
                "-6 4 3.0 3.4641016151377544 \"Walking\" 0.0 0",
                "-4 4 3.0 3.4641016151377544 \"Walking\" 0.0 0",
                "-2 4 3.0 3.4641016151377544 \"Walking\" 0.0 0",
                "0 4 3.0 3.4641016151377544 \"Walking\" 0.0 3",
                "2 1 9.0 0.0 \"Running\" 1.0 1",
            ]
        );
    }

    /// GA9: a minute of rest is one bout of 68 seconds, and 60 seconds of the day.
    #[test]
    fn bouts_and_days_are_those_of_the_golden_case_ga9() {
        let readings: Vec<(i64, f64)> = (0..60).map(|second| (second * 1_000, 1.0)).collect();
        let truth = tables(&readings);
        assert_eq!(truth[0].num_rows, 34);
        assert_eq!(truth[1].num_rows, 1);
        assert_eq!((truth[1].sums["windows"].as_str(), truth[1].sums["seconds"].as_str()), ("34", "68"));
        assert_eq!((truth[2].sums["windows"].as_str(), truth[2].sums["seconds"].as_str()), ("30", "60"));
    }
}
