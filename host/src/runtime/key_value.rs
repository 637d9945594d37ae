//! Persistent key-value stores: `fermyon:spin/key-value` and `wasi:keyvalue/store`. Each store is a table in the
//! application's embedded database (redb).

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use wasmtime::component::{HasSelf, Linker, Resource};

use super::instance::InstanceState;

mod spin {
    wasmtime::component::bindgen!({
        inline: "
            package fermyon:spin@2.0.0;
            interface key-value {
                resource store {
                    open: static func(label: string) -> result<store, error>;
                    get: func(key: string) -> result<option<list<u8>>, error>;
                    set: func(key: string, value: list<u8>) -> result<_, error>;
                    delete: func(key: string) -> result<_, error>;
                    exists: func(key: string) -> result<bool, error>;
                    get-keys: func() -> result<list<string>, error>;
                }
                variant error { store-table-full, no-such-store, access-denied, other(string) }
            }
            world imports { import key-value; }
        ",
        with: { "fermyon:spin/key-value.store": super::OpenStore },
        imports: { default: trappable },
    });
}

mod wasi {
    wasmtime::component::bindgen!({
        inline: "
            package wasi:keyvalue@0.2.0-draft2;
            interface store {
                variant error { no-such-store, access-denied, other(string) }
                record key-response { keys: list<string>, cursor: option<string> }
                open: func(identifier: string) -> result<bucket, error>;
                resource bucket {
                    get: func(key: string) -> result<option<list<u8>>, error>;
                    set: func(key: string, value: list<u8>) -> result<_, error>;
                    delete: func(key: string) -> result<_, error>;
                    exists: func(key: string) -> result<bool, error>;
                    list-keys: func(cursor: option<string>) -> result<key-response, error>;
                }
            }
            world imports { import store; }
        ",
        with: { "wasi:keyvalue/store.bucket": super::OpenStore },
        imports: { default: trappable },
    });
}

use spin::fermyon::spin::key_value::{self as spin_store, Error as SpinError};
use wasi::wasi::keyvalue::store::{self as wasi_store, Error as WasiError, KeyResponse};

/// The largest value, in bytes.
const MAX_VALUE_BYTES: usize = 1 << 20;

/// The most keys that one call of `list-keys` returns.
const MAX_KEYS_PER_CALL: usize = 1000;

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

    fn store(&self, label: &str) -> OpenStore {
        OpenStore { database: Arc::clone(&self.database), label: label.to_owned() }
    }
}

type DatabaseResult<T> = Result<T, redb::Error>;

impl OpenStore {
    fn table(&self) -> TableDefinition<'_, &'static str, &'static [u8]> {
        TableDefinition::new(&self.label)
    }

    fn get(&self, key: &str) -> DatabaseResult<Option<Vec<u8>>> {
        let transaction = self.database.begin_read()?;
        match transaction.open_table(self.table()) {
            Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_vec())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn set(&self, key: &str, value: Option<&[u8]>) -> DatabaseResult<()> {
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
    fn keys(&self, after: Option<&str>, limit: usize) -> DatabaseResult<Vec<String>> {
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

/// Adds both interfaces to the linker.
pub(super) fn add_to_linker(linker: &mut Linker<InstanceState>) -> anyhow::Result<()> {
    spin_store::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)?;
    wasi_store::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)?;
    Ok(())
}

/// Why a store cannot be opened.
enum OpenError {
    NotGranted,
    NoDatabase,
}

impl InstanceState {
    fn open_store(
        &mut self,
        label: &str,
    ) -> wasmtime::Result<Result<Resource<OpenStore>, OpenError>> {
        let (stores, allowed) = self.key_value();
        if !allowed.iter().any(|allowed_label| allowed_label == label) {
            return Ok(Err(OpenError::NotGranted));
        }
        let Some(store) = stores.map(|stores| stores.store(label)) else {
            return Ok(Err(OpenError::NoDatabase));
        };
        Ok(Ok(self.table_mut().push(store)?))
    }

    fn store(&mut self, store: &Resource<OpenStore>) -> wasmtime::Result<&OpenStore> {
        Ok(self.table_mut().get(store)?)
    }
}

fn too_large(value: &[u8]) -> Option<String> {
    (value.len() > MAX_VALUE_BYTES)
        .then(|| format!("the value has {} bytes; the limit is {MAX_VALUE_BYTES}", value.len()))
}

fn spin_error(error: &redb::Error) -> SpinError {
    SpinError::Other(error.to_string())
}

impl spin_store::Host for InstanceState {}

impl spin_store::HostStore for InstanceState {
    fn open(&mut self, label: String) -> wasmtime::Result<Result<Resource<OpenStore>, SpinError>> {
        Ok(self.open_store(&label)?.map_err(|error| match error {
            OpenError::NotGranted => SpinError::AccessDenied,
            OpenError::NoDatabase => SpinError::NoSuchStore,
        }))
    }

    fn get(
        &mut self,
        store: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, SpinError>> {
        Ok(self.store(&store)?.get(&key).map_err(|error| spin_error(&error)))
    }

    fn set(
        &mut self,
        store: Resource<OpenStore>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), SpinError>> {
        if let Some(reason) = too_large(&value) {
            return Ok(Err(SpinError::Other(reason)));
        }
        Ok(self.store(&store)?.set(&key, Some(&value)).map_err(|error| spin_error(&error)))
    }

    fn delete(
        &mut self,
        store: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<(), SpinError>> {
        Ok(self.store(&store)?.set(&key, None).map_err(|error| spin_error(&error)))
    }

    fn exists(
        &mut self,
        store: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<bool, SpinError>> {
        let found = self.store(&store)?.get(&key);
        Ok(found.map(|value| value.is_some()).map_err(|error| spin_error(&error)))
    }

    fn get_keys(
        &mut self,
        store: Resource<OpenStore>,
    ) -> wasmtime::Result<Result<Vec<String>, SpinError>> {
        Ok(self.store(&store)?.keys(None, usize::MAX).map_err(|error| spin_error(&error)))
    }

    fn drop(&mut self, store: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.table_mut().delete(store)?;
        Ok(())
    }
}

fn wasi_error(error: &redb::Error) -> WasiError {
    WasiError::Other(error.to_string())
}

impl wasi_store::Host for InstanceState {
    fn open(
        &mut self,
        identifier: String,
    ) -> wasmtime::Result<Result<Resource<OpenStore>, WasiError>> {
        Ok(self.open_store(&identifier)?.map_err(|error| match error {
            OpenError::NotGranted => WasiError::AccessDenied,
            OpenError::NoDatabase => WasiError::NoSuchStore,
        }))
    }
}

impl wasi_store::HostBucket for InstanceState {
    fn get(
        &mut self,
        bucket: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, WasiError>> {
        Ok(self.store(&bucket)?.get(&key).map_err(|error| wasi_error(&error)))
    }

    fn set(
        &mut self,
        bucket: Resource<OpenStore>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), WasiError>> {
        if let Some(reason) = too_large(&value) {
            return Ok(Err(WasiError::Other(reason)));
        }
        Ok(self.store(&bucket)?.set(&key, Some(&value)).map_err(|error| wasi_error(&error)))
    }

    fn delete(
        &mut self,
        bucket: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<(), WasiError>> {
        Ok(self.store(&bucket)?.set(&key, None).map_err(|error| wasi_error(&error)))
    }

    fn exists(
        &mut self,
        bucket: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<bool, WasiError>> {
        let found = self.store(&bucket)?.get(&key);
        Ok(found.map(|value| value.is_some()).map_err(|error| wasi_error(&error)))
    }

    fn list_keys(
        &mut self,
        bucket: Resource<OpenStore>,
        cursor: Option<String>,
    ) -> wasmtime::Result<Result<KeyResponse, WasiError>> {
        let keys = self.store(&bucket)?.keys(cursor.as_deref(), MAX_KEYS_PER_CALL);
        Ok(keys.map_err(|error| wasi_error(&error)).map(|keys| KeyResponse {
            cursor: (keys.len() == MAX_KEYS_PER_CALL).then(|| keys.last().cloned()).flatten(),
            keys,
        }))
    }

    fn drop(&mut self, bucket: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.table_mut().delete(bucket)?;
        Ok(())
    }
}
