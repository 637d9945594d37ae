//! The application's embedded database (redb), with a table for each key-value store.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, anyhow, ensure};
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::entries::{check_key, check_listed, check_value};

/// What an entry counts besides its key and value, in bytes: about what it takes on the disk.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// The application's database.
#[derive(Clone)]
pub(crate) struct KeyValueDatabase(Arc<DatabaseInner>);

struct DatabaseInner {
    database: Database,
    max_store_bytes: u64,
    /// The size of each store that has been written to, by label. Changed only inside a write transaction, of which
    /// there is one at a time.
    sizes: Mutex<BTreeMap<String, u64>>,
}

/// A store in the database. Its operations block.
#[derive(Clone)]
pub struct FileStore {
    database: KeyValueDatabase,
    label: String,
}

impl KeyValueDatabase {
    /// Opens the database in a file, or creates it. Each store can hold up to `max_store_bytes`.
    pub(crate) fn open(path: &Path, max_store_bytes: u64) -> anyhow::Result<Self> {
        let context = || format!("cannot open the key-value store {}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(context)?;
        }
        let is_known = Cell::new(false);
        let shown = path.display().to_string();
        let database = Database::builder()
            .set_repair_callback(move |_| {
                if !is_known.replace(true) {
                    tracing::warn!(
                        store = shown,
                        "repairing the key-value store, which was not closed cleanly"
                    );
                }
            })
            .create(path)
            .map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => anyhow!(
                    "another process uses it: stop that process, or name another folder with `spotter up --state-dir`; `spotter \
                     detect --server URL` can use a server that runs"
                ),
                other => other.into(),
            })
            .with_context(context)?;
        let sizes = Mutex::default();
        Ok(Self(Arc::new(DatabaseInner { database, max_store_bytes, sizes })))
    }

    pub(crate) fn store(&self, label: &str) -> FileStore {
        FileStore { database: self.clone(), label: label.to_owned() }
    }

    /// Blocks all other writers until it is dropped.
    #[cfg(test)]
    pub(crate) fn lock(&self) -> redb::WriteTransaction {
        self.0.database.begin_write().unwrap()
    }

    fn sizes(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an entry counts, in bytes.
fn size_of(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len() + ENTRY_OVERHEAD_BYTES) as u64
}

impl FileStore {
    fn table(&self) -> TableDefinition<'_, &'static str, &'static [u8]> {
        TableDefinition::new(&self.label)
    }

    pub(crate) fn get(&self, key: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let transaction = self.database.0.database.begin_read()?;
        match transaction.open_table(self.table()) {
            Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_vec())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets a value, or deletes it. Waits for other writers and for the disk.
    ///
    /// # Errors
    /// If the key, the value, or with them the store is too large, or the database fails.
    pub(crate) fn set(&self, key: &str, value: Option<&[u8]>) -> anyhow::Result<()> {
        self.change(key, |_| Ok(Some((value.map(<[u8]>::to_vec), ())))).map(drop)
    }

    /// Sets a value if the one that is there `is_expected`. Returns whether it did.
    ///
    /// # Errors
    /// As [`FileStore::set`].
    pub(crate) fn swap(
        &self,
        key: &str,
        is_expected: impl FnOnce(Option<&[u8]>) -> bool,
        value: &[u8],
    ) -> anyhow::Result<bool> {
        let swapped = self
            .change(key, |current| Ok(is_expected(current).then(|| (Some(value.to_vec()), ()))))?;
        Ok(swapped.is_some())
    }

    /// Adds to a value of eight bytes in little-endian order, as Spin's own store keeps counters. Returns the sum.
    ///
    /// # Errors
    /// As [`FileStore::set`], or if the value is not such a number, or the sum does not fit.
    pub(crate) fn increment(&self, key: &str, delta: i64) -> anyhow::Result<i64> {
        let added = self.change(key, |current| {
            let bytes = current.unwrap_or(&[0; 8]).try_into();
            let number = i64::from_le_bytes(bytes.with_context(|| {
                format!("the value of {key:?} is not a counter: it does not have eight bytes")
            })?);
            let sum = number.checked_add(delta);
            let sum = sum.with_context(|| {
                format!("the sum of {number} and {delta} does not fit into 64 bits")
            })?;
            Ok(Some((Some(sum.to_le_bytes().to_vec()), sum)))
        })?;
        added.context("nothing was changed")
    }

    /// Replaces a value by what `new` makes of it, while nobody else writes. `new` returns the value, or `None` to
    /// delete it, and what to return from here, or `None` to change nothing.
    fn change<R>(
        &self,
        key: &str,
        new: impl FnOnce(Option<&[u8]>) -> anyhow::Result<Option<(Option<Vec<u8>>, R)>>,
    ) -> anyhow::Result<Option<R>> {
        check_key(key)?;
        let mut transaction = self.database.0.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let (size, result) = {
            let mut table = transaction.open_table(self.table())?;
            let size = self.size(&table)?;
            let current = table.get(key)?.map(|value| value.value().to_vec());
            let Some((value, result)) = new(current.as_deref())? else { return Ok(None) };
            let value = value.as_deref();
            value.map_or(Ok(()), check_value)?;
            let replaced = match value {
                Some(value) => table.insert(key, value)?,
                None => table.remove(key)?,
            };
            let replaced = replaced.map_or(0, |replaced| size_of(key, replaced.value()));
            let added = value.map_or(0, |value| size_of(key, value));
            let (size, limit) = (size - replaced + added, self.database.0.max_store_bytes);
            ensure!(
                added <= replaced || size <= limit,
                "the store {:?} is full: with this value it would have {size} bytes; the limit is {limit} \
                 (`key_value_size`)",
                self.label
            );
            (size, result)
        };
        self.database.sizes().insert(self.label.clone(), size);
        transaction.commit().inspect_err(|_| {
            self.database.sizes().remove(&self.label);
        })?;
        Ok(Some(result))
    }

    /// The size of the store's entries, which are read only the first time.
    fn size(&self, table: &impl ReadableTable<&'static str, &'static [u8]>) -> anyhow::Result<u64> {
        if let Some(size) = self.database.sizes().get(&self.label) {
            return Ok(*size);
        }
        let mut size = 0;
        for entry in table.iter()? {
            let (key, value) = entry?;
            size += size_of(key.value(), value.value());
        }
        Ok(size)
    }

    /// At most `limit` keys after `after`, in order.
    ///
    /// # Errors
    /// If they are too many to be read at once, or the database fails.
    pub(crate) fn keys(&self, after: Option<&str>, limit: usize) -> anyhow::Result<Vec<String>> {
        let transaction = self.database.0.database.begin_read()?;
        let table = match transaction.open_table(self.table()) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let (mut keys, mut bytes) = (Vec::new(), 0);
        for entry in table.range(after.unwrap_or_default()..)? {
            let key = entry?.0.value().to_owned();
            if after == Some(key.as_str()) {
                continue;
            }
            bytes += key.len();
            check_listed(&self.label, bytes)?;
            keys.push(key);
            if keys.len() == limit {
                break;
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::KeyValueDatabase;
    use crate::key_value::entries::{MAX_KEY_BYTES, MAX_LISTED_KEYS_BYTES, MAX_VALUE_BYTES};

    const MAX_STORE_BYTES: u64 = 10 << 20;

    fn refusal<T>(result: anyhow::Result<T>) -> String {
        result.err().map_or_else(String::new, |error| format!("{error:#}"))
    }

    #[test]
    fn keys_values_and_stores_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key_value.redb");
        let open = || KeyValueDatabase::open(&path, MAX_STORE_BYTES).unwrap().store("a");
        let store = open();
        let value = vec![7; MAX_VALUE_BYTES];
        let long = refusal(store.set(&"k".repeat(MAX_KEY_BYTES + 1), Some(b"")));
        assert!(long.contains("the key has 1025 bytes"), "{long}");
        let large = refusal(store.set("k", Some(&vec![7; MAX_VALUE_BYTES + 1])));
        assert!(large.contains("the value has 1048577 bytes"), "{large}");
        let set =
            |store: &super::FileStore, index: usize| store.set(&index.to_string(), Some(&value));
        (0..9).for_each(|index| set(&store, index).unwrap());
        let full = refusal(set(&store, 9));
        assert!(full.contains("\"a\" is full") && full.contains("key_value_size"), "{full}");
        // What was refused is not there. What is there can be replaced, and makes room when it is deleted, also after
        // a restart.
        assert_eq!(store.get("9").unwrap(), None);
        set(&store, 8).unwrap();
        drop(store);
        let store = open();
        assert!(refusal(set(&store, 9)).contains("is full"));
        store.set("0", None).unwrap();
        set(&store, 9).unwrap();
        assert_eq!(store.keys(None, usize::MAX).unwrap().len(), 9);
    }

    #[test]
    fn keys_are_read_at_once_only_if_they_are_few() {
        let folder = tempfile::tempdir().unwrap();
        let database =
            KeyValueDatabase::open(&folder.path().join("key_value.redb"), 1 << 30).unwrap();
        let store = database.store("a");
        let mut transaction = database.0.database.begin_write().unwrap();
        transaction.set_durability(redb::Durability::None).unwrap();
        let count = MAX_LISTED_KEYS_BYTES / MAX_KEY_BYTES;
        {
            let mut table = transaction.open_table(store.table()).unwrap();
            for index in 0..=count {
                let key = format!("{index:0MAX_KEY_BYTES$}");
                table.insert(key.as_str(), b"".as_slice()).unwrap();
            }
        }
        transaction.commit().unwrap();
        assert!(refusal(store.keys(None, usize::MAX)).contains("list-keys"));
        let page = store.keys(None, count).unwrap();
        assert_eq!(store.keys(page.last().map(String::as_str), count).unwrap().len(), 1);
    }

    #[test]
    fn a_database_that_is_open_elsewhere_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let _open = KeyValueDatabase::open(&path, 1000).unwrap();
        let error = refusal(KeyValueDatabase::open(&path, 1000));
        assert!(
            error.contains("another process uses it") && error.contains("--state-dir"),
            "{error}"
        );
    }
}
