//! The five systems: their topics, their pace, what they call late.

/// A system that can be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// Sleep, meals and light of families.
    Zoner,
    /// Motion readings of phones.
    Activity,
    /// Clicks, orders and metrics of a product.
    Clicks,
    /// Logins of an app's users.
    Logins,
    /// Sleep entries and who follows whom.
    Zentry,
}

const SECOND_US: i64 = 1_000_000;

impl System {
    /// All systems.
    pub const ALL: [Self; 5] = [Self::Zoner, Self::Activity, Self::Clicks, Self::Logins, Self::Zentry];

    /// The system's name, as on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zoner => "zoner",
            Self::Activity => "activity",
            Self::Clicks => "clicks",
            Self::Logins => "logins",
            Self::Zentry => "zentry",
        }
    }

    /// The system of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|system| system.name() == name)
    }

    /// Topics with the partition counts that they have unless [`Options::partitions`](crate::Options::partitions) says
    /// another.
    #[must_use]
    pub fn topics(self) -> &'static [(&'static str, i32)] {
        match self {
            Self::Zoner => &[("user_activity", 6), ("sleep", 6), ("meals", 6), ("light_exposure", 6)],
            Self::Activity => &[("raw_sensor_data", 6)],
            Self::Clicks => &[("events.user-actions", 12), ("events.transactions", 12), ("events.system", 12)],
            Self::Logins => &[("user-login", 6)],
            Self::Zentry => &[("sleep_entries", 6), ("follows", 6)],
        }
    }

    /// Base events per second of virtual time.
    ///
    /// Zoner has none of its own: its users live a day plan, and their number sets the pace.
    #[must_use]
    pub fn default_rate(self) -> f64 {
        match self {
            Self::Zoner => 20.0,
            Self::Activity => 300.0,
            Self::Clicks => 600.0,
            Self::Logins => 2.0,
            Self::Zentry => 10.0,
        }
    }

    /// Users, or devices, unless [`Options::users`](crate::Options::users) says another number.
    #[must_use]
    pub fn default_users(self) -> u64 {
        match self {
            Self::Zoner => 500,
            Self::Activity => 5,
            Self::Clicks => 200_000,
            // Every login is somebody else's.
            Self::Logins => 0,
            Self::Zentry => 10_000,
        }
    }

    /// An event sent later than this after its event time is late, in microseconds.
    #[must_use]
    pub fn grace_us(self) -> i64 {
        SECOND_US
            * match self {
                Self::Zoner => 900,
                Self::Activity => 30,
                Self::Clicks => 300,
                Self::Logins => 10,
                Self::Zentry => 60,
            }
    }
}
