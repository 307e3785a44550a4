//! Families with jet lag: a day plan per person, told in three styles, on two layouts of topics.

mod insights;
mod people;
mod sleep;
mod tables;
mod windows;

use chrono::{DateTime, NaiveDate};

use self::people::Person;
use self::tables::Tables;
use crate::json::{Field, raw, seconds, text};
use crate::options::{Layout, Options, Profile};
use crate::random::Random;
use crate::record::SinkError;
use crate::stream::{Base, Breakage, Encoding, Fate, Shape};
use crate::system::System;
use crate::time::{DAY_US, HOUR_US, SECOND_US};
use crate::traffic::Studio;
use crate::truth::Table;

const MIXED_TOPIC: &str = "user_activity";
/// Events that a person sends on a day, on average: of five meals and lights, one or two naps and a night each is left out
/// with a chance of 15 %, and a quarter tells of both ends of a sleep.
const EVENTS_A_DAY: f64 = 6.9;
/// No local day begins earlier than this before midnight UTC.
const EARLIEST_MIDNIGHT_US: i64 = 15 * HOUR_US;

const BREAKAGES: &[Breakage] = &[
    Breakage::Value("user_id", "\"somebody\"", "wrong_type"),
    Breakage::Value("timestamp", "\"yesterday\"", "bad_event_time"),
    Breakage::Unit(1_000),
    Breakage::Value("activity", "\"swim\"", "bad_value"),
];
const MIXED_SHAPE: Shape = Shape {
    removable: &[("user_id", true), ("timestamp", true), ("activity", true)],
    time: "timestamp",
    breakages: BREAKAGES,
};
const ACTIVITY_SHAPE: Shape =
    Shape { removable: &[("user_id", true), ("timestamp", true)], time: "timestamp", breakages: BREAKAGES };

/// An event as it lands.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) us: i64,
    pub(super) activity: &'static str,
    pub(super) phase: Option<&'static str>,
    pub(super) duration_us: Option<i64>,
    pub(super) tz: &'static str,
}

impl Event {
    /// Whether it counts as an activity: an end belongs to what began before.
    pub(super) fn is_activity(&self) -> bool {
        self.phase != Some("end")
    }
}

pub(crate) fn generate(studio: &mut Studio<'_, '_>) -> Result<Vec<Table>, SinkError> {
    let options = studio.stream.options;
    let (people, tables) = if options.profile == Profile::Demo { demo(studio)? } else { day_plans(studio)? };
    let as_of_us = studio.stream.as_of_us();
    Ok(tables.finish(people, as_of_us, options.truth_rows))
}

/// Day by day, everybody's plan. Local days overlap in UTC: events wait until no plan can bring an earlier one.
fn day_plans(studio: &mut Studio<'_, '_>) -> Result<(Vec<Person>, Tables), SinkError> {
    let options = studio.stream.options;
    let mut people: Vec<Person> = (1..=num_users(options)).map(|id| Person::new(id, options)).collect();
    let mut tables = Tables::default();
    let mut waiting: Vec<(Event, usize)> = Vec::new();
    let first_day = DateTime::from_timestamp_micros(options.start_us).unwrap_or_default().date_naive();
    let mut num_sent = 0;
    for (day_number, day) in (0_i64..).zip(first_day.iter_days()) {
        for (index, person) in people.iter_mut().enumerate() {
            waiting.extend(person.plan(day, day_number).into_iter().map(|event| (event, index)));
        }
        waiting.sort_by_key(|(event, index)| (event.us, *index));
        let horizon_us = midnight_us(day) + DAY_US - EARLIEST_MIDNIGHT_US;
        let num_ready = waiting.partition_point(|(event, _)| event.us < horizon_us);
        for (event, index) in waiting.drain(..num_ready) {
            if num_sent == options.events || event.us >= options.end_us() {
                return Ok((people, tables));
            }
            num_sent += 1;
            send(studio, &mut people[index], event, &mut tables)?;
        }
    }
    Ok((people, tables))
}

/// The system's own producer: one user, something every two seconds.
fn demo(studio: &mut Studio<'_, '_>) -> Result<(Vec<Person>, Tables), SinkError> {
    const USER: u64 = 123;
    let options = studio.stream.options;
    let mut person = Person::bare(USER, options);
    let mut random = Random::new(options.seed, "zoner/demo", USER);
    let mut tables = Tables::default();
    for index in 0..options.events {
        let us = options.start_us + i64::try_from(index).expect("event numbers fit") * 2 * SECOND_US;
        if us >= options.end_us() {
            break;
        }
        let activity = random.pick(&["sleep", "meal", "light_exposure"]);
        send(studio, &mut person, Event { us, activity, phase: None, duration_us: None, tz: "UTC" }, &mut tables)?;
    }
    Ok((vec![person], tables))
}

fn num_users(options: &Options) -> u64 {
    match (options.users, options.rate) {
        (None, Some(rate)) => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let users = (rate.clamp(0.0, 1e4) * 86_400.0 / EVENTS_A_DAY).ceil() as u64;
            users.max(1)
        }
        _ => options.num_users(System::Zoner),
    }
}

fn midnight_us(day: NaiveDate) -> i64 {
    crate::time::day_number(day) * DAY_US
}

fn send(studio: &mut Studio<'_, '_>, person: &mut Person, event: Event, tables: &mut Tables) -> Result<(), SinkError> {
    let base = base(person, &event, studio.stream.options);
    if let Fate::Lands { is_late, .. } = studio.faults.send(&base, studio.stream)? {
        tables.count(person.id, &event, is_late);
        person.landed.push(event);
    }
    Ok(())
}

fn base(person: &Person, event: &Event, options: &Options) -> Base {
    let mut fields: Vec<Field> = vec![crate::json::int("user_id", person.id)];
    // A file does not say of which topic its lines are.
    if person.is_mixed || !options.stamped {
        fields.push(text("activity", event.activity));
    }
    fields.push(raw("timestamp", seconds(event.us)));
    fields.extend(event.phase.map(|phase| text("phase", phase)));
    fields.extend(event.duration_us.map(|duration_us| raw("duration_s", seconds(duration_us))));
    if person.sends_zone {
        fields.push(text("tz", event.tz));
    }
    let partitions = i64::try_from(options.num_partitions(System::Zoner)).unwrap_or(1);
    Base {
        topic: if person.is_mixed { MIXED_TOPIC } else { topic_of(event.activity) },
        partition: i32::try_from(person.id % partitions).expect("partitions are few"),
        key: Some(person.id.to_string()),
        event_us: event.us,
        sent_from_us: event.us,
        fields,
        encoding: Encoding::Json,
        shape: if person.is_mixed { &MIXED_SHAPE } else { &ACTIVITY_SHAPE },
        is_whole: false,
        is_copyable: true,
    }
}

fn topic_of(activity: &'static str) -> &'static str {
    if activity == "meal" { "meals" } else { activity }
}

/// Moves a copy between the layouts: from the mixed topic to that of its activity, or back. False for other systems.
pub(crate) fn move_topic(base: &mut Base) -> bool {
    let activity_of = |topic| match topic {
        "meals" => Some("meal"),
        "sleep" => Some("sleep"),
        "light_exposure" => Some("light_exposure"),
        _ => None,
    };
    if base.topic == MIXED_TOPIC {
        let named = |activity: &&'static str| base.fields.contains(&text("activity", *activity));
        let Some(activity) = ["sleep", "meal", "light_exposure"].into_iter().find(named) else { return false };
        base.topic = topic_of(activity);
    } else if let Some(activity) = activity_of(base.topic) {
        base.fields.retain(|field| field.name != "activity");
        base.fields.push(text("activity", activity));
        base.topic = MIXED_TOPIC;
    } else {
        return false;
    }
    true
}

/// Whether a person's events go to the mixed topic.
pub(super) fn is_mixed(id: u64, layout: Layout) -> bool {
    match layout {
        Layout::Mixed => true,
        Layout::PerActivity => false,
        Layout::Both => !id.is_multiple_of(3),
    }
}
