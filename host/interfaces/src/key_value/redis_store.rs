//! A key-value store in a database of Redis or Valkey. The store's keys are the database's own.

use std::collections::BTreeSet;

use anyhow::{anyhow, bail, ensure};
use blake3::Hash;
use redis::{Cmd, Pipeline, cmd};
use spotter_config::redis_server::RedisServer;
use tokio::time::timeout;

use super::entries::{
    Entry, KeyPage, MAX_VALUE_BYTES, ReadEntries, check_key, check_listed, check_value, hash,
};
use super::redis_connection::{Request, SharedRedis};
use crate::redis::client::{MAX_REPLY_BYTES, RESPONSE_TIMEOUT};

/// How many values fit into one reply.
const VALUES_PER_REPLY: usize = MAX_REPLY_BYTES / MAX_VALUE_BYTES - 1;
/// About how many keys the server looks at in one step, of those that it lists.
const KEYS_PER_SCAN: usize = 1000;

/// Sets the key to the second argument if its value is the first.
const SWAP: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) return 1 end \
                    return 0";

/// A store in Redis, with the connection that all instances share.
#[derive(Clone)]
pub struct RedisStore {
    label: String,
    redis: SharedRedis,
}

impl RedisStore {
    pub(crate) fn new(label: &str, server: RedisServer) -> Self {
        Self { label: label.to_owned(), redis: SharedRedis::new(label, server) }
    }

    pub(crate) async fn get(&self, key: &str) -> anyhow::Result<Option<Vec<u8>>> {
        check_key(key)?;
        let mut transaction = Pipeline::new();
        transaction.atomic();
        add_read(&mut transaction, key);
        let (exists, value) = self.redis.run(Request::Transaction(transaction)).await?;
        stored(exists, value)
    }

    pub(crate) async fn get_many(&self, keys: Vec<String>) -> anyhow::Result<Vec<Entry>> {
        keys.iter().try_for_each(|key| check_key(key))?;
        let mut read = ReadEntries::default();
        let mut keys = keys.into_iter();
        loop {
            let some: Vec<String> = keys.by_ref().take(VALUES_PER_REPLY).collect();
            if some.is_empty() {
                return Ok(read.entries);
            }
            let mut transaction = Pipeline::new();
            transaction.atomic();
            some.iter().for_each(|key| add_read(&mut transaction, key));
            let found = self.redis.run::<Vec<(bool, Vec<u8>)>>(Request::Transaction(transaction));
            let found = found.await?;
            ensure!(found.len() == some.len(), "the server's reply has {} values", found.len());
            for (key, (exists, value)) in some.into_iter().zip(found) {
                read.push(key, stored(exists, value)?)?;
            }
        }
    }

    pub(crate) async fn exists(&self, key: &str) -> anyhow::Result<bool> {
        check_key(key)?;
        self.run(cmd("EXISTS").arg(key)).await
    }

    /// Sets all values at once.
    pub(crate) async fn set(&self, entries: Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
        for (key, value) in &entries {
            check_key(key)?;
            check_value(value)?;
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.run(cmd("MSET").arg(entries)).await
    }

    pub(crate) async fn delete(&self, keys: Vec<String>) -> anyhow::Result<()> {
        keys.iter().try_for_each(|key| check_key(key))?;
        if keys.is_empty() {
            return Ok(());
        }
        self.run(cmd("DEL").arg(keys)).await
    }

    /// All keys, each once.
    pub(crate) async fn keys(&self) -> anyhow::Result<Vec<String>> {
        let (mut keys, mut bytes, mut start) = (BTreeSet::new(), 0, None::<String>);
        let list = async {
            loop {
                let page = self.page(start.as_deref(), KEYS_PER_SCAN).await?;
                for key in page.keys {
                    let length = key.len();
                    bytes += if keys.insert(key) { length } else { 0 };
                }
                check_listed(&self.label, bytes)?;
                start = page.next;
                if start.is_none() {
                    return Ok(keys.into_iter().collect());
                }
            }
        };
        timeout(RESPONSE_TIMEOUT, list).await.unwrap_or_else(|_| {
            bail!(
                "the server did not list all keys within {RESPONSE_TIMEOUT:?}: read them in steps, with \
                 `list-keys` of wasi:keyvalue"
            )
        })
    }

    /// Some keys, from the cursor that the server gave with the last ones. It may list a key twice.
    pub(crate) async fn page(&self, start: Option<&str>, limit: usize) -> anyhow::Result<KeyPage> {
        let cursor = start.unwrap_or("0");
        let cursor: u64 = cursor.parse().map_err(|_| {
            anyhow!(
                "{cursor:?} is not a cursor of this store: pass the one that the last call returned"
            )
        })?;
        let (next, found): (u64, Vec<Vec<u8>>) =
            self.run(cmd("SCAN").arg(cursor).arg("COUNT").arg(limit)).await?;
        check_listed(&self.label, found.iter().map(Vec::len).sum())?;
        // A component cannot name a key that is not text. It belongs to another program.
        let keys = found.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect();
        Ok(KeyPage { keys, next: (next != 0).then(|| next.to_string()) })
    }

    pub(crate) async fn increment(&self, key: &str, delta: i64) -> anyhow::Result<i64> {
        check_key(key)?;
        let sum = self.run(cmd("INCRBY").arg(key).arg(delta)).await;
        sum.map_err(|error| {
            if error.to_string().contains("not an integer") {
                anyhow!(
                    "the value of {key:?} is not a counter: it is not a decimal number of 64 bits"
                )
            } else {
                error
            }
        })
    }

    /// The hash decides here whether the value is the one that was seen, and the server replaces only that value.
    pub(crate) async fn swap(
        &self,
        key: &str,
        seen: Option<Hash>,
        value: Vec<u8>,
    ) -> anyhow::Result<bool> {
        check_value(&value)?;
        let current = self.get(key).await?;
        match current {
            _ if hash(current.as_deref()) != seen => Ok(false),
            None => {
                let set: Option<String> =
                    self.run(cmd("SET").arg(key).arg(value).arg("NX")).await?;
                Ok(set.is_some())
            }
            Some(current) => {
                self.run(cmd("EVAL").arg(SWAP).arg(1).arg(key).arg(current).arg(value)).await
            }
        }
    }

    async fn run<R: redis::FromRedisValue + Send + 'static>(
        &self,
        command: &mut Cmd,
    ) -> anyhow::Result<R> {
        self.redis.run(Request::Command(command.take())).await
    }
}

/// Reads at most one byte more than a value may have, so that a larger one, which another program has set, costs no
/// more. As it reads an empty value where there is none, it also asks whether there is one.
fn add_read(transaction: &mut Pipeline, key: &str) {
    transaction.cmd("EXISTS").arg(key);
    transaction.cmd("GETRANGE").arg(key).arg(0).arg(MAX_VALUE_BYTES);
}

fn stored(exists: bool, value: Vec<u8>) -> anyhow::Result<Option<Vec<u8>>> {
    ensure!(
        value.len() <= MAX_VALUE_BYTES,
        "the value has more than {MAX_VALUE_BYTES} bytes, which is the limit; another program has set it"
    );
    Ok(exists.then_some(value))
}
