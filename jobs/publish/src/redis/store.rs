//! The connection to the server, and the scripts that it runs.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult, Script};
use tidemill_project::config::RedisSettings;

use super::{HeadRecord, RedisFault};
use crate::messages::{Message, Transport};
use crate::{Publication, Result};

/// Values that one script writes. A script stops the server for its length; a thousand small values are about 2 ms.
const VALUES_PER_SCRIPT: usize = 1_000;
/// Bytes of values that one script writes, for rows that are large.
const BYTES_PER_SCRIPT: usize = 4 << 20;
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);

/// `KEYS[1]` is the head, `ARGV[1]` the new owner; answers the record.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new("redis.call('HSET', KEYS[1], 'owner', ARGV[1]) return redis.call('HGET', KEYS[1], 'record')")
});

/// `KEYS[1]` is the head, the other keys are values'. `ARGV`: owner, time to live in ms or empty, record or empty, then a value per
/// key, empty for one that has to go. Answers whether the owner still owns the keys.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end \
         for i = 2, #KEYS do \
           local value = ARGV[i + 2] \
           if value == '' then redis.call('DEL', KEYS[i]) \
           elseif ARGV[2] == '' then redis.call('SET', KEYS[i], value) \
           else redis.call('SET', KEYS[i], value, 'PX', ARGV[2]) end \
         end \
         if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'record', ARGV[3]) end \
         return 1",
    )
});

/// One publication's way to the server.
pub(super) struct Store {
    connection: MultiplexedConnection,
    keys: String,
    head: String,
    owner: String,
    ttl: Option<Duration>,
    waiting: Vec<Message>,
    waiting_bytes: usize,
}

impl Store {
    pub(super) async fn connect(settings: &RedisSettings, publication: &Publication) -> Result<Self, RedisFault> {
        let keys = publication.target.to_string();
        let fault = |source| RedisFault::Server { act: "connect", keys: keys.clone(), source };
        let client = Client::open(settings.url.expose_secret()).map_err(fault)?;
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
        let connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(fault)?;
        Ok(Self {
            connection,
            head: format!("tidemill:published:{keys}"),
            keys,
            owner: String::new(),
            ttl: publication.as_messages().ttl,
            waiting: Vec::new(),
            waiting_bytes: 0,
        })
    }

    /// The record, without taking the keys.
    pub(super) async fn head(&mut self) -> Result<Option<HeadRecord>, RedisFault> {
        let found = redis::cmd("HGET").arg(&self.head).arg("record").query_async(&mut self.connection).await;
        self.parse(found)
    }

    /// Becomes the owner: from now on no script of an earlier one writes anything.
    pub(super) async fn take(&mut self, owner: &str) -> Result<Option<HeadRecord>, RedisFault> {
        owner.clone_into(&mut self.owner);
        let found = TAKE.key(&self.head).arg(owner).invoke_async(&mut self.connection).await;
        self.parse(found)
    }

    fn parse(&self, found: RedisResult<Option<Vec<u8>>>) -> Result<Option<HeadRecord>, RedisFault> {
        let found = found.map_err(|source| self.fault("read the published position", source))?;
        let parsed = found.map(|text| serde_json::from_slice(&text)).transpose();
        parsed.map_err(|source| RedisFault::Head { key: self.head.clone(), source })
    }

    /// Writes the values that wait, and the record with them.
    pub(super) async fn finish(&mut self, record: &HeadRecord) -> Result<(), RedisFault> {
        let text = serde_json::to_string(record).expect("a record of texts and numbers is JSON");
        let rest = std::mem::take(&mut self.waiting);
        self.write(&rest, &text).await
    }

    /// Values of some keys, in their order.
    pub(super) async fn values(&mut self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, RedisFault> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let found = redis::cmd("MGET").arg(keys).query_async(&mut self.connection).await;
        found.map_err(|source| self.fault("read values", source))
    }

    /// The keys that match a glob pattern, some at a time; `cursor` is 0 at first and at the end.
    pub(super) async fn scan(&mut self, cursor: u64, pattern: &str) -> Result<(u64, Vec<String>), RedisFault> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1_000);
        scan.query_async(&mut self.connection).await.map_err(|source| self.fault("list keys", source))
    }

    async fn write(&mut self, messages: &[Message], record: &str) -> Result<(), RedisFault> {
        let mut script = WRITE.prepare_invoke();
        script.key(&self.head).arg(&self.owner);
        script.arg(self.ttl.map_or_else(String::new, |ttl| ttl.as_millis().max(1).to_string())).arg(record);
        for message in messages {
            script.key(&message.key).arg(message.value.as_deref().unwrap_or_default());
        }
        let done: RedisResult<i64> = script.invoke_async(&mut self.connection).await;
        match done.map_err(|source| self.fault("write values", source))? {
            1 => Ok(()),
            _ => Err(RedisFault::Overtaken { keys: self.keys.clone() }),
        }
    }

    fn fault(&self, act: &'static str, source: redis::RedisError) -> RedisFault {
        RedisFault::Server { act, keys: self.keys.clone(), source }
    }
}

#[async_trait]
impl Transport for Store {
    /// Full scripts go out; what is left waits for the last one, which carries the record.
    async fn send(&mut self, messages: Vec<Message>) -> Result<()> {
        for message in messages {
            if self.waiting.len() >= VALUES_PER_SCRIPT || self.waiting_bytes >= BYTES_PER_SCRIPT {
                let full = std::mem::take(&mut self.waiting);
                self.waiting_bytes = 0;
                self.write(&full, "").await?;
            }
            self.waiting_bytes += message.value.as_ref().map_or(0, Vec::len);
            self.waiting.push(message);
        }
        Ok(())
    }
}
