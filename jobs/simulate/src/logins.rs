//! Logins: two a second, some of their fields missing, times mostly as text.

use std::collections::{BTreeMap, BTreeSet};

use crate::json::{int, text};
use crate::random::Random;
use crate::record::SinkError;
use crate::stream::{Base, Breakage, Encoding, Fate, Shape};
use crate::system::System;
use crate::traffic::Studio;
use crate::truth::{Cell, Kind, Table};

const WINDOW_US: i64 = 10_000_000;
const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

const LOCALES: [&str; 53] = [
    "AL", "AK", "AZ", "AR", "CA", "CO", "CT", "DE", "FL", "GA", "HI", "ID", "IL", "IN", "IA", "KS", "KY", "LA", "ME",
    "MD", "MA", "MI", "MN", "MS", "MO", "MT", "NE", "NV", "NH", "NJ", "NM", "NY", "NC", "ND", "OH", "OK", "OR", "PA",
    "RI", "SC", "SD", "TN", "TX", "UT", "VT", "VA", "WA", "WV", "WI", "WY", "RU", "FR", "JP",
];
const VERSIONS: [&str; 5] = ["2.2.9", "2.3.0", "2.3.1", "2.4.0", "2.4.1"];
const SHAPE: Shape = Shape {
    removable: &[
        ("user_id", false),
        ("app_version", false),
        ("device_type", false),
        ("ip", false),
        ("locale", false),
        ("device_id", false),
        ("timestamp", true),
    ],
    time: "timestamp",
    breakages: &[
        Breakage::Value("locale", "7", "wrong_type"),
        Breakage::Value("timestamp", "\"yesterday\"", "bad_event_time"),
        Breakage::Unit(1_000),
        Breakage::Value("ip", "\"300.1.1.1\"", "bad_value"),
    ],
};

pub(crate) fn generate(studio: &mut Studio<'_, '_>) -> Result<Vec<Table>, SinkError> {
    let options = studio.stream.options;
    let mut random = Random::new(options.seed, "logins", 0);
    let mut tables = Tables::default();
    let slot_us = options.slot_us(System::Logins);
    let partitions = options.num_partitions(System::Logins);
    for index in 0..options.events {
        let slot_start_us = options.start_us + i64::try_from(index).expect("event numbers fit") * slot_us;
        if slot_start_us >= options.end_us() {
            break;
        }
        // Each is somewhere inside its slot; only whole seconds are sent.
        let event_us = (slot_start_us + random.between(0, slot_us - 1)).div_euclid(1_000_000) * 1_000_000;
        let login = Login::draw(&mut random, event_us);
        let base = login.base(&mut random, partitions);
        if let Fate::Lands { is_late, without } = studio.faults.send(&base, studio.stream)? {
            tables.book(&login, is_late, without);
        }
    }
    Ok(tables.finish(options.truth_rows))
}

struct Login {
    user_id: String,
    app_version: &'static str,
    device_type: &'static str,
    ip: String,
    locale: &'static str,
    device_id: String,
    event_us: i64,
}

impl Login {
    fn draw(random: &mut Random, event_us: i64) -> Self {
        Self {
            user_id: random.uuid(),
            app_version: random.pick(&VERSIONS),
            device_type: if random.chance(0.6) { "android" } else { "iOS" },
            ip: format!("203.0.{}.{}", random.below(256), random.below(256)),
            locale: random.pick(&LOCALES),
            device_id: random.uuid(),
            event_us,
        }
    }

    fn base(&self, random: &mut Random, partitions: u64) -> Base {
        let seconds = self.event_us / 1_000_000;
        let time = if random.chance(0.9) { text("timestamp", seconds.to_string()) } else { int("timestamp", seconds) };
        Base {
            topic: "user-login",
            partition: i32::try_from(random.below(partitions)).expect("partitions are few"),
            key: None,
            event_us: self.event_us,
            sent_from_us: self.event_us,
            fields: vec![
                text("user_id", self.user_id.clone()),
                text("app_version", self.app_version),
                text("device_type", self.device_type),
                text("ip", self.ip.clone()),
                text("locale", self.locale),
                text("device_id", self.device_id.clone()),
                time,
            ],
            encoding: Encoding::Json,
            shape: &SHAPE,
            is_whole: false,
            is_copyable: true,
        }
    }
}

/// A window's logins: in all, and by value of a field.
#[derive(Default)]
struct Window {
    message_count: u64,
    late_count: u64,
    locations: BTreeMap<String, u64>,
    devices: BTreeMap<String, u64>,
    versions: BTreeMap<String, u64>,
}

/// Logins of one hour, device type, version and locale.
#[derive(Default)]
struct UsageHour {
    logins: u64,
    late_logins: u64,
    users: BTreeSet<String>,
    devices: BTreeSet<String>,
}

#[derive(Default)]
struct Tables {
    /// By start.
    windows: BTreeMap<i64, Window>,
    /// By hour, device type, version, locale.
    hourly: BTreeMap<(i64, String, String, String), UsageHour>,
    /// By day and hour, UTC.
    hour_of_day: BTreeMap<(i64, i64), u64>,
}

impl Tables {
    fn book(&mut self, login: &Login, is_late: bool, without: Option<&str>) {
        let text =
            |name: &str, value: &str| if without == Some(name) { "unknown".to_owned() } else { value.to_owned() };
        let device = text("device_type", login.device_type);
        let version = text("app_version", login.app_version);
        let locale = text("locale", login.locale);

        let window = self.windows.entry(login.event_us.div_euclid(WINDOW_US) * WINDOW_US).or_default();
        window.message_count += 1;
        window.late_count += u64::from(is_late);
        *window.locations.entry(locale.clone()).or_default() += 1;
        *window.devices.entry(device.clone()).or_default() += 1;
        *window.versions.entry(version.clone()).or_default() += 1;

        let hour_us = login.event_us.div_euclid(HOUR_US) * HOUR_US;
        let hour = self.hourly.entry((hour_us, device, version, locale)).or_default();
        hour.logins += 1;
        hour.late_logins += u64::from(is_late);
        hour.users.insert(text("user_id", &login.user_id));
        hour.devices.insert(text("device_id", &login.device_id));

        let day = login.event_us.div_euclid(DAY_US);
        let hour_of_day = login.event_us.rem_euclid(DAY_US) / HOUR_US;
        *self.hour_of_day.entry((day, hour_of_day)).or_default() += 1;
    }

    fn finish(self, keep: usize) -> Vec<Table> {
        vec![windows(&self.windows, keep), hourly(self.hourly, keep), hour_of_day(&self.hour_of_day, keep)]
    }
}

fn windows(rows: &BTreeMap<i64, Window>, keep: usize) -> Table {
    const COLUMNS: &[(&str, Kind)] = &[
        ("window_start", Kind::Instant),
        ("window_end", Kind::Instant),
        ("message_count", Kind::Int),
        ("late_count", Kind::Int),
        ("location_stats", Kind::Text),
        ("device_stats", Kind::Text),
        ("version_stats", Kind::Text),
        ("current_time", Kind::Double),
        ("time_window", Kind::Double),
        ("batch_size", Kind::Double),
    ];
    let mut table = Table::new("logins_usage_window", COLUMNS, 1, keep);
    #[expect(clippy::cast_precision_loss, reason = "seconds and counts are far below 2^53")]
    for (start_us, row) in rows {
        let end_us = start_us + WINDOW_US;
        table.row(&[
            Cell::Int(*start_us),
            Cell::Int(end_us),
            row.message_count.into(),
            row.late_count.into(),
            stats(&row.locations),
            stats(&row.devices),
            stats(&row.versions),
            Cell::Double((end_us / 1_000_000) as f64),
            Cell::Double(10.0),
            Cell::Double(row.message_count as f64 / 10.0),
        ]);
        table.close_group();
    }
    table
}

/// A map as the JSON text that models keep of it: sorted keys, no blanks.
fn stats(counts: &BTreeMap<String, u64>) -> Cell {
    serde_json::json!(counts).to_string().into()
}

fn hourly(rows: BTreeMap<(i64, String, String, String), UsageHour>, keep: usize) -> Table {
    const COLUMNS: &[(&str, Kind)] = &[
        ("hour_start", Kind::Instant),
        ("device_type", Kind::Text),
        ("app_version", Kind::Text),
        ("locale", Kind::Text),
        ("logins", Kind::Int),
        ("users", Kind::Int),
        ("devices", Kind::Int),
        ("late_logins", Kind::Int),
    ];
    let mut table = Table::new("logins_usage_hourly", COLUMNS, 4, keep);
    for ((hour_us, device, version, locale), row) in rows {
        let (users, devices) = (row.users.len() as u64, row.devices.len() as u64);
        let counts = [row.logins, users, devices, row.late_logins].map(Cell::from);
        let key = [Cell::Int(hour_us), device.into(), version.into(), locale.into()];
        table.row(&key.into_iter().chain(counts).collect::<Vec<_>>());
    }
    table
}

fn hour_of_day(rows: &BTreeMap<(i64, i64), u64>, keep: usize) -> Table {
    const COLUMNS: &[(&str, Kind)] = &[("local_date", Kind::Day), ("hour_of_day", Kind::Int), ("logins", Kind::Int)];
    let mut table = Table::new("logins_hour_of_day", COLUMNS, 2, keep);
    for ((day, hour), logins) in rows {
        table.row(&[Cell::Int(*day), Cell::Int(*hour), (*logins).into()]);
    }
    table
}
