//! Rows of the models of clicks. Events come in the order of their times, so that a minute, a window or an hour is known
//! when the next begins: only exposures to experiments are kept to the end.

use std::collections::{BTreeMap, VecDeque};

// Their order never shows: rows of a group are sorted, sums are of whole numbers.
use hashbrown::{HashMap, HashSet};

use super::books::Landed;
use super::events::{Fact, User};
use crate::time::{DAY_US, HOUR_US, MINUTE_US, SECOND_US, floor};
use crate::truth::{Cell, Kind, Table};

const PANE_US: i64 = 10 * SECOND_US;
const BOT_THRESHOLD: u64 = 100;
const CONVERSION_US: i64 = DAY_US;

/// Clicks of a user in a minute or pane.
#[derive(Clone, Copy, Debug, Default)]
struct Clicks {
    clicks: u64,
    late: u64,
}

impl Clicks {
    fn add(&mut self, other: Self) {
        self.clicks += other.clicks;
        self.late += other.late;
    }
}

#[derive(Default)]
struct HourOfAction {
    events: u64,
    late: u64,
    users: HashSet<User>,
}

/// A user's exposure to an experiment.
struct Exposure {
    first_us: i64,
    variant: &'static str,
    is_mixed: bool,
    orders: u64,
}

#[derive(Default)]
struct Samples {
    count: u64,
    sum: f64,
    least: f64,
    greatest: f64,
}

pub(super) struct Tables {
    per_minute: Table,
    minute_us: i64,
    minute: HashMap<User, Clicks>,
    bots: Table,
    pane_us: i64,
    /// The last panes, the newest behind; six make a window.
    panes: VecDeque<HashMap<User, Clicks>>,
    /// Sum of the panes.
    window: HashMap<User, Clicks>,
    actions: Table,
    transactions: Table,
    metrics: Table,
    hour_us: i64,
    hour_actions: BTreeMap<&'static str, HourOfAction>,
    hour_transactions: BTreeMap<(&'static str, &'static str, &'static str), (u64, i64)>,
    metrics_minute_us: i64,
    minute_metrics: BTreeMap<(&'static str, &'static str), Samples>,
    results: Table,
    exposures: HashMap<(User, &'static str), Exposure>,
    /// Completed orders of the instant at hand: an exposure at the same instant may come after them.
    orders_now: (i64, Vec<User>),
}

impl Tables {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            per_minute: Table::new("clicks_per_minute", PER_MINUTE, 2, keep),
            minute_us: i64::MIN,
            minute: HashMap::new(),
            bots: Table::new("potential_bots", BOTS, 2, keep),
            pane_us: i64::MIN,
            panes: VecDeque::new(),
            window: HashMap::new(),
            actions: Table::new("clicks_actions_hourly", ACTIONS, 2, keep),
            transactions: Table::new("transactions_hourly", TRANSACTIONS, 4, keep),
            metrics: Table::new("clicks_system_minutely", METRICS, 3, keep),
            hour_us: i64::MIN,
            hour_actions: BTreeMap::new(),
            hour_transactions: BTreeMap::new(),
            metrics_minute_us: i64::MIN,
            minute_metrics: BTreeMap::new(),
            results: Table::new("ab_results", RESULTS, 3, keep),
            exposures: HashMap::new(),
            orders_now: (i64::MIN, Vec::new()),
        }
    }

    /// Books an event that landed; none after it is earlier.
    pub(super) fn book(&mut self, Landed { us, fact, is_late }: Landed) {
        let hour_us = floor(us, HOUR_US);
        if hour_us > self.hour_us {
            self.close_hour();
            self.hour_us = hour_us;
        }
        match fact {
            Fact::Action { user, kind, exposure } => {
                self.book_action(us, user, kind, is_late);
                if let Some((experiment, Some(variant))) = exposure {
                    self.expose(us, user, experiment, variant);
                }
            }
            Fact::Transaction { user, kind, status, currency, units } => {
                let sum = self.hour_transactions.entry((kind, status, currency)).or_default();
                *sum = (sum.0 + 1, sum.1 + units);
                if (kind, status) == ("order", "completed") {
                    self.book_order(us, user);
                }
            }
            Fact::Metric { service, metric, value_millionths } => {
                self.book_metric(us, service, metric, value_millionths);
            }
        }
    }

    fn book_action(&mut self, us: i64, user: User, kind: &'static str, is_late: bool) {
        let one = Clicks { clicks: 1, late: u64::from(is_late) };
        let minute_us = floor(us, MINUTE_US);
        if minute_us > self.minute_us {
            self.close_minute();
            self.minute_us = minute_us;
        }
        self.minute.entry(user).or_default().add(one);

        self.advance_panes(floor(us, PANE_US));
        if let Some(pane) = self.panes.back_mut() {
            pane.entry(user).or_default().add(one);
        }
        self.window.entry(user).or_default().add(one);

        let hour = self.hour_actions.entry(kind).or_default();
        hour.events += 1;
        hour.late += one.late;
        hour.users.insert(user);
    }

    fn expose(&mut self, us: i64, user: User, experiment: &'static str, variant: &'static str) {
        let (orders_us, orders) = &self.orders_now;
        let orders_at_once = orders.iter().filter(|other| *orders_us == us && **other == user).count() as u64;
        let exposure = self.exposures.entry((user, experiment)).or_insert(Exposure {
            first_us: us,
            variant,
            is_mixed: false,
            orders: orders_at_once,
        });
        exposure.is_mixed |= exposure.variant != variant;
    }

    /// An order that was completed: it may be what an experiment was for.
    fn book_order(&mut self, us: i64, user: User) {
        if self.orders_now.0 != us {
            self.orders_now = (us, Vec::new());
        }
        self.orders_now.1.push(user);
        for experiment in ["e1", "e2"] {
            if let Some(exposure) = self.exposures.get_mut(&(user, experiment)) {
                exposure.orders += u64::from(us < exposure.first_us + CONVERSION_US);
            }
        }
    }

    fn book_metric(&mut self, us: i64, service: &'static str, metric: &'static str, value_millionths: i64) {
        let minute_us = floor(us, MINUTE_US);
        if minute_us > self.metrics_minute_us {
            self.close_metrics();
            self.metrics_minute_us = minute_us;
        }
        #[expect(clippy::cast_precision_loss, reason = "values have fewer than 53 bits")]
        let value = value_millionths as f64 / 1e6;
        let samples = self.minute_metrics.entry((service, metric)).or_default();
        (samples.least, samples.greatest) =
            if samples.count == 0 { (value, value) } else { (samples.least.min(value), samples.greatest.max(value)) };
        samples.count += 1;
        samples.sum += value;
    }

    /// Moves the newest pane to one that begins at an instant; each that ends on the way ends a window.
    fn advance_panes(&mut self, to_us: i64) {
        if self.panes.is_empty() || self.window.is_empty() {
            self.pane_us = to_us;
            self.panes = VecDeque::from([HashMap::new()]);
            self.window.clear();
        }
        while self.pane_us < to_us && !self.window.is_empty() {
            self.close_window(self.pane_us + PANE_US - MINUTE_US);
            self.pane_us += PANE_US;
            self.panes.push_back(HashMap::new());
            if self.panes.len() > 6 {
                self.forget_oldest_pane();
            }
        }
        if self.pane_us < to_us {
            self.pane_us = to_us;
            self.panes = VecDeque::from([HashMap::new()]);
        }
    }

    fn forget_oldest_pane(&mut self) {
        for (user, gone) in self.panes.pop_front().unwrap_or_default() {
            if let Some(sum) = self.window.get_mut(&user) {
                sum.clicks -= gone.clicks;
                sum.late -= gone.late;
                if sum.clicks == 0 {
                    self.window.remove(&user);
                }
            }
        }
    }

    fn close_window(&mut self, start_us: i64) {
        for (user, row) in self.window.iter().filter(|(_, row)| row.clicks > BOT_THRESHOLD) {
            self.bots.row(&[
                Cell::Int(start_us),
                user.name().into(),
                Cell::Int(start_us + MINUTE_US),
                row.clicks.into(),
                BOT_THRESHOLD.into(),
                row.late.into(),
            ]);
        }
        self.bots.close_group();
    }

    fn close_minute(&mut self) {
        for (user, row) in self.minute.drain() {
            self.per_minute.row(&[
                Cell::Int(self.minute_us),
                user.name().into(),
                Cell::Int(self.minute_us + MINUTE_US),
                row.clicks.into(),
                row.late.into(),
            ]);
        }
        self.per_minute.close_group();
    }

    fn close_metrics(&mut self) {
        #[expect(clippy::cast_precision_loss, reason = "a minute has fewer than 2^53 samples")]
        for ((service, metric), row) in std::mem::take(&mut self.minute_metrics) {
            self.metrics.row(&[
                Cell::Int(self.metrics_minute_us),
                service.into(),
                metric.into(),
                row.count.into(),
                Cell::Double(row.sum / row.count as f64),
                Cell::Double(row.least),
                Cell::Double(row.greatest),
            ]);
        }
        self.metrics.close_group();
    }

    fn close_hour(&mut self) {
        for (action, row) in std::mem::take(&mut self.hour_actions) {
            let users = row.users.len() as u64;
            self.actions.row(&[
                Cell::Int(self.hour_us),
                action.into(),
                row.events.into(),
                users.into(),
                row.late.into(),
            ]);
        }
        self.actions.close_group();
        for ((kind, status, currency), (count, units)) in std::mem::take(&mut self.hour_transactions) {
            self.transactions.row(&[
                Cell::Int(self.hour_us),
                kind.into(),
                status.into(),
                currency.into(),
                count.into(),
                Cell::Decimal { units: units.into(), scale: 4 },
            ]);
        }
        self.transactions.close_group();
    }

    pub(super) fn finish(mut self) -> Vec<Table> {
        self.close_minute();
        self.close_hour();
        self.close_metrics();
        self.advance_panes(self.pane_us.saturating_add(MINUTE_US));
        let mut sums: BTreeMap<(i64, &str, &'static str), (u64, u64, u64)> = BTreeMap::new();
        for ((_, experiment), exposure) in &self.exposures {
            let variant = if exposure.is_mixed { "(mixed)" } else { exposure.variant };
            let sum = sums.entry((exposure.first_us.div_euclid(DAY_US), *experiment, variant)).or_default();
            *sum = (sum.0 + 1, sum.1 + u64::from(exposure.orders > 0), sum.2 + exposure.orders);
        }
        #[expect(clippy::cast_precision_loss, reason = "users are far below 2^53")]
        for ((day, experiment, variant), (users, converted, orders)) in sums {
            self.results.row(&[
                Cell::Int(day),
                experiment.to_owned().into(),
                variant.into(),
                users.into(),
                converted.into(),
                orders.into(),
                Cell::Double(converted as f64 / users as f64),
            ]);
        }
        vec![self.per_minute, self.bots, self.actions, self.transactions, self.metrics, self.results]
    }
}

const PER_MINUTE: &[(&str, Kind)] = &[
    ("window_start", Kind::Instant),
    ("user_id", Kind::Text),
    ("window_end", Kind::Instant),
    ("clicks", Kind::Int),
    ("late_clicks", Kind::Int),
];
const BOTS: &[(&str, Kind)] = &[
    ("window_start", Kind::Instant),
    ("user_id", Kind::Text),
    ("window_end", Kind::Instant),
    ("clicks", Kind::Int),
    ("threshold", Kind::Int),
    ("late_clicks", Kind::Int),
];
const ACTIONS: &[(&str, Kind)] = &[
    ("hour_start", Kind::Instant),
    ("action", Kind::Text),
    ("events", Kind::Int),
    ("users", Kind::Int),
    ("late_events", Kind::Int),
];
const TRANSACTIONS: &[(&str, Kind)] = &[
    ("hour_start", Kind::Instant),
    ("kind", Kind::Text),
    ("status", Kind::Text),
    ("currency", Kind::Text),
    ("transactions", Kind::Int),
    ("amount", Kind::Decimal),
];
const METRICS: &[(&str, Kind)] = &[
    ("minute", Kind::Instant),
    ("service", Kind::Text),
    ("metric", Kind::Text),
    ("samples", Kind::Int),
    ("avg_value", Kind::Double),
    ("min_value", Kind::Double),
    ("max_value", Kind::Double),
];
const RESULTS: &[(&str, Kind)] = &[
    ("exposure_date", Kind::Day),
    ("experiment_id", Kind::Text),
    ("variant", Kind::Text),
    ("users", Kind::Int),
    ("converted_users", Kind::Int),
    ("orders", Kind::Int),
    ("conversion_rate", Kind::Double),
];
