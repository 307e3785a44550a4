//! Phones that are moved: a script of states a session, fifty accelerations and ten rotations a second.

mod tables;

use self::tables::{Reading, Tables};
use crate::json::{int, raw, text};
use crate::options::Options;
use crate::random::Random;
use crate::record::SinkError;
use crate::stream::{Base, Breakage, Encoding, Fate, Shape};
use crate::system::System;
use crate::time::{MINUTE_US, SECOND_US};
use crate::traffic::Studio;
use crate::truth::{Table, decimal_text};

/// Least and greatest magnitude of each state, m/s².
const STATES: [(f64, f64); 4] = [(0.1, 1.5), (3.0, 7.0), (9.0, 18.0), (21.0, 30.0)];
/// One of six readings is a rotation.
const ROTATIONS: f64 = 1.0 / 6.0;

const BREAKAGES: &[Breakage] = &[
    Breakage::Value("x", "\"fast\"", "wrong_type"),
    Breakage::Value("time", "\"yesterday\"", "bad_event_time"),
    // Seconds where nanoseconds belong: a second after the epoch.
    Breakage::Unit(1_000_000),
];
const ACCELERATION_SHAPE: Shape = Shape {
    removable: &[
        ("session_id", true),
        ("device_id", true),
        ("sensor", true),
        ("time", true),
        ("x", true),
        ("y", true),
        ("z", true),
    ],
    time: "time",
    breakages: BREAKAGES,
};
const ROTATION_SHAPE: Shape = Shape {
    removable: &[("session_id", true), ("device_id", true), ("sensor", true), ("time", true)],
    time: "time",
    breakages: BREAKAGES,
};

/// A recording of a phone.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) session_id: String,
    pub(super) device_id: String,
}

struct Phone {
    number: u64,
    device_id: String,
    random: Random,
    /// Its recording among all.
    session: usize,
    session_ends_us: i64,
    /// Until then it rests after a recording.
    rests_until_us: i64,
    state: usize,
    state_ends_us: i64,
    message_id: i64,
}

/// What a phone measures, before it is sent.
struct Measured {
    time_ns: i64,
    is_acceleration: bool,
    /// x, y, z in millionths.
    axes: [i64; 3],
    phone: usize,
    session: usize,
    message_id: i64,
    posted_us: i64,
}

pub(crate) fn generate(studio: &mut Studio<'_, '_>) -> Result<Vec<Table>, SinkError> {
    let options = studio.stream.options;
    let mut phones: Vec<Phone> =
        (1..=options.num_users(System::Activity)).map(|number| Phone::new(number, options)).collect();
    let mut sessions = Vec::new();
    let mut tables = Tables::new(options.truth_rows, !options.via_collect);
    let per_second = options.rate.unwrap_or_else(|| System::Activity.default_rate()) / to_f64(phones.len());
    let rotations = (per_second * ROTATIONS).round().max(1.0);
    let accelerations = (per_second - rotations).round().max(1.0);
    let mut num_sent = 0;
    let mut second_us = options.start_us;
    while num_sent < options.events && second_us < options.end_us() {
        let mut measured = Vec::new();
        for (index, phone) in phones.iter_mut().enumerate() {
            phone.record_second(index, second_us, accelerations, rotations, &mut sessions, &mut measured);
        }
        measured.sort_by_key(|reading| (reading.time_ns, reading.phone));
        for reading in measured {
            if num_sent == options.events {
                break;
            }
            num_sent += 1;
            let session = &sessions[reading.session];
            let base = reading.base(session, &phones[reading.phone], options);
            if let Fate::Lands { is_late, .. } = studio.faults.send(&base, studio.stream)?
                && reading.is_acceleration
            {
                let magnitude = reading.magnitude();
                tables.book(Reading { us: base.event_us, session: reading.session, magnitude, is_late }, &sessions);
            }
        }
        second_us += SECOND_US;
    }
    Ok(tables.finish(&sessions))
}

impl Phone {
    fn new(number: u64, options: &Options) -> Self {
        Self {
            number,
            device_id: format!("phone-{number}"),
            random: Random::new(options.seed, "activity", number),
            session: 0,
            session_ends_us: i64::MIN,
            rests_until_us: i64::MIN,
            state: 0,
            state_ends_us: i64::MIN,
            message_id: 0,
        }
    }

    /// Measures for a second, unless the phone rests.
    fn record_second(
        &mut self,
        index: usize,
        second_us: i64,
        accelerations: f64,
        rotations: f64,
        sessions: &mut Vec<Session>,
        measured: &mut Vec<Measured>,
    ) {
        if second_us >= self.session_ends_us && !self.begin_session(second_us, sessions) {
            return;
        }
        if second_us >= self.state_ends_us {
            self.state = usize::try_from(self.random.below(4)).expect("four states");
            self.state_ends_us = second_us + self.random.between(20, 300) * SECOND_US;
        }
        self.message_id += 1;
        // A second is posted when it is over, and takes its time to arrive.
        let posted_us = second_us + SECOND_US + self.random.between(0, 150_000);
        for (is_acceleration, count) in [(true, accelerations), (false, rotations)] {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number of readings a second")]
            let count = count as i64;
            let step_ns = 1_000_000_000 / count;
            for reading in 0..count {
                let time_ns = second_us * 1_000 + reading * step_ns + self.random.between(0, step_ns - 1);
                let (least, greatest) = if is_acceleration { STATES[self.state] } else { (0.0, 1.0) };
                let length = least + self.random.unit() * (greatest - least);
                let axes = self.direction().map(|axis| millionths(axis * length));
                measured.push(Measured {
                    time_ns,
                    is_acceleration,
                    axes,
                    phone: index,
                    session: self.session,
                    message_id: self.message_id,
                    posted_us,
                });
            }
        }
    }

    /// Begins a recording of 10 to 60 minutes, unless the phone still rests: 1 to 5 minutes after each.
    fn begin_session(&mut self, second_us: i64, sessions: &mut Vec<Session>) -> bool {
        let is_first = self.session_ends_us == i64::MIN;
        if !is_first && self.rests_until_us < self.session_ends_us {
            self.rests_until_us = self.session_ends_us + self.random.between(60, 300) * SECOND_US;
        }
        if !is_first && second_us < self.rests_until_us {
            return false;
        }
        self.session = sessions.len();
        sessions.push(Session { session_id: self.random.uuid(), device_id: self.device_id.clone() });
        self.session_ends_us = second_us + self.random.between(10, 60) * MINUTE_US;
        self.state_ends_us = second_us;
        self.message_id = 0;
        true
    }

    /// A random direction, by products and roots alone: these have one result on every machine.
    fn direction(&mut self) -> [f64; 3] {
        loop {
            let axes = [0; 3].map(|_| 2.0 * self.random.unit() - 1.0);
            let length = axes.iter().map(|axis| axis * axis).sum::<f64>().sqrt();
            if (0.1..=1.0).contains(&length) {
                return axes.map(|axis| axis / length);
            }
        }
    }
}

impl Measured {
    /// Of the values as they are sent.
    fn magnitude(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "millionths of 30 have fewer than 53 bits")]
        let [x, y, z] = self.axes.map(|axis| axis as f64 / 1e6);
        (x * x + y * y + z * z).sqrt()
    }

    fn base(&self, session: &Session, phone: &Phone, options: &Options) -> Base {
        let axis = |name, value: i64| raw(name, decimal_text(value.into(), 6));
        let [x, y, z] = self.axes;
        let partitions = options.num_partitions(System::Activity);
        Base {
            topic: "raw_sensor_data",
            partition: i32::try_from(phone.number % partitions).expect("partitions are few"),
            key: Some(session.device_id.clone()),
            event_us: self.time_ns.div_euclid(1_000),
            sent_from_us: self.posted_us,
            fields: vec![
                int("message_id", self.message_id),
                text("session_id", session.session_id.clone()),
                text("device_id", session.device_id.clone()),
                text("sensor", if self.is_acceleration { "accelerometer" } else { "gyroscope" }),
                int("time", self.time_ns),
                axis("x", x),
                axis("y", y),
                axis("z", z),
                raw("values", "null"),
            ],
            encoding: Encoding::Json,
            shape: if self.is_acceleration { &ACCELERATION_SHAPE } else { &ROTATION_SHAPE },
            is_whole: false,
            is_copyable: true,
        }
    }
}

fn millionths(value: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "values are below 100")]
    let rounded = (value * 1e6).round() as i64;
    rounded
}

fn to_f64(count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "phones are far below 2^53")]
    let count = count as f64;
    count
}
