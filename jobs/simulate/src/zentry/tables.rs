//! Rows of zentry's models: functions of the set of events that landed, whatever their order.

use std::collections::{BTreeMap, BTreeSet};

use crate::options::Options;
use crate::time::{DAY_US, HOUR_US, SECOND_US, month_start, union_length, week_start};
use crate::truth::{Cell, Kind, Table};

/// A sleep entry as one event tells it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) user_id: i64,
    pub(super) duration_s: i64,
    pub(super) start_us: i64,
    pub(super) created_us: i64,
    pub(super) updated_us: i64,
}

impl Entry {
    fn end_us(&self) -> i64 {
        self.start_us + self.duration_s * SECOND_US
    }

    /// Its night in UTC, from noon to noon.
    fn night(&self) -> i64 {
        (self.start_us - 12 * HOUR_US).div_euclid(DAY_US)
    }
}

/// A follow as one event tells it.
#[derive(Clone, Debug)]
pub(super) struct Follow {
    pub(super) id: Option<i64>,
    pub(super) follower_id: i64,
    pub(super) followed_id: i64,
    pub(super) created_us: i64,
}

impl Follow {
    fn pair(&self) -> (i64, i64) {
        (self.follower_id, self.followed_id)
    }
}

/// What events say of a follow with an id: its creation, and whether it ended.
#[derive(Default)]
struct ById {
    created: Option<Follow>,
    is_deleted: bool,
}

#[derive(Default)]
pub(super) struct Tables {
    /// The newest state of each entry.
    entries: BTreeMap<i64, Entry>,
    /// Deletion is final.
    deleted: BTreeSet<i64>,
    by_id: BTreeMap<i64, ById>,
    /// The newest event of each pair without ids: its time, and when the follow began if it is a creation.
    by_pair: BTreeMap<(i64, i64), (i64, Option<i64>)>,
}

impl Tables {
    pub(super) fn enter(&mut self, entry: &Entry) {
        let newest = self.entries.entry(entry.id).or_insert_with(|| entry.clone());
        if entry.updated_us > newest.updated_us {
            *newest = entry.clone();
        }
    }

    pub(super) fn delete(&mut self, id: i64) {
        self.deleted.insert(id);
    }

    pub(super) fn follow(&mut self, follow: &Follow) {
        match follow.id {
            Some(id) => self.by_id.entry(id).or_default().created = Some(follow.clone()),
            None => self.see_pair(follow.pair(), follow.created_us, Some(follow.created_us)),
        }
    }

    pub(super) fn unfollow(&mut self, follow: &Follow, us: i64) {
        match follow.id {
            Some(id) => self.by_id.entry(id).or_default().is_deleted = true,
            None => self.see_pair(follow.pair(), us, None),
        }
    }

    fn see_pair(&mut self, pair: (i64, i64), us: i64, began_us: Option<i64>) {
        let newest = self.by_pair.entry(pair).or_insert((us, began_us));
        if us > newest.0 {
            *newest = (us, began_us);
        }
    }

    pub(super) fn finish(mut self, options: &Options) -> Vec<Table> {
        let keep = options.truth_rows;
        self.entries.retain(|id, _| !self.deleted.contains(id));
        let follows = self.live_follows();
        let counts = Counts::of(&follows, options.celebrity_threshold);
        let mut tables = vec![entries(&self.entries, keep), follow_rows(&follows, keep), counts.table(keep)];
        tables.extend(feeds(&self.entries, &follows, &counts, keep));
        tables.extend(sleep(&self.entries, keep));
        tables
    }

    /// Live pairs, each with its latest beginning.
    fn live_follows(&self) -> BTreeMap<(i64, i64), i64> {
        let mut live = BTreeMap::new();
        let by_id =
            self.by_id.values().filter(|follow| !follow.is_deleted).filter_map(|follow| follow.created.as_ref());
        let by_id = by_id.map(|follow| (follow.pair(), follow.created_us));
        let by_pair = self.by_pair.iter().filter_map(|(pair, (_, began_us))| Some((*pair, (*began_us)?)));
        for (pair, began_us) in by_id.chain(by_pair) {
            let latest = live.entry(pair).or_insert(began_us);
            *latest = began_us.max(*latest);
        }
        live
    }
}

/// Followers and followed of each user.
struct Counts {
    by_user: BTreeMap<i64, (u64, u64)>,
    threshold: u64,
}

impl Counts {
    fn of(follows: &BTreeMap<(i64, i64), i64>, threshold: u64) -> Self {
        let mut by_user: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
        for (follower, followed) in follows.keys() {
            by_user.entry(*followed).or_default().0 += 1;
            by_user.entry(*follower).or_default().1 += 1;
        }
        Self { by_user, threshold }
    }

    fn is_celebrity(&self, user_id: i64) -> bool {
        self.by_user.get(&user_id).is_some_and(|(followers, _)| *followers >= self.threshold)
    }

    fn table(&self, keep: usize) -> Table {
        const COLUMNS: &[(&str, Kind)] = &[
            ("user_id", Kind::Int),
            ("follower_count", Kind::Int),
            ("followed_count", Kind::Int),
            ("is_celebrity", Kind::Bool),
        ];
        let mut table = Table::new("zentry_follow_counts", COLUMNS, 1, keep);
        for (user_id, (followers, followed)) in &self.by_user {
            let is_celebrity = self.is_celebrity(*user_id);
            table.row(&[Cell::Int(*user_id), (*followers).into(), (*followed).into(), is_celebrity.into()]);
        }
        table
    }
}

fn entries(entries: &BTreeMap<i64, Entry>, keep: usize) -> Table {
    const COLUMNS: &[(&str, Kind)] = &[
        ("sleep_entry_id", Kind::Int),
        ("user_id", Kind::Int),
        ("sleep_duration", Kind::Int),
        ("sleep_duration_s", Kind::Int),
        ("sleep_start_at", Kind::Instant),
        ("sleep_end_at", Kind::Instant),
        ("created_at", Kind::Instant),
        ("updated_at", Kind::Instant),
        ("night_date", Kind::Day),
    ];
    let mut table = Table::new("zentry_sleep_entries", COLUMNS, 1, keep);
    for entry in entries.values() {
        let cells = [
            entry.id,
            entry.user_id,
            entry.duration_s,
            entry.duration_s,
            entry.start_us,
            entry.end_us(),
            entry.created_us,
            entry.updated_us,
            entry.night(),
        ];
        table.row(&cells.map(Cell::Int));
    }
    table
}

fn follow_rows(follows: &BTreeMap<(i64, i64), i64>, keep: usize) -> Table {
    const COLUMNS: &[(&str, Kind)] =
        &[("follower_id", Kind::Int), ("followed_id", Kind::Int), ("followed_at", Kind::Instant)];
    let mut table = Table::new("zentry_follows", COLUMNS, 2, keep);
    for ((follower, followed), began_us) in follows {
        table.row(&[*follower, *followed, *began_us].map(Cell::Int));
    }
    table
}

/// Copies for the followers of ordinary authors, and the entries of celebrities.
fn feeds(
    entries: &BTreeMap<i64, Entry>,
    follows: &BTreeMap<(i64, i64), i64>,
    counts: &Counts,
    keep: usize,
) -> [Table; 2] {
    const FANOUT: &[(&str, Kind)] = &[
        ("user_id", Kind::Int),
        ("sleep_entry_id", Kind::Int),
        ("author_id", Kind::Int),
        ("sleep_duration", Kind::Int),
        ("sleep_start_at", Kind::Instant),
        ("created_at", Kind::Instant),
        ("updated_at", Kind::Instant),
    ];
    let mut by_author: BTreeMap<i64, Vec<&Entry>> = BTreeMap::new();
    for entry in entries.values() {
        by_author.entry(entry.user_id).or_default().push(entry);
    }
    let cells = |entry: &Entry| {
        [entry.id, entry.user_id, entry.duration_s, entry.start_us, entry.created_us, entry.updated_us].map(Cell::Int)
    };
    let mut fanout = Table::new("zentry_feed_fanout", FANOUT, 2, keep);
    for (reader, author) in follows.keys().filter(|(_, author)| !counts.is_celebrity(*author)) {
        for entry in by_author.get(author).into_iter().flatten() {
            fanout.row(&std::iter::once(Cell::Int(*reader)).chain(cells(entry)).collect::<Vec<_>>());
        }
    }
    let mut celebrities = Table::new("zentry_celebrity_entries", &FANOUT[1..], 1, keep);
    for entry in entries.values().filter(|entry| counts.is_celebrity(entry.user_id)) {
        celebrities.row(&cells(entry));
    }
    [fanout, celebrities]
}

/// What a person slept in one night.
#[derive(Default)]
struct Night {
    entries: i64,
    logged_s: i64,
    sleep_s: i64,
    first_us: i64,
    last_us: i64,
    longest_s: i64,
}

impl Night {
    fn of(entries: &[&Entry]) -> Self {
        let intervals = entries.iter().map(|entry| (entry.start_us, entry.end_us())).collect();
        Self {
            entries: i64::try_from(entries.len()).expect("entries are few"),
            logged_s: entries.iter().map(|entry| entry.duration_s).sum(),
            sleep_s: union_length(intervals) / SECOND_US,
            first_us: entries.iter().map(|entry| entry.start_us).min().unwrap_or_default(),
            last_us: entries.iter().map(|entry| entry.end_us()).max().unwrap_or_default(),
            longest_s: entries.iter().map(|entry| entry.duration_s).max().unwrap_or_default(),
        }
    }
}

/// Nights, weeks and months.
fn sleep(entries: &BTreeMap<i64, Entry>, keep: usize) -> [Table; 2] {
    const NIGHTS: &[(&str, Kind)] = &[
        ("user_id", Kind::Int),
        ("night_date", Kind::Day),
        ("entries", Kind::Int),
        ("logged_seconds", Kind::Int),
        ("sleep_seconds", Kind::Int),
        ("first_start_at", Kind::Instant),
        ("last_end_at", Kind::Instant),
        ("longest_entry_s", Kind::Int),
    ];
    const STATS: &[(&str, Kind)] = &[
        ("user_id", Kind::Int),
        ("period", Kind::Text),
        ("period_start", Kind::Day),
        ("nights", Kind::Int),
        ("entries", Kind::Int),
        ("total_sleep_s", Kind::Int),
        ("longest_night_s", Kind::Int),
        ("shortest_night_s", Kind::Int),
        ("avg_per_night_s", Kind::Double),
    ];
    let mut by_night: BTreeMap<(i64, i64), Vec<&Entry>> = BTreeMap::new();
    for entry in entries.values() {
        by_night.entry((entry.user_id, entry.night())).or_default().push(entry);
    }
    let mut nightly = Table::new("zentry_sleep_nightly", NIGHTS, 2, keep);
    let mut periods: BTreeMap<(i64, &'static str, i64), Vec<Night>> = BTreeMap::new();
    for ((user_id, date), entries) in by_night {
        for (period, start) in [("week", week_start(date)), ("month", month_start(date))] {
            periods.entry((user_id, period, start)).or_default().push(Night::of(&entries));
        }
        let night = Night::of(&entries);
        let cells = [
            user_id,
            date,
            night.entries,
            night.logged_s,
            night.sleep_s,
            night.first_us,
            night.last_us,
            night.longest_s,
        ];
        nightly.row(&cells.map(Cell::Int));
    }
    let mut stats = Table::new("zentry_sleep_stats", STATS, 3, keep);
    for ((user_id, period, start), nights) in periods {
        let total: i64 = nights.iter().map(|night| night.sleep_s).sum();
        let lengths = || nights.iter().map(|night| night.sleep_s);
        #[expect(clippy::cast_precision_loss, reason = "seconds of a month are far below 2^53")]
        let mean = total as f64 / nights.len() as f64;
        stats.row(&[
            Cell::Int(user_id),
            period.into(),
            Cell::Int(start),
            (nights.len() as u64).into(),
            Cell::Int(nights.iter().map(|night| night.entries).sum()),
            Cell::Int(total),
            lengths().max().into(),
            lengths().min().into(),
            Cell::Double(mean),
        ]);
    }
    [nightly, stats]
}
