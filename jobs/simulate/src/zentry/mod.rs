//! Sleep entries and who follows whom: created, updated, deleted, undone and done again.

mod tables;

use std::collections::BTreeSet;

use self::tables::{Entry, Follow, Tables};
use crate::agenda::Agenda;
use crate::json::{Field, int, iso_millis, text};
use crate::options::Options;
use crate::random::Random;
use crate::record::SinkError;
use crate::stream::{Base, Breakage, Encoding, Fate, Shape};
use crate::system::System;
use crate::time::{DAY_US, MINUTE_US, SECOND_US, floor};
use crate::traffic::Studio;
use crate::truth::Table;

const ENTRIES: &str = "sleep_entries";
const FOLLOWS: &str = "follows";

const BAD_EVENT: Breakage = Breakage::Value("event", "\"sleep_entry_liked\"", "bad_value");
const ENTRY_SHAPE: Shape = Shape {
    removable: &[
        ("event", true),
        ("occurred_at", true),
        ("data.id", true),
        ("data.user_id", true),
        ("data.sleep_duration", true),
        ("data.sleep_start_at", true),
        ("data.created_at", true),
        ("data.updated_at", true),
    ],
    time: "data.updated_at",
    breakages: &[
        Breakage::Value("data.sleep_duration", "\"long\"", "wrong_type"),
        Breakage::Value("data.updated_at", "\"yesterday\"", "bad_event_time"),
        Breakage::Value("data.updated_at", "\"1999-12-31T23:59:59.999Z\"", "event_time_out_of_range"),
        BAD_EVENT,
    ],
};
const DELETED_SHAPE: Shape = Shape {
    removable: &[("event", true), ("occurred_at", true)],
    time: "occurred_at",
    breakages: &[Breakage::Value("occurred_at", "\"yesterday\"", "bad_event_time"), BAD_EVENT],
};
const FOLLOW_SHAPE: Shape = Shape {
    removable: &[
        ("event", true),
        ("occurred_at", true),
        ("data.follower_id", true),
        ("data.followed_id", true),
        ("data.created_at", true),
    ],
    time: "data.created_at",
    breakages: &[
        Breakage::Value("data.follower_id", "\"somebody\"", "wrong_type"),
        Breakage::Value("data.created_at", "\"yesterday\"", "bad_event_time"),
        Breakage::Value("data.created_at", "\"1999-12-31T23:59:59.999Z\"", "event_time_out_of_range"),
        BAD_EVENT,
    ],
};

/// What happens.
#[derive(Clone, Debug)]
enum Happening {
    EntryCreated(Entry),
    EntryUpdated(Entry),
    EntryDeleted { id: i64, user_id: i64 },
    FollowCreated(Follow),
    FollowDeleted { follow: Follow, names_pair: bool },
}

struct Generator<'o> {
    options: &'o Options,
    random: Random,
    planned: Agenda<Happening>,
    /// Pairs that were ever followed: a second first follow would be the same one.
    pairs: BTreeSet<(i64, i64)>,
    next_id: i64,
    num_sent: u64,
    tables: Tables,
}

pub(crate) fn generate(studio: &mut Studio<'_, '_>) -> Result<Vec<Table>, SinkError> {
    let options = studio.stream.options;
    let mut generator = Generator {
        options,
        random: Random::new(options.seed, "zentry", 0),
        planned: Agenda::new(),
        pairs: BTreeSet::new(),
        next_id: 0,
        num_sent: 0,
        tables: Tables::default(),
    };
    generator.run(studio)?;
    Ok(generator.tables.finish(options))
}

impl Generator<'_> {
    /// Half of the slots bring an entry, half a follow while there are fewer than two a user; what follows from them comes
    /// in between.
    fn run(&mut self, studio: &mut Studio<'_, '_>) -> Result<(), SinkError> {
        let slot_us = self.options.slot_us(System::Zentry);
        let num_users = self.options.num_users(System::Zentry);
        for slot in 0_i64.. {
            let jitter_us = self.random.between(0, slot_us - 1);
            let us = floor(self.options.start_us + slot * slot_us + jitter_us, 1_000);
            while let Some((at_us, happening)) = self.planned.next_until(us) {
                if self.is_over(at_us) {
                    return Ok(());
                }
                self.send(at_us, at_us, &happening, studio)?;
            }
            if self.is_over(us) {
                return Ok(());
            }
            let wants_follow = self.random.chance(0.5) && self.pairs.len() as u64 / 2 < num_users;
            let pair = if wants_follow { self.new_pair(num_users) } else { None };
            match pair {
                Some(pair) => self.follow(us, pair, studio)?,
                None => self.enter(us, num_users, studio)?,
            }
        }
        Ok(())
    }

    fn is_over(&self, us: i64) -> bool {
        self.num_sent >= self.options.events || us >= self.options.end_us()
    }

    fn plan(&mut self, us: i64, happening: Happening) {
        let number = self.new_id().unsigned_abs();
        self.planned.plan(floor(us, 1_000), number, happening);
    }

    fn new_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    /// A user, the first ones more often: a uniform share to a power, of all.
    fn user(&mut self, num_users: u64, power: usize) -> i64 {
        let share = self.random.unit();
        let share: f64 = std::iter::repeat_n(share, power).product();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "a rank below the number of users"
        )]
        let rank = (share * num_users as f64) as i64;
        rank + 1
    }

    /// Somebody and an author whom they never followed; the first author has one of 22 followers. None when the dice find
    /// nobody.
    fn new_pair(&mut self, num_users: u64) -> Option<(i64, i64)> {
        (0..20).find_map(|_| {
            let pair = (self.user(num_users, 1), self.user(num_users, 3));
            (pair.0 != pair.1 && self.pairs.insert(pair)).then_some(pair)
        })
    }

    fn enter(&mut self, us: i64, num_users: u64, studio: &mut Studio<'_, '_>) -> Result<(), SinkError> {
        let duration_s = self.random.between(4 * 3_600, 10 * 3_600);
        let start_us = us - duration_s * SECOND_US - self.random.between(0, 2 * 3_600) * SECOND_US;
        let entry = Entry {
            id: self.new_id(),
            user_id: self.user(num_users, 2),
            duration_s,
            start_us: floor(start_us, SECOND_US),
            created_us: us,
            updated_us: us,
        };
        let mut sent_from_us = us;
        if self.random.chance(0.1) {
            let updated_us = floor(us + self.random.between(1, 3_600) * SECOND_US, 1_000);
            // Of a few the creation is sent after the update.
            if self.random.chance(0.01) {
                sent_from_us = updated_us + SECOND_US;
            }
            let duration_s = self.random.between(4 * 3_600, 10 * 3_600);
            let updated = Entry { duration_s, updated_us, ..entry.clone() };
            self.plan(updated_us, Happening::EntryUpdated(updated));
        }
        if self.random.chance(0.02) {
            let deleted_us = us + self.random.between(60, 7_200) * SECOND_US;
            self.plan(deleted_us, Happening::EntryDeleted { id: entry.id, user_id: entry.user_id });
        }
        self.send(us, sent_from_us, &Happening::EntryCreated(entry), studio)
    }

    /// A follow; a few are undone, of these a few done again, and of the undoings a few are repeated a day later.
    fn follow(&mut self, us: i64, pair: (i64, i64), studio: &mut Studio<'_, '_>) -> Result<(), SinkError> {
        let (follower_id, followed_id) = pair;
        // Every second person's app knows no ids of follows.
        let has_id = follower_id % 2 == 0;
        let follow = Follow { id: has_id.then(|| self.new_id()), follower_id, followed_id, created_us: us };
        if self.random.chance(0.05) {
            let undone_us = us + self.random.between(1, 120) * MINUTE_US;
            let names_pair = !has_id || self.random.chance(0.5);
            let undone = Happening::FollowDeleted { follow: follow.clone(), names_pair };
            if self.random.chance(0.005) {
                self.plan(undone_us + DAY_US, undone.clone());
            }
            self.plan(undone_us, undone);
            if self.random.chance(0.2) {
                let created_us = floor(undone_us + self.random.between(60_000, 3_600_000) * 1_000, 1_000);
                let id = has_id.then(|| self.new_id());
                self.plan(created_us, Happening::FollowCreated(Follow { id, created_us, ..follow.clone() }));
            }
        }
        self.send(us, us, &Happening::FollowCreated(follow), studio)
    }

    fn send(
        &mut self,
        us: i64,
        sent_from_us: i64,
        happening: &Happening,
        studio: &mut Studio<'_, '_>,
    ) -> Result<(), SinkError> {
        self.num_sent += 1;
        let event_id = self.num_sent.is_multiple_of(3).then(|| format!("z{}", self.num_sent));
        let base = happening.base(us, sent_from_us, event_id, self.options);
        if let Fate::Lands { .. } = studio.faults.send(&base, studio.stream)? {
            match happening {
                Happening::EntryCreated(entry) | Happening::EntryUpdated(entry) => self.tables.enter(entry),
                Happening::EntryDeleted { id, .. } => self.tables.delete(*id),
                Happening::FollowCreated(follow) => self.tables.follow(follow),
                Happening::FollowDeleted { follow, .. } => self.tables.unfollow(follow, us),
            }
        }
        Ok(())
    }
}

impl Happening {
    fn base(&self, us: i64, sent_from_us: i64, event_id: Option<String>, options: &Options) -> Base {
        let (topic, key, name, shape) = match self {
            Self::EntryCreated(entry) => (ENTRIES, entry.user_id, "sleep_entry_created", &ENTRY_SHAPE),
            Self::EntryUpdated(entry) => (ENTRIES, entry.user_id, "sleep_entry_updated", &ENTRY_SHAPE),
            Self::EntryDeleted { user_id, .. } => (ENTRIES, *user_id, "sleep_entry_deleted", &DELETED_SHAPE),
            Self::FollowCreated(follow) => (FOLLOWS, follow.follower_id, "follow_created", &FOLLOW_SHAPE),
            Self::FollowDeleted { follow, .. } => (FOLLOWS, follow.follower_id, "follow_deleted", &DELETED_SHAPE),
        };
        let mut fields = vec![text("event", name), text("occurred_at", iso_millis(us))];
        fields.extend(event_id.map(|id| text("event_id", id)));
        fields.extend(self.data());
        let partitions = i64::try_from(options.num_partitions(System::Zentry)).unwrap_or(1);
        Base {
            topic,
            partition: i32::try_from(key % partitions).expect("partitions are few"),
            key: Some(key.to_string()),
            event_us: us,
            sent_from_us,
            fields,
            encoding: Encoding::Json,
            shape,
            is_whole: false,
            is_copyable: true,
        }
    }

    fn data(&self) -> Vec<Field> {
        let pair = |follow: &Follow| {
            [int("data.follower_id", follow.follower_id), int("data.followed_id", follow.followed_id)]
        };
        match self {
            Self::EntryCreated(entry) | Self::EntryUpdated(entry) => vec![
                int("data.id", entry.id),
                int("data.user_id", entry.user_id),
                int("data.sleep_duration", entry.duration_s),
                text("data.sleep_start_at", iso_millis(entry.start_us)),
                text("data.created_at", iso_millis(entry.created_us)),
                text("data.updated_at", iso_millis(entry.updated_us)),
            ],
            Self::EntryDeleted { id, .. } => vec![int("data.id", *id)],
            Self::FollowCreated(follow) => {
                let mut fields: Vec<Field> = follow.id.map(|id| int("data.id", id)).into_iter().collect();
                fields.extend(pair(follow));
                fields.push(text("data.created_at", iso_millis(follow.created_us)));
                fields
            }
            Self::FollowDeleted { follow, names_pair } => {
                let mut fields: Vec<Field> = follow.id.map(|id| int("data.id", id)).into_iter().collect();
                if *names_pair {
                    fields.extend(pair(follow));
                }
                fields
            }
        }
    }
}
