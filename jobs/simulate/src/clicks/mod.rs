//! Clicks, orders and metrics of a product: a daily curve, a power law of users, bots, experiments.

mod books;
mod encode;
mod events;
mod tables;

pub use encode::SchemaIds;
pub(crate) use encode::{AvroSchema, encode_avro};

use self::books::{Books, Landed};
use self::events::{Action, Body, Event, Step, Transaction, User, push_number};
use self::tables::Tables;
use crate::agenda::Agenda;
use crate::options::Options;
use crate::random::Random;
use crate::record::{Record, SinkError};
use crate::stream::{Fate, ceil_ms};
use crate::system::System;
use crate::time::{DAY_US, HOUR_US, MINUTE_US, SECOND_US, floor};
use crate::traffic::Studio;
use crate::truth::Table;

/// Events of each hour of a day (UTC), in thousandths of the mean: they add up to 24,000, and the peak is 2,000/s at 600/s.
const CURVE: [i64; 24] = [
    450, 350, 300, 250, 250, 350, 550, 800, 900, 950, 1_000, 1_000, 1_050, 1_000, 950, 950, 1_000, 1_150, 1_500, 2_100,
    3_333, 2_000, 1_117, 700,
];
/// Records of one producer transaction.
const BATCH: u64 = 100;

struct Generator<'o> {
    options: &'o Options,
    random: Random,
    /// Events that will happen: later steps of a transaction, clicks of a bot.
    planned: Agenda<Event>,
    num_planned: u64,
    num_sent: u64,
    /// Hours up to this one have their bots.
    next_hour_us: i64,
    books: Books,
}

pub(crate) fn generate(studio: &mut Studio<'_, '_>) -> Result<Vec<Table>, SinkError> {
    let options = studio.stream.options;
    books::keep(Tables::new(options.truth_rows), |books| {
        let mut generator = Generator {
            options,
            random: Random::new(options.seed, "clicks", 0),
            planned: Agenda::new(),
            num_planned: 0,
            num_sent: 0,
            next_hour_us: floor(options.start_us, HOUR_US),
            books,
        };
        generator.run(studio)
    })
}

impl Generator<'_> {
    /// Sends slot after slot, and between them what was planned.
    fn run(&mut self, studio: &mut Studio<'_, '_>) -> Result<(), SinkError> {
        let slot_us = self.options.slot_us(System::Clicks);
        for slot in 0_i64.. {
            let mean_us = slot * slot_us + self.random.between(0, slot_us - 1);
            let us = floor(self.options.start_us + on_curve(self.options.start_us, mean_us), 1_000);
            while self.next_hour_us <= us {
                self.plan_hour(self.next_hour_us);
                self.next_hour_us += HOUR_US;
            }
            while let Some((at_us, event)) = self.planned.next_until(us) {
                if self.is_over(at_us) {
                    return Ok(());
                }
                self.send(at_us, &event, studio)?;
            }
            if self.is_over(us) {
                return Ok(());
            }
            let event = self.draw(us);
            self.send(us, &event, studio)?;
        }
        Ok(())
    }

    fn is_over(&self, us: i64) -> bool {
        self.num_sent >= self.options.events || us >= self.options.end_us()
    }

    fn send(&mut self, us: i64, event: &Event, studio: &mut Studio<'_, '_>) -> Result<(), SinkError> {
        self.num_sent += 1;
        let base = event.base(us, self.options);
        if let Fate::Lands { is_late, .. } = studio.faults.send(&base, studio.stream)? {
            self.books.add(Landed { us, fact: event.fact(), is_late });
        }
        if self.num_sent.is_multiple_of(BATCH) && self.options.stamped && self.random.chance(self.options.aborted) {
            self.abort_batch(us, studio);
        }
        Ok(())
    }

    /// A batch that nobody may read: clicks like others, in a transaction that is aborted.
    fn abort_batch(&mut self, us: i64, studio: &mut Studio<'_, '_>) {
        for _ in 0..20 {
            let event = self.action(us, None);
            let base = event.base(us, self.options);
            studio.stream.push(Record {
                topic: base.topic,
                partition: base.partition,
                key: base.key.clone(),
                value: crate::faults::encode(&base, &base.fields),
                sent_ms: ceil_ms(us),
                is_aborted: true,
            });
        }
    }

    fn plan(&mut self, us: i64, event: Event) {
        self.num_planned += 1;
        self.planned.plan(floor(us, 1_000), self.num_planned, event);
    }

    /// What a slot holds. Three of a hundred begin a transaction, whose end makes three more.
    fn draw(&mut self, us: i64) -> Event {
        match self.random.below(100) {
            0..3 => self.begin_transaction(us),
            3..5 => Event { id: self.next_id(), is_whole: false, body: self.metric() },
            _ => self.action(us, None),
        }
    }

    /// A power law: the first of 200,000 users sends one of 3,400 events, half of them come from the first 37 %.
    fn user(&mut self) -> User {
        let share = self.random.unit();
        #[expect(clippy::cast_precision_loss, reason = "users are far below 2^53")]
        let users = self.options.num_users(System::Clicks) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the number of users")]
        let rank = (share * share.sqrt() * users) as u64;
        User::Person(rank)
    }

    /// Ids are counted, so that no two events share one.
    fn next_id(&mut self) -> String {
        self.num_planned += 1;
        let mut id = String::with_capacity(20);
        push_hex(&mut id, self.num_planned, 1);
        id.push('-');
        push_hex(&mut id, self.random.bits() >> 32, 8);
        id
    }

    fn action(&mut self, us: i64, of: Option<User>) -> Event {
        let user = of.unwrap_or_else(|| self.user());
        let action = match self.random.below(10) {
            _ if of.is_some() => "click",
            0..6 => "click",
            6..9 => "view",
            _ => "search",
        };
        let is_second_version = self.random.chance(0.5);
        let exposure = if is_second_version { self.exposure(user) } else { None };
        let body = Body::Action(Action {
            user,
            kind: action,
            session: self.random.chance(0.7).then(|| session(user, us)),
            page: self.random.pick(&["/", "/cart", "/item", "/search", "/account"]),
            has_properties: self.random.chance(0.3),
            is_second_version,
            exposure,
        });
        Event { id: self.next_id(), is_whole: of.is_some(), body }
    }

    /// Two of five users take part in an experiment, each in one; of fifty one sees now this variant and now that.
    fn exposure(&mut self, user: User) -> Option<(&'static str, Option<&'static str>)> {
        let User::Person(rank) = user else { return None };
        let experiment = match rank % 5 {
            0 => "e1",
            1 => "e2",
            _ => return None,
        };
        let is_on = if rank % 50 < 2 { self.random.chance(0.5) } else { (rank / 5).is_multiple_of(2) };
        let variant = if is_on { "on" } else { "off" };
        Some((experiment, (!self.random.chance(0.05)).then_some(variant)))
    }

    fn metric(&mut self) -> Body {
        let service = self.random.pick(&["api", "web", "search", "cart", "mail"]);
        let metric = self.random.pick(&["cpu", "memory", "latency_ms", "errors"]);
        // Without an id the record's place is its key: a copy is then another event, and a line of a file has no place.
        let needs_id = self.options.replay_after_us.is_some() || !self.options.stamped;
        let has_id = needs_id || self.random.chance(0.5);
        Body::Metric { service, metric, value_millionths: self.random.between(0, 1_000_000_000), has_id }
    }

    /// A pending order or payment; its end follows within two minutes, and of the orders a few are refunded later.
    fn begin_transaction(&mut self, us: i64) -> Event {
        let kind = if self.random.chance(0.6) { "order" } else { "payment" };
        let transaction = Transaction {
            user: self.user(),
            id: self.next_id(),
            kind,
            status: "pending",
            units: self.random.between(1, 50_000) * 100 + if self.random.chance(0.1) { 25 } else { 0 },
            currency: self.random.pick(&["USD", "USD", "EUR", "GBP"]),
            is_text: self.random.chance(0.5),
        };
        let ends_us = us + self.random.between(1_000, 120_000) * 1_000;
        let is_completed = self.random.chance(0.95);
        let step = if is_completed { Step::Completed } else { Step::Failed };
        let end = Event { id: self.next_id(), is_whole: false, body: Body::Transaction(transaction.after(step)) };
        self.plan(ends_us, end);
        if is_completed && kind == "order" && self.random.chance(0.03) {
            let refund = Body::Transaction(transaction.after(Step::Refunded));
            let refund = Event { id: self.next_id(), is_whole: false, body: refund };
            let refunded_us = ends_us + self.random.between(10, 600) * SECOND_US;
            self.plan(refunded_us, refund);
        }
        Event { id: self.next_id(), is_whole: false, body: Body::Transaction(transaction) }
    }

    /// The robots of an hour: three with 101 to 400 clicks in a minute, one user with exactly 100, one with exactly 101, and a
    /// burst of 120 across a minute's boundary.
    fn plan_hour(&mut self, hour_us: i64) {
        let hour = u64::try_from(hour_us / HOUR_US).unwrap_or_default();
        let robot = |number: u64| User::Robot { hour, number };
        for number in 0..3 {
            let clicks = self.random.between(101, 400);
            let minute = self.random.between(0, 57);
            self.plan_clicks(robot(number), hour_us + minute * MINUTE_US, MINUTE_US, clicks);
        }
        for (number, clicks) in [(3, 100), (4, 101)] {
            let minute = self.random.between(0, 57);
            self.plan_clicks(robot(number), hour_us + minute * MINUTE_US, MINUTE_US, clicks);
        }
        let boundary_us = hour_us + self.random.between(1, 57) * MINUTE_US;
        self.plan_clicks(robot(5), boundary_us - 10 * SECOND_US, 20 * SECOND_US, 120);
    }

    /// Clicks of one user, evenly within `[from, from + length)`.
    fn plan_clicks(&mut self, user: User, from_us: i64, length_us: i64, clicks: i64) {
        for number in 0..clicks {
            let us = from_us + number * length_us / clicks;
            if us >= self.options.start_us {
                let event = self.action(us, Some(user));
                self.plan(us, event);
            }
        }
    }
}

/// A user's session of an hour.
fn session(user: User, us: i64) -> String {
    let mut name = String::with_capacity(24);
    name.push('s');
    push_number(&mut name, user.number());
    name.push('-');
    push_number(&mut name, u64::try_from(us / HOUR_US).unwrap_or_default());
    name
}

/// Lower-case hexadecimal digits of a number, at least so many: formatting machinery costs as much as the rest of an event.
fn push_hex(text: &mut String, number: u64, digits: u32) {
    let needed = (u64::BITS - number.leading_zeros()).div_ceil(4).max(digits);
    for place in (0..needed).rev() {
        let digit = (number >> (4 * place)) & 0xf;
        text.push(char::from(b"0123456789abcdef"[usize::try_from(digit).expect("a digit of sixteen")]));
    }
}

/// When the daily curve has seen as many events as the mean rate would have after a time: an offset from the start.
fn on_curve(start_us: i64, mean_us: i64) -> i64 {
    let (day, mut left_us) = (mean_us.div_euclid(DAY_US), mean_us.rem_euclid(DAY_US));
    let first_hour = start_us.rem_euclid(DAY_US) / HOUR_US;
    let mut passed_us = 0;
    for hour in 0..24 {
        let weight = CURVE[usize::try_from((first_hour + hour) % 24).expect("an hour of the day")];
        let share_us = HOUR_US / 1_000 * weight;
        if left_us < share_us {
            passed_us = hour * HOUR_US + left_us * 1_000 / weight;
            break;
        }
        left_us -= share_us;
    }
    day * DAY_US + passed_us
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_those_of_the_standard_library() {
        for number in [0, 1, 0xf, 0x10, 0xabc, 0x1234_5678, u64::MAX] {
            let mut text = String::new();
            push_hex(&mut text, number, 1);
            text.push('-');
            push_hex(&mut text, number, 8);
            assert_eq!(text, format!("{number:x}-{number:08x}"));
        }
    }

    #[test]
    fn the_daily_curve_adds_up_to_a_day_and_never_goes_back() {
        assert_eq!(CURVE.iter().sum::<i64>(), 24_000);
        assert_eq!(CURVE.iter().max(), Some(&3_333), "2,000/s at a mean of 600/s");
        let mut last = -1;
        for mean_us in (0..2 * DAY_US).step_by(60_000_001) {
            let us = on_curve(1_741_392_000_000_000, mean_us);
            assert!(us > last, "{mean_us}");
            last = us;
        }
        assert_eq!(on_curve(1_741_392_000_000_000, DAY_US), DAY_US);
    }
}
