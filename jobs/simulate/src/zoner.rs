//! Families with jet lag: a day plan per person, told in three styles, on two layouts of topics.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Duration, NaiveDate, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

use crate::faults::{Base, Fate, Faults, Field};
use crate::random::Random;
use crate::traffic::Options;
use crate::truth::{SleepInterval, Truth};

const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;
const HOUR_US: i64 = 60 * MINUTE_US;
const GRACE_US: i64 = 900 * SECOND_US;
/// Longest sleep that closes an interval.
const SLEEP_MAX_US: i64 = 14 * HOUR_US;
/// Chance that a person does not do what the day plan says.
const SKIP: f64 = 0.15;

const ZONES: [&str; 6] =
    ["Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Sydney", "America/Los_Angeles", "UTC"];

/// How a person's app tells of sleep.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Today's message: sleep began, nothing about its end.
    Bare,
    /// One event at the start, one at the end.
    Phases,
    /// One event with a duration.
    Duration,
}

/// An event as it lands.
#[derive(Clone)]
struct Event {
    us: i64,
    activity: &'static str,
    phase: Option<&'static str>,
    duration_us: Option<i64>,
    tz: &'static str,
}

struct Person {
    id: u64,
    style: Style,
    sends_zone: bool,
    mixed_topic: bool,
    flies: bool,
    random: Random,
    taken: BTreeSet<i64>,
    landed: Vec<Event>,
}

pub(crate) fn generate(options: &Options, faults: &mut Faults, truth: &mut Truth) {
    let mut people: Vec<Person> = (1..=options.users).map(|id| Person::new(id, options.seed)).collect();
    let first_day = DateTime::from_timestamp_micros(options.start_us).unwrap_or_default().date_naive();
    let mut sent = 0;
    let mut day = first_day;
    'sending: loop {
        let day_number = (day - first_day).num_days();
        for person in &mut people {
            for event in person.plan(day, day_number) {
                if sent == options.events {
                    break 'sending;
                }
                sent += 1;
                person.send(event, faults, truth);
            }
        }
        if people.is_empty() {
            break;
        }
        day = day.succ_opt().unwrap_or(NaiveDate::MAX);
    }
    for person in people {
        person.book_sleep(truth);
    }
}

impl Person {
    fn new(id: u64, seed: u64) -> Self {
        Self {
            id,
            style: match id % 4 {
                0 => Style::Phases,
                1 => Style::Duration,
                _ => Style::Bare,
            },
            sends_zone: id.is_multiple_of(2),
            mixed_topic: !id.is_multiple_of(3),
            flies: id.is_multiple_of(20),
            random: Random::new(seed, "zoner", id),
            taken: BTreeSet::new(),
            landed: Vec::new(),
        }
    }

    /// The zone in which the person spends a day. Who flies does so once a week.
    fn zone(&self, day_number: i64) -> &'static str {
        if !self.sends_zone {
            return "UTC";
        }
        let flights = if self.flies {
            u64::try_from(day_number.div_euclid(7) + i64::from(day_number % 7 >= 3)).unwrap_or(0)
        } else {
            0
        };
        ZONES[usize::try_from((self.id / 2 + flights) % 6).expect("six zones")]
    }

    /// The events of one local day, in the order of the plan.
    fn plan(&mut self, day: NaiveDate, day_number: i64) -> Vec<Event> {
        let tz = self.zone(day_number);
        let mut events = Vec::new();
        for (activity, hour) in [("light_exposure", 7), ("meal", 8), ("meal", 12), ("light_exposure", 17), ("meal", 18)]
        {
            if !self.random.chance(SKIP) {
                let minute = hour * 60 + self.random_minutes(45);
                let us = self.instant(day, tz, minute);
                events.push(Event { us, activity, phase: None, duration_us: None, tz });
            }
        }
        let naps = self.random.between(1, 2);
        for nap in 0..naps {
            if !self.random.chance(SKIP) {
                let minutes = self.random.between(20, 80);
                self.sleep(&mut events, day, tz, 13 * 60 + nap * 100, minutes);
            }
        }
        if !self.random.chance(SKIP) {
            let minutes = self.random.between(7 * 60, 9 * 60);
            self.sleep(&mut events, day, tz, 20 * 60 + 30, minutes);
        }
        events
    }

    fn random_minutes(&mut self, below: i64) -> i64 {
        self.random.between(0, below - 1)
    }

    fn sleep(&mut self, events: &mut Vec<Event>, day: NaiveDate, tz: &'static str, from_minute: i64, minutes: i64) {
        let minute = from_minute + self.random_minutes(15);
        let us = self.instant(day, tz, minute);
        let sleep = |us, phase, duration_us| Event { us, activity: "sleep", phase, duration_us, tz };
        match self.style {
            Style::Bare => events.push(sleep(us, None, None)),
            Style::Phases => {
                events.push(sleep(us, Some("start"), None));
                let end_us = self.distinct(us + minutes * MINUTE_US);
                events.push(sleep(end_us, Some("end"), None));
            }
            Style::Duration => events.push(sleep(us, None, Some(minutes * MINUTE_US + 250_000))),
        }
    }

    /// A wall-clock minute of a day as an instant that no other event of the person has.
    fn instant(&mut self, day: NaiveDate, tz: &str, minute: i64) -> i64 {
        let zone: Tz = tz.parse().expect("the zones are of the data base");
        let local = day.and_time(NaiveTime::MIN) + Duration::minutes(minute);
        // A wall clock that a clock change removes is moved forward.
        let instant = (0..=3)
            .find_map(|hours| zone.from_local_datetime(&(local + Duration::hours(hours))).earliest())
            .expect("clocks go forward by less than four hours");
        let jitter = self.random.between(0, 59_999_999);
        self.distinct(instant.with_timezone(&Utc).timestamp_micros() + jitter)
    }

    fn distinct(&mut self, mut us: i64) -> i64 {
        while !self.taken.insert(us) {
            us += 1;
        }
        us
    }

    fn send(&mut self, event: Event, faults: &mut Faults, truth: &mut Truth) {
        let mut fields: Vec<Field> = vec![("user_id", self.id.to_string())];
        let mut removable = vec![("user_id", true), ("timestamp", true)];
        let topic = if self.mixed_topic {
            fields.push(("activity", format!("\"{}\"", event.activity)));
            removable.push(("activity", true));
            "user_activity"
        } else {
            match event.activity {
                "meal" => "meals",
                other => other,
            }
        };
        fields.push(("timestamp", seconds(event.us)));
        if let Some(phase) = event.phase {
            fields.push(("phase", format!("\"{phase}\"")));
        }
        if let Some(duration_us) = event.duration_us {
            fields.push(("duration_s", seconds(duration_us)));
        }
        if self.sends_zone {
            fields.push(("tz", format!("\"{}\"", event.tz)));
        }
        let base = Base {
            topic,
            partition: i32::try_from(self.id % 6).expect("partitions are few"),
            key: Some(self.id.to_string()),
            event_us: event.us,
            fields,
            removable,
        };
        if let Fate::Lands { lateness_us, .. } = faults.send(&base, truth) {
            self.book_counts(&event, lateness_us, truth);
            self.landed.push(event);
        }
    }

    fn user_id(&self) -> i64 {
        i64::try_from(self.id).expect("users are few")
    }

    fn book_counts(&self, event: &Event, lateness_us: i64, truth: &mut Truth) {
        let hour = event.us.div_euclid(HOUR_US) * HOUR_US;
        let day = local_day(event.us, event.tz, 0);
        let late = u64::from(lateness_us > GRACE_US);
        let activity = || event.activity.to_owned();
        for counts in [
            truth.zoner.hourly.entry((self.user_id(), activity(), hour)).or_default(),
            truth.zoner.daily.entry((self.user_id(), activity(), day)).or_default(),
        ] {
            counts.events += 1;
            counts.activities += u64::from(event.phase != Some("end"));
            counts.late_events += late;
        }
    }

    /// Pairs the sleep events that landed, by the rules of the model, and adds up nights.
    fn book_sleep(mut self, truth: &mut Truth) {
        let user_id = self.user_id();
        self.landed.sort_by_key(|event| (event.us, event.activity));
        let is_phased =
            |event: &&Event| event.activity == "sleep" && event.phase.is_some() && event.duration_us.is_none();
        let mut nights: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
        for (index, event) in self.landed.iter().enumerate().filter(|(_, event)| event.activity == "sleep") {
            let within = |end: i64| (end - event.us <= SLEEP_MAX_US).then_some(end);
            let (started_us, ended_us, status) = if let Some(duration_us) = event.duration_us {
                (Some(event.us), Some(event.us + duration_us), "closed")
            } else if event.phase == Some("start") {
                let next = self.landed[index + 1..].iter().find(is_phased);
                let end = next.filter(|next| next.phase == Some("end")).and_then(|next| within(next.us));
                (Some(event.us), end, if end.is_some() { "closed" } else { "unclosed" })
            } else if event.phase == Some("end") {
                let previous = self.landed[..index].iter().rev().find(is_phased);
                if previous
                    .is_some_and(|previous| previous.phase == Some("start") && event.us - previous.us <= SLEEP_MAX_US)
                {
                    continue;
                }
                (None, Some(event.us), "orphan_end")
            } else {
                let end = self.landed.get(index + 1).and_then(|next| within(next.us));
                (Some(event.us), end, if end.is_some() { "closed" } else { "unclosed" })
            };
            let night = local_day(event.us, event.tz, 12);
            let row = truth.zoner.nightly.entry((user_id, night)).or_default();
            match (status, started_us, ended_us) {
                ("closed", Some(start), Some(end)) => {
                    row.interval_count += 1;
                    row.longest_us = row.longest_us.max(end - start);
                    nights.entry(night).or_default().push((start, end));
                }
                ("unclosed", ..) => row.unclosed_count += 1,
                _ => row.orphan_end_count += 1,
            }
            let interval = SleepInterval { started_us, ended_us, status, tz: event.tz, night };
            truth.zoner.intervals.insert((user_id, event.us, 0), interval);
        }
        for (night, mut intervals) in nights {
            intervals.sort_unstable();
            let mut covered_until = i64::MIN;
            let mut sleep_us = 0;
            for (start, end) in intervals {
                sleep_us += (end - start.max(covered_until)).max(0);
                covered_until = covered_until.max(end);
            }
            truth.zoner.nightly.entry((user_id, night)).or_default().sleep_us = sleep_us;
        }
    }
}

/// Day of an instant on a wall clock set back by some hours, in days since the epoch.
fn local_day(us: i64, tz: &str, hours_back: i64) -> i64 {
    let zone: Tz = tz.parse().expect("the zones are of the data base");
    let local =
        zone.from_utc_datetime(&DateTime::from_timestamp_micros(us).unwrap_or_default().naive_utc()).naive_local();
    ((local - Duration::hours(hours_back)).date() - NaiveDate::default()).num_days()
}

/// Microseconds as a decimal number of seconds, without needless zeros.
fn seconds(us: i64) -> String {
    let (whole, fraction) = (us.div_euclid(SECOND_US), us.rem_euclid(SECOND_US));
    if fraction == 0 {
        return whole.to_string();
    }
    format!("{whole}.{fraction:06}").trim_end_matches('0').to_owned()
}
