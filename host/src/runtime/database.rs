//! The application's embedded database (redb), with a table for each key-value store.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

/// The application's database.
#[derive(Clone)]
pub(super) struct KeyValueDatabase {
    database: Arc<Database>,
}

/// A store that a component has opened.
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct OpenStore {
    database: Arc<Database>,
    label: String,
}

impl KeyValueDatabase {
    /// Opens the database in a file, or creates it.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("cannot open the key-value store {}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(context)?;
        }
        Ok(Self { database: Arc::new(Database::create(path).with_context(context)?) })
    }

    /// Sets a value in the store `default`.
    pub(super) fn set_default(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let set = self.store("default").set(key, Some(value.as_bytes()));
        set.with_context(|| format!("cannot set {key:?} in the default store"))
    }

    pub(super) fn store(&self, label: &str) -> OpenStore {
        OpenStore { database: Arc::clone(&self.database), label: label.to_owned() }
    }
}

type DatabaseResult<T> = Result<T, redb::Error>;

impl OpenStore {
    fn table(&self) -> TableDefinition<'_, &'static str, &'static [u8]> {
        TableDefinition::new(&self.label)
    }

    pub(super) fn get(&self, key: &str) -> DatabaseResult<Option<Vec<u8>>> {
        let transaction = self.database.begin_read()?;
        match transaction.open_table(self.table()) {
            Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_vec())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn set(&self, key: &str, value: Option<&[u8]>) -> DatabaseResult<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(self.table())?;
            match value {
                Some(value) => table.insert(key, value)?,
                None => table.remove(key)?,
            };
        }
        Ok(transaction.commit()?)
    }

    /// At most `limit` keys after `after`, in order.
    pub(super) fn keys(&self, after: Option<&str>, limit: usize) -> DatabaseResult<Vec<String>> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(self.table()) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut keys = Vec::new();
        for entry in table.range(after.unwrap_or_default()..)? {
            let key = entry?.0.value().to_owned();
            if after != Some(key.as_str()) {
                keys.push(key);
            }
            if keys.len() == limit {
                break;
            }
        }
        Ok(keys)
    }
}
