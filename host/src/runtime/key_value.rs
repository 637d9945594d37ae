//! Persistent key-value stores for components: `fermyon:spin/key-value` and `wasi:keyvalue/store`.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

pub(super) use super::database::KeyValueDatabase;
use super::database::OpenStore;

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
        with: { "fermyon:spin/key-value.store": crate::runtime::database::OpenStore },
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
        with: { "wasi:keyvalue/store.bucket": crate::runtime::database::OpenStore },
        imports: { default: trappable },
    });
}

use spin::fermyon::spin::key_value::{self as spin_store, Error as SpinError};
use wasi::wasi::keyvalue::store::{self as wasi_store, Error as WasiError, KeyResponse};

/// The largest value, in bytes.
const MAX_VALUE_BYTES: usize = 1 << 20;

/// The most keys that one call of `list-keys` returns.
const MAX_KEYS_PER_CALL: usize = 1000;

/// The stores that one component may open.
#[derive(Clone)]
pub(super) struct KeyValueGrant {
    database: Option<KeyValueDatabase>,
    labels: Arc<[String]>,
}

impl KeyValueGrant {
    pub(super) fn new(database: Option<KeyValueDatabase>, labels: &[String]) -> Self {
        Self { database, labels: labels.into() }
    }
}

/// What both interfaces need of an instance's state.
pub(super) struct KeyValueView<'a> {
    pub(super) table: &'a mut ResourceTable,
    pub(super) grant: &'a KeyValueGrant,
}

struct KeyValue;

impl HasData for KeyValue {
    type Data<'a> = KeyValueView<'a>;
}

/// Adds both interfaces to the linker. `of` finds what they need in an instance's state.
pub(super) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    of: fn(&mut T) -> KeyValueView<'_>,
) -> anyhow::Result<()> {
    spin_store::add_to_linker::<T, KeyValue>(linker, of)?;
    wasi_store::add_to_linker::<T, KeyValue>(linker, of)?;
    Ok(())
}

/// Why a store cannot be opened.
enum OpenError {
    NotGranted,
    NoDatabase,
}

impl KeyValueView<'_> {
    fn open_store(
        &mut self,
        label: &str,
    ) -> wasmtime::Result<Result<Resource<OpenStore>, OpenError>> {
        if !self.grant.labels.iter().any(|granted| granted == label) {
            return Ok(Err(OpenError::NotGranted));
        }
        let Some(database) = &self.grant.database else {
            return Ok(Err(OpenError::NoDatabase));
        };
        Ok(Ok(self.table.push(database.store(label))?))
    }

    fn store(&mut self, store: &Resource<OpenStore>) -> wasmtime::Result<&OpenStore> {
        Ok(self.table.get(store)?)
    }
}

fn too_large(value: &[u8]) -> Option<String> {
    (value.len() > MAX_VALUE_BYTES)
        .then(|| format!("the value has {} bytes; the limit is {MAX_VALUE_BYTES}", value.len()))
}

fn spin_error(error: &redb::Error) -> SpinError {
    SpinError::Other(error.to_string())
}

impl spin_store::Host for KeyValueView<'_> {}

impl spin_store::HostStore for KeyValueView<'_> {
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
        self.table.delete(store)?;
        Ok(())
    }
}

fn wasi_error(error: &redb::Error) -> WasiError {
    WasiError::Other(error.to_string())
}

impl wasi_store::Host for KeyValueView<'_> {
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

impl wasi_store::HostBucket for KeyValueView<'_> {
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
        self.table.delete(bucket)?;
        Ok(())
    }
}
