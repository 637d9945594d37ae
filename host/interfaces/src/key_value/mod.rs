//! Persistent key-value stores for components: `fermyon:spin/key-value` and `wasi:keyvalue`.

mod batch_and_atomics;
mod database;
mod entries;
mod redis_connection;
mod redis_store;
pub mod store;
pub mod version_3;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use crate::waiting_bytes::WaitingBytes;
use entries::KeyPage;
use store::{KeyValueStores, OpenStore};

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
        with: { "fermyon:spin/key-value.store": crate::key_value::store::OpenStore },
        imports: { default: async | trappable },
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
            interface batch {
                use store.{bucket, error};
                get-many: func(bucket: borrow<bucket>, keys: list<string>)
                    -> result<list<tuple<string, option<list<u8>>>>, error>;
                set-many: func(bucket: borrow<bucket>, key-values: list<tuple<string, list<u8>>>)
                    -> result<_, error>;
                delete-many: func(bucket: borrow<bucket>, keys: list<string>) -> result<_, error>;
            }
            interface atomics {
                use store.{bucket, error};
                variant cas-error { store-error(error), cas-failed(cas) }
                resource cas {
                    new: static func(bucket: borrow<bucket>, key: string) -> result<cas, error>;
                    current: func() -> result<option<list<u8>>, error>;
                }
                increment: func(bucket: borrow<bucket>, key: string, delta: s64) -> result<s64, error>;
                swap: func(cas: cas, value: list<u8>) -> result<_, cas-error>;
            }
            world imports { import store; import batch; import atomics; }
        ",
        with: {
            "wasi:keyvalue/store.bucket": crate::key_value::store::OpenStore,
            "wasi:keyvalue/atomics.cas": crate::key_value::store::Comparison,
        },
        imports: { default: async | trappable },
    });
}

use spin::fermyon::spin::key_value::{self as spin_store, Error as SpinError};
pub(crate) use wasi::wasi::keyvalue::store::Error as WasiError;
use wasi::wasi::keyvalue::store::{self as wasi_store, KeyResponse};
pub(crate) use wasi::wasi::keyvalue::{atomics, batch};

/// About how many keys one call of `list-keys` returns.
const MAX_KEYS_PER_CALL: usize = 1000;

/// How many operations of one instance may run at once. On a store in a file, each takes a thread.
const MAX_CONCURRENT_OPERATIONS: usize = 8;

/// The stores that one component may open.
#[derive(Clone)]
pub struct KeyValueGrant {
    stores: Arc<KeyValueStores>,
    labels: Arc<[String]>,
    /// How many more operations of an instance may run.
    permits: Arc<Semaphore>,
    waiting: Arc<WaitingBytes>,
}

impl KeyValueGrant {
    pub fn new(stores: Arc<KeyValueStores>, labels: &[String]) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_CONCURRENT_OPERATIONS));
        let waiting = Arc::new(WaitingBytes::new());
        Self { stores, labels: labels.into(), permits, waiting }
    }

    /// The same for a new instance, which runs no operation yet.
    pub fn for_instance(&self) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_CONCURRENT_OPERATIONS));
        Self { permits, waiting: Arc::new(WaitingBytes::new()), ..self.clone() }
    }

    /// Waits until another operation, with arguments of this size in bytes, may run.
    ///
    /// # Errors
    /// If too much would wait.
    pub(crate) fn permit(
        &self,
        bytes: usize,
    ) -> impl Future<Output = anyhow::Result<[OwnedSemaphorePermit; 2]>> + use<> {
        let (permits, waiting) = (Arc::clone(&self.permits), Arc::clone(&self.waiting));
        async move { Ok([waiting.add(bytes)?, permits.acquire_owned().await?]) }
    }
}

/// What the interfaces need of an instance's state.
pub struct KeyValueView<'a> {
    pub table: &'a mut ResourceTable,
    pub grant: &'a KeyValueGrant,
}

pub(crate) struct KeyValue;

impl HasData for KeyValue {
    type Data<'a> = KeyValueView<'a>;
}

/// Adds these interfaces to the linker. `host_getter` finds what they need in an instance's state.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host_getter: fn(&mut T) -> KeyValueView<'_>,
) -> anyhow::Result<()> {
    spin_store::add_to_linker::<T, KeyValue>(linker, host_getter)?;
    wasi_store::add_to_linker::<T, KeyValue>(linker, host_getter)?;
    batch::add_to_linker::<T, KeyValue>(linker, host_getter)?;
    atomics::add_to_linker::<T, KeyValue>(linker, host_getter)?;
    Ok(())
}

/// Why a store cannot be opened.
pub(crate) enum OpenError {
    NotGranted,
    NoDatabase,
}

impl KeyValueView<'_> {
    pub(crate) fn open_store(
        &mut self,
        label: &str,
    ) -> wasmtime::Result<Result<Resource<OpenStore>, OpenError>> {
        if !self.grant.labels.iter().any(|granted| granted == label) {
            return Ok(Err(OpenError::NotGranted));
        }
        let Some(store) = self.grant.stores.store(label) else {
            return Ok(Err(OpenError::NoDatabase));
        };
        Ok(Ok(self.table.push(store)?))
    }

    /// The store that a handle stands for.
    pub(crate) fn opened(&self, store: &Resource<OpenStore>) -> wasmtime::Result<OpenStore> {
        Ok(self.table.get(store)?.clone())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
pub(crate) fn failure(error: anyhow::Error) -> WasiError {
    WasiError::Other(format!("{error:#}"))
}

#[allow(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
fn spin_failure(error: anyhow::Error) -> SpinError {
    SpinError::Other(format!("{error:#}"))
}

impl spin_store::Host for KeyValueView<'_> {}

impl spin_store::HostStore for KeyValueView<'_> {
    async fn open(
        &mut self,
        label: String,
    ) -> wasmtime::Result<Result<Resource<OpenStore>, SpinError>> {
        Ok(self.open_store(&label)?.map_err(|error| match error {
            OpenError::NotGranted => SpinError::AccessDenied,
            OpenError::NoDatabase => SpinError::NoSuchStore,
        }))
    }

    async fn get(
        &mut self,
        store: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, SpinError>> {
        let store = self.opened(&store)?;
        Ok(store.get(key).await.map_err(spin_failure))
    }

    async fn set(
        &mut self,
        store: Resource<OpenStore>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), SpinError>> {
        let store = self.opened(&store)?;
        Ok(store.set(key, value).await.map_err(spin_failure))
    }

    async fn delete(
        &mut self,
        store: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<(), SpinError>> {
        let store = self.opened(&store)?;
        Ok(store.delete(key).await.map_err(spin_failure))
    }

    async fn exists(
        &mut self,
        store: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<bool, SpinError>> {
        let store = self.opened(&store)?;
        Ok(store.exists(key).await.map_err(spin_failure))
    }

    async fn get_keys(
        &mut self,
        store: Resource<OpenStore>,
    ) -> wasmtime::Result<Result<Vec<String>, SpinError>> {
        let store = self.opened(&store)?;
        Ok(store.keys().await.map_err(spin_failure))
    }

    async fn drop(&mut self, store: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

impl wasi_store::Host for KeyValueView<'_> {
    async fn open(
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
    async fn get(
        &mut self,
        bucket: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, WasiError>> {
        let store = self.opened(&bucket)?;
        Ok(store.get(key).await.map_err(failure))
    }

    async fn set(
        &mut self,
        bucket: Resource<OpenStore>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), WasiError>> {
        let store = self.opened(&bucket)?;
        Ok(store.set(key, value).await.map_err(failure))
    }

    async fn delete(
        &mut self,
        bucket: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<(), WasiError>> {
        let store = self.opened(&bucket)?;
        Ok(store.delete(key).await.map_err(failure))
    }

    async fn exists(
        &mut self,
        bucket: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<bool, WasiError>> {
        let store = self.opened(&bucket)?;
        Ok(store.exists(key).await.map_err(failure))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<OpenStore>,
        cursor: Option<String>,
    ) -> wasmtime::Result<Result<KeyResponse, WasiError>> {
        let store = self.opened(&bucket)?;
        let page = store.page(cursor, MAX_KEYS_PER_CALL).await.map_err(failure);
        Ok(page.map(|KeyPage { keys, next }| KeyResponse { keys, cursor: next }))
    }

    async fn drop(&mut self, bucket: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        KeyValueGrant, KeyValueStores, KeyValueView, MAX_CONCURRENT_OPERATIONS, OpenStore,
        spin_store,
    };
    use crate::waiting_bytes::MAX_WAITING_BYTES;
    use spin_store::HostStore;
    use std::sync::Arc;
    use std::time::Duration;
    use wasmtime::component::{Resource, ResourceTable};

    /// On a single thread, which the test itself would block if a host function did.
    #[tokio::test]
    async fn a_guest_that_waits_for_the_store_holds_up_nobody_and_can_be_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let mut stores = KeyValueStores::default();
        stores.open_database(&folder.path().join("key_value.redb"), 1 << 20).unwrap();
        let locked = stores.lock();
        let grant = KeyValueGrant::new(Arc::new(stores), &["default".to_owned()]);
        let mut table = ResourceTable::new();
        let mut view = KeyValueView { table: &mut table, grant: &grant };
        let store = view.open("default".into()).await.unwrap().unwrap();
        let again = |store: &Resource<OpenStore>| Resource::new_borrow(store.rep());
        let set = view.set(again(&store), "key".into(), b"value".to_vec());
        assert!(tokio::time::timeout(Duration::from_millis(200), set).await.is_err());
        drop(locked);
        view.set(again(&store), "key".into(), b"value".to_vec()).await.unwrap().unwrap();
        let value = view.get(store, "key".into()).await.unwrap().unwrap();
        assert_eq!(value.as_deref(), Some(b"value".as_slice()));
    }

    #[tokio::test]
    async fn an_instances_operations_are_bounded_in_number_and_in_what_they_hold_together() {
        let grant = KeyValueGrant::new(Arc::default(), &[]);
        let mut running = Vec::new();
        for _ in 0..MAX_CONCURRENT_OPERATIONS {
            running.push(grant.permit(1).await.unwrap());
        }
        let waits = tokio::spawn(grant.permit(MAX_WAITING_BYTES / 2));
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        let refused = grant.permit(MAX_WAITING_BYTES / 2).await.unwrap_err();
        assert!(refused.to_string().contains("bytes would wait"), "{refused}");
        // Another instance has its own budget.
        drop(grant.for_instance().permit(MAX_WAITING_BYTES).await.unwrap());
        running.clear();
        drop(waits.await.unwrap().unwrap());
    }
}
