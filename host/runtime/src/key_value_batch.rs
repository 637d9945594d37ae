//! Many keys in one call, and atomic changes: `wasi:keyvalue/batch` and `wasi:keyvalue/atomics`.

use blake3::Hash;
use wasmtime::component::Resource;

use super::key_value::atomics::{self, CasError};
use super::key_value::{KeyValueView, WasiError, batch};
use super::key_value_database::{Comparison, OpenStore};

/// What the values of one call may have together, in bytes.
const MAX_VALUES_BYTES: usize = 16 << 20;

/// A key, and its value if it has one.
type Entry = (String, Option<Vec<u8>>);

fn hash(value: Option<&[u8]>) -> Option<Hash> {
    value.map(blake3::hash)
}

fn read(store: &OpenStore, keys: Vec<String>) -> anyhow::Result<Vec<Entry>> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for key in keys {
        let value = store.get(&key)?;
        bytes += value.as_ref().map_or(0, Vec::len);
        anyhow::ensure!(
            bytes <= MAX_VALUES_BYTES,
            "the values have more than {MAX_VALUES_BYTES} bytes: read them with more calls"
        );
        entries.push((key, value));
    }
    Ok(entries)
}

impl batch::Host for KeyValueView<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<OpenStore>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Entry>, WasiError>> {
        let entries = self.run(&bucket, move |store| read(store, keys)).await?;
        Ok(entries.map_err(WasiError::Other))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<OpenStore>,
        key_values: Vec<(String, Vec<u8>)>,
    ) -> wasmtime::Result<Result<(), WasiError>> {
        let set = self.run(&bucket, move |store| {
            key_values.iter().try_for_each(|(key, value)| store.set(key, Some(value)))
        });
        Ok(set.await?.map_err(WasiError::Other))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<OpenStore>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), WasiError>> {
        let deleted =
            self.run(&bucket, move |store| keys.iter().try_for_each(|key| store.set(key, None)));
        Ok(deleted.await?.map_err(WasiError::Other))
    }
}

impl KeyValueView<'_> {
    /// Reads a key's value, to be replaced unless it has changed since.
    async fn compare(
        &mut self,
        store: OpenStore,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Comparison>, WasiError>> {
        let read = tokio::task::spawn_blocking(move || {
            let seen = hash(store.get(&key)?.as_deref());
            Ok::<_, anyhow::Error>(Comparison { store, key, seen })
        });
        match read.await? {
            Ok(comparison) => Ok(Ok(self.table.push(comparison)?)),
            Err(error) => Ok(Err(WasiError::Other(format!("{error:#}")))),
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
        let sum = self.run(&bucket, move |store| store.increment(&key, delta)).await?;
        Ok(sum.map_err(WasiError::Other))
    }

    async fn swap(
        &mut self,
        cas: Resource<Comparison>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), CasError>> {
        let Comparison { store, key, seen } = self.table.delete(cas)?;
        let (of_swap, own_key) = (store.clone(), key.clone());
        let swap = move || of_swap.swap(&own_key, |current| hash(current) == seen, &value);
        let error = match tokio::task::spawn_blocking(swap).await? {
            Ok(true) => return Ok(Ok(())),
            Ok(false) => match self.compare(store, key).await? {
                Ok(again) => CasError::CasFailed(again),
                Err(error) => CasError::StoreError(error),
            },
            Err(error) => CasError::StoreError(WasiError::Other(format!("{error:#}"))),
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
        let store = self.table.get(&bucket)?.clone();
        self.compare(store, key).await
    }

    async fn current(
        &mut self,
        cas: Resource<Comparison>,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, WasiError>> {
        let Comparison { store, key, .. } = self.table.get(&cas)?.clone();
        match tokio::task::spawn_blocking(move || store.get(&key)).await? {
            Ok(value) => {
                self.table.get_mut(&cas)?.seen = hash(value.as_deref());
                Ok(Ok(value))
            }
            Err(error) => Ok(Err(WasiError::Other(format!("{error:#}")))),
        }
    }

    async fn drop(&mut self, cas: Resource<Comparison>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::key_value_database::{KeyValueDatabase, MAX_VALUE_BYTES};

    #[test]
    fn the_values_of_one_call_are_bounded_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key_value.redb");
        let store = KeyValueDatabase::open(&path, 10 << 20).unwrap().store("a");
        store.set("large", Some(&[7; MAX_VALUE_BYTES])).unwrap();
        let keys = |times: usize| {
            let large = std::iter::repeat_n("large".to_owned(), times);
            large.chain(["none".to_owned()]).collect::<Vec<_>>()
        };
        let entries = read(&store, keys(16)).unwrap();
        assert_eq!(entries.len(), 17);
        assert_eq!(entries[0].1.as_ref().map(Vec::len), Some(MAX_VALUE_BYTES));
        assert_eq!(entries[16], ("none".to_owned(), None));
        let refused = read(&store, keys(17)).unwrap_err().to_string();
        assert!(refused.contains("more than 16777216 bytes"), "{refused}");
    }
}
