//! Logins: two a second, some of their fields missing, times mostly as text.

use crate::faults::{Base, Fate, Faults};
use crate::random::Random;
use crate::traffic::Options;
use crate::truth::Truth;

const GRACE_US: i64 = 10_000_000;
const WINDOW_US: i64 = 10_000_000;
const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

const LOCALES: [&str; 53] = [
    "AL", "AK", "AZ", "AR", "CA", "CO", "CT", "DE", "FL", "GA", "HI", "ID", "IL", "IN", "IA", "KS", "KY", "LA", "ME",
    "MD", "MA", "MI", "MN", "MS", "MO", "MT", "NE", "NV", "NH", "NJ", "NM", "NY", "NC", "ND", "OH", "OK", "OR", "PA",
    "RI", "SC", "SD", "TN", "TX", "UT", "VT", "VA", "WA", "WV", "WI", "WY", "RU", "FR", "JP",
];
const VERSIONS: [&str; 5] = ["2.2.9", "2.3.0", "2.3.1", "2.4.0", "2.4.1"];
const FIELDS: [(&str, bool); 7] = [
    ("user_id", false),
    ("app_version", false),
    ("device_type", false),
    ("ip", false),
    ("locale", false),
    ("device_id", false),
    ("timestamp", true),
];

pub(crate) fn generate(options: &Options, faults: &mut Faults, truth: &mut Truth) {
    let mut random = Random::new(options.seed, "logins", 0);
    for index in 0..options.events {
        // Two a second, each somewhere inside its slot of half a second; only whole seconds are sent.
        let slot_us = i64::try_from(index).expect("event numbers fit") * 500_000;
        let event_us = (options.start_us + slot_us + random.between(0, 499_999)).div_euclid(1_000_000) * 1_000_000;
        let login = Login {
            user_id: random.uuid(),
            app_version: random.pick(&VERSIONS),
            device_type: if random.chance(0.6) { "android" } else { "iOS" },
            ip: format!("203.0.{}.{}", random.below(256), random.below(256)),
            locale: random.pick(&LOCALES),
            device_id: random.uuid(),
            event_us,
        };
        let seconds = event_us / 1_000_000;
        let time = if random.chance(0.9) { format!("\"{seconds}\"") } else { seconds.to_string() };
        let quoted = |text: &str| format!("\"{text}\"");
        let base = Base {
            topic: "user-login",
            partition: i32::try_from(random.below(6)).expect("partitions are few"),
            key: None,
            event_us,
            fields: vec![
                ("user_id", quoted(&login.user_id)),
                ("app_version", quoted(login.app_version)),
                ("device_type", quoted(login.device_type)),
                ("ip", quoted(&login.ip)),
                ("locale", quoted(login.locale)),
                ("device_id", quoted(&login.device_id)),
                ("timestamp", time),
            ],
            removable: FIELDS.to_vec(),
        };
        if let Fate::Lands { lateness_us, without } = faults.send(&base, truth) {
            login.book(lateness_us, without, truth);
        }
    }
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
    fn book(&self, lateness_us: i64, without: Option<&str>, truth: &mut Truth) {
        let text =
            |name: &str, value: &str| if without == Some(name) { "unknown".to_owned() } else { value.to_owned() };
        let (device, version, locale) =
            (text("device_type", self.device_type), text("app_version", self.app_version), text("locale", self.locale));
        let late = u64::from(lateness_us > GRACE_US);

        let window = truth.logins.windows.entry(self.event_us.div_euclid(WINDOW_US) * WINDOW_US).or_default();
        window.message_count += 1;
        window.late_count += late;
        *window.locations.entry(locale.clone()).or_default() += 1;
        *window.devices.entry(device.clone()).or_default() += 1;
        *window.versions.entry(version.clone()).or_default() += 1;

        let hour_us = self.event_us.div_euclid(HOUR_US) * HOUR_US;
        let hour = truth.logins.hourly.entry((hour_us, device, version, locale)).or_default();
        hour.logins += 1;
        hour.late_logins += late;
        hour.users.insert(text("user_id", &self.user_id));
        hour.devices.insert(text("device_id", &self.device_id));

        let day = self.event_us.div_euclid(DAY_US);
        let hour_of_day = self.event_us.rem_euclid(DAY_US) / HOUR_US;
        truth.logins.hour_of_day.entry((day, hour_of_day)).or_default().logins += 1;
    }
}
