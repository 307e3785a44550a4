//! A person: where they live, how their app tells of sleep, what they plan for a day.

use std::collections::BTreeSet;

use chrono::NaiveDate;

use super::Event;
use crate::options::Options;
use crate::random::Random;
use crate::time::{MINUTE_US, wall_clock};

/// Chance that a person does not do what the day plan says.
const SKIP: f64 = 0.15;
const ZONES: [&str; 6] =
    ["Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Sydney", "America/Los_Angeles", "UTC"];

/// How a person's app tells of sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Today's message: sleep began, nothing about its end.
    Bare,
    /// One event at the start, one at the end.
    Phases,
    /// One event with a duration.
    Duration,
}

pub(super) struct Person {
    pub(super) id: i64,
    pub(super) sends_zone: bool,
    pub(super) is_mixed: bool,
    style: Style,
    flies: bool,
    random: Random,
    /// Instants of the person's events: no two are at the same.
    taken: BTreeSet<i64>,
    /// Events that land, in the order of their event times.
    pub(super) landed: Vec<Event>,
}

impl Person {
    pub(super) fn new(id: u64, options: &Options) -> Self {
        Self {
            id: i64::try_from(id).expect("users are few"),
            sends_zone: id.is_multiple_of(2),
            is_mixed: super::is_mixed(id, options.layout),
            style: match id % 4 {
                0 => Style::Phases,
                1 => Style::Duration,
                _ => Style::Bare,
            },
            flies: id.is_multiple_of(20),
            random: Random::new(options.seed, "zoner", id),
            taken: BTreeSet::new(),
            landed: Vec::new(),
        }
    }

    /// Somebody whose app sends what the system's own producer does.
    pub(super) fn bare(id: u64, options: &Options) -> Self {
        Self { style: Style::Bare, sends_zone: false, is_mixed: true, flies: false, ..Self::new(id, options) }
    }

    /// The zone in which the person spends a day. Who flies does so once a week.
    fn zone(&self, day_number: i64) -> &'static str {
        if !self.sends_zone {
            return "UTC";
        }
        let flights = if self.flies { day_number.div_euclid(7) + i64::from(day_number % 7 >= 3) } else { 0 };
        ZONES[usize::try_from((self.id / 2 + flights) % 6).expect("six zones")]
    }

    /// The events of one local day, in the order of the plan.
    pub(super) fn plan(&mut self, day: NaiveDate, day_number: i64) -> Vec<Event> {
        let tz = self.zone(day_number);
        let mut events = Vec::new();
        for (activity, hour) in [("light_exposure", 7), ("meal", 8), ("meal", 12), ("light_exposure", 17), ("meal", 18)]
        {
            if !self.random.chance(SKIP) {
                let minute = hour * 60 + self.random.between(0, 44);
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

    fn sleep(&mut self, events: &mut Vec<Event>, day: NaiveDate, tz: &'static str, from_minute: i64, minutes: i64) {
        let minute = from_minute + self.random.between(0, 14);
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
        let jitter_us = self.random.between(0, MINUTE_US - 1);
        self.distinct(wall_clock(day, minute, tz) + jitter_us)
    }

    fn distinct(&mut self, mut us: i64) -> i64 {
        while !self.taken.insert(us) {
            us += 1;
        }
        us
    }
}
