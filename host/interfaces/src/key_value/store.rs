//! An application's key-value stores, and those that a component has opened: in the application's database, or in Redis.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use blake3::Hash;
use spotter_config::redis_server::RedisServer;

use super::database::{FileStore, KeyValueDatabase};
use super::entries::{Entry, KeyPage, ReadEntries, hash};
use super::redis_store::RedisStore;

/// The stores of an application.
#[derive(Clone, Default)]
pub struct KeyValueStores {
    /// `None` if no component uses a store that is in a file.
    database: Option<KeyValueDatabase>,
    in_redis: BTreeMap<String, RedisStore>,
}

impl KeyValueStores {
    /// Opens the database in a file, for all stores that are not in Redis.
    ///
    /// # Errors
    /// If the file cannot be opened, or another process has opened it.
    pub fn open_database(&mut self, path: &Path, max_store_bytes: u64) -> anyhow::Result<()> {
        self.database = Some(KeyValueDatabase::open(path, max_store_bytes)?);
        Ok(())
    }

    /// Keeps a store in Redis. Connects when it is first used.
    pub fn use_redis(&mut self, label: &str, server: RedisServer) {
        self.in_redis.insert(label.to_owned(), RedisStore::new(label, server));
    }

    pub(crate) fn store(&self, label: &str) -> Option<OpenStore> {
        match self.in_redis.get(label) {
            Some(store) => Some(OpenStore::Redis(store.clone())),
            None => Some(OpenStore::File(self.database.as_ref()?.store(label))),
        }
    }

    /// Blocks all other writers of the database until it is dropped.
    #[cfg(test)]
    pub(crate) fn lock(&self) -> redb::WriteTransaction {
        self.database.as_ref().unwrap().lock()
    }

    /// Sets a value in the store `default`.
    pub async fn set_default(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let store = self.store("default").context(
            "--key-value: no component has the store \"default\" in its `key_value_stores`",
        )?;
        let set = store.set(key.to_owned(), value.as_bytes().to_vec()).await;
        set.with_context(|| format!("cannot set {key:?} in the default store"))
    }
}

/// A store that a component has opened.
#[derive(Clone)]
pub enum OpenStore {
    File(FileStore),
    Redis(RedisStore),
}

/// A value that a component has seen, to be replaced unless it has changed since.
#[derive(Clone)]
pub struct Comparison {
    pub(crate) store: OpenStore,
    pub(crate) key: String,
    /// The value's hash, since an instance can have many of these.
    pub(crate) seen: Option<Hash>,
}

/// Each operation fails if the key, the value, or with them the store is too large, or if the database or the server
/// fails.
impl OpenStore {
    pub(crate) async fn get(&self, key: String) -> anyhow::Result<Option<Vec<u8>>> {
        match self {
            Self::File(store) => in_thread(store, move |store| store.get(&key)).await,
            Self::Redis(store) => store.get(&key).await,
        }
    }

    pub(crate) async fn exists(&self, key: String) -> anyhow::Result<bool> {
        match self {
            Self::File(store) => {
                in_thread(store, move |store| Ok(store.get(&key)?.is_some())).await
            }
            Self::Redis(store) => store.exists(&key).await,
        }
    }

    pub(crate) async fn set(&self, key: String, value: Vec<u8>) -> anyhow::Result<()> {
        match self {
            Self::File(store) => in_thread(store, move |store| store.set(&key, Some(&value))).await,
            Self::Redis(store) => store.set(vec![(key, value)]).await,
        }
    }

    pub(crate) async fn delete(&self, key: String) -> anyhow::Result<()> {
        match self {
            Self::File(store) => in_thread(store, move |store| store.set(&key, None)).await,
            Self::Redis(store) => store.delete(vec![key]).await,
        }
    }

    /// All keys, if they are not too many.
    pub(crate) async fn keys(&self) -> anyhow::Result<Vec<String>> {
        match self {
            Self::File(store) => in_thread(store, |store| store.keys(None, usize::MAX)).await,
            Self::Redis(store) => store.keys().await,
        }
    }

    /// About `limit` keys, from where another page ended.
    pub(crate) async fn page(
        &self,
        start: Option<String>,
        limit: usize,
    ) -> anyhow::Result<KeyPage> {
        match self {
            Self::File(store) => {
                let read = move |store: &FileStore| store.keys(start.as_deref(), limit);
                let keys = in_thread(store, read).await?;
                let next = (keys.len() == limit).then(|| keys.last().cloned()).flatten();
                Ok(KeyPage { keys, next })
            }
            Self::Redis(store) => store.page(start.as_deref(), limit).await,
        }
    }

    pub(crate) async fn get_many(&self, keys: Vec<String>) -> anyhow::Result<Vec<Entry>> {
        match self {
            Self::File(store) => {
                in_thread(store, move |store| {
                    let mut read = ReadEntries::default();
                    for key in keys {
                        let value = store.get(&key)?;
                        read.push(key, value)?;
                    }
                    Ok(read.entries)
                })
                .await
            }
            Self::Redis(store) => store.get_many(keys).await,
        }
    }

    pub(crate) async fn set_many(&self, entries: Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
        match self {
            Self::File(store) => {
                in_thread(store, move |store| {
                    entries.iter().try_for_each(|(key, value)| store.set(key, Some(value)))
                })
                .await
            }
            Self::Redis(store) => store.set(entries).await,
        }
    }

    pub(crate) async fn delete_many(&self, keys: Vec<String>) -> anyhow::Result<()> {
        match self {
            Self::File(store) => {
                in_thread(store, move |store| keys.iter().try_for_each(|key| store.set(key, None)))
                    .await
            }
            Self::Redis(store) => store.delete(keys).await,
        }
    }

    /// Adds to a counter, which is 0 if there is none. Returns the sum.
    pub(crate) async fn increment(&self, key: String, delta: i64) -> anyhow::Result<i64> {
        match self {
            Self::File(store) => in_thread(store, move |store| store.increment(&key, delta)).await,
            Self::Redis(store) => store.increment(&key, delta).await,
        }
    }

    /// Sets a value if the one that is there has this hash, or if there is none. Returns whether it did.
    pub(crate) async fn swap(
        &self,
        key: String,
        seen: Option<Hash>,
        value: Vec<u8>,
    ) -> anyhow::Result<bool> {
        match self {
            Self::File(store) => {
                let swap = move |store: &FileStore| {
                    store.swap(&key, |current| hash(current) == seen, &value)
                };
                in_thread(store, swap).await
            }
            Self::Redis(store) => store.swap(&key, seen, value).await,
        }
    }
}

/// Runs an operation in another thread: it may wait for the disk, or for another's transaction.
async fn in_thread<R: Send + 'static>(
    store: &FileStore,
    operation: impl FnOnce(&FileStore) -> anyhow::Result<R> + Send + 'static,
) -> anyhow::Result<R> {
    let store = store.clone();
    tokio::task::spawn_blocking(move || operation(&store)).await?
}

#[cfg(test)]
mod tests {
    use super::KeyValueStores;
    use crate::key_value::entries::MAX_VALUE_BYTES;

    #[tokio::test]
    async fn the_values_of_one_call_are_bounded_together() {
        let folder = tempfile::tempdir().unwrap();
        let mut stores = KeyValueStores::default();
        stores.open_database(&folder.path().join("key_value.redb"), 10 << 20).unwrap();
        let store = stores.store("a").unwrap();
        store.set("large".to_owned(), vec![7; MAX_VALUE_BYTES]).await.unwrap();
        let keys = |times: usize| {
            let large = std::iter::repeat_n("large".to_owned(), times);
            large.chain(["none".to_owned()]).collect::<Vec<_>>()
        };
        let entries = store.get_many(keys(16)).await.unwrap();
        assert_eq!(entries.len(), 17);
        assert_eq!(entries[0].1.as_ref().map(Vec::len), Some(MAX_VALUE_BYTES));
        assert_eq!(entries[16], ("none".to_owned(), None));
        let refused = store.get_many(keys(17)).await.unwrap_err().to_string();
        assert!(refused.contains("more than 16777216 bytes"), "{refused}");
    }
}
