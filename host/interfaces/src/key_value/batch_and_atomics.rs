//! Many keys in one call, and atomic changes: `wasi:keyvalue/batch` and `wasi:keyvalue/atomics`.

use wasmtime::component::Resource;

use super::atomics::{self, CasError};
use super::entries::{Entry, hash};
use super::store::{Comparison, OpenStore};
use super::{KeyValueView, WasiError, batch, failure};

impl batch::Host for KeyValueView<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<OpenStore>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Entry>, WasiError>> {
        let store = self.opened(&bucket)?;
        Ok(store.get_many(keys).await.map_err(failure))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<OpenStore>,
        key_values: Vec<(String, Vec<u8>)>,
    ) -> wasmtime::Result<Result<(), WasiError>> {
        let store = self.opened(&bucket)?;
        Ok(store.set_many(key_values).await.map_err(failure))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<OpenStore>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), WasiError>> {
        let store = self.opened(&bucket)?;
        Ok(store.delete_many(keys).await.map_err(failure))
    }
}

impl KeyValueView<'_> {
    /// Reads a key's value, to be replaced unless it has changed since.
    async fn compare(
        &mut self,
        store: OpenStore,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Comparison>, WasiError>> {
        match store.get(key.clone()).await {
            Ok(value) => {
                let seen = hash(value.as_deref());
                Ok(Ok(self.table.push(Comparison { store, key, seen })?))
            }
            Err(error) => Ok(Err(failure(error))),
        }
    }
}

impl atomics::Host for KeyValueView<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<OpenStore>,
        key: String,
        delta: i64,
    ) -> wasmtime::Result<Result<i64, WasiError>> {
        let store = self.opened(&bucket)?;
        Ok(store.increment(key, delta).await.map_err(failure))
    }

    async fn swap(
        &mut self,
        cas: Resource<Comparison>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), CasError>> {
        let Comparison { store, key, seen } = self.table.delete(cas)?;
        let error = match store.swap(key.clone(), seen, value).await {
            Ok(true) => return Ok(Ok(())),
            Ok(false) => match self.compare(store, key).await? {
                Ok(again) => CasError::CasFailed(again),
                Err(error) => CasError::StoreError(error),
            },
            Err(error) => CasError::StoreError(failure(error)),
        };
        Ok(Err(error))
    }
}

impl atomics::HostCas for KeyValueView<'_> {
    async fn new(
        &mut self,
        bucket: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Comparison>, WasiError>> {
        let store = self.opened(&bucket)?;
        self.compare(store, key).await
    }

    async fn current(
        &mut self,
        cas: Resource<Comparison>,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, WasiError>> {
        let Comparison { store, key, .. } = self.table.get(&cas)?.clone();
        match store.get(key).await {
            Ok(value) => {
                self.table.get_mut(&cas)?.seen = hash(value.as_deref());
                Ok(Ok(value))
            }
            Err(error) => Ok(Err(failure(error))),
        }
    }

    async fn drop(&mut self, cas: Resource<Comparison>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}
