//! Persistent key-value stores for components of Spin 4: `spin:key-value@3`, whose functions do not block the guest.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Accessor, Destination, FutureReader, Linker, Resource, StreamProducer, StreamReader,
    StreamResult, VecBuffer,
};

use super::entries::KeyPage;
use super::store::OpenStore;
use super::{KeyValue, KeyValueView, OpenError};

// As in the WIT of Spin's Rust SDK 7.0.0.
mod bindings {
    wasmtime::component::bindgen!({
        inline: "
            package spin:key-value@3.0.0;
            interface key-value {
                resource store {
                    open: static async func(label: string) -> result<store, error>;
                    get: async func(key: string) -> result<option<list<u8>>, error>;
                    set: async func(key: string, value: list<u8>) -> result<_, error>;
                    delete: async func(key: string) -> result<_, error>;
                    exists: async func(key: string) -> result<bool, error>;
                    get-keys: async func() -> tuple<stream<string>, future<result<_, error>>>;
                }
                variant error { store-table-full, no-such-store, access-denied, other(string) }
            }
            world imports { import key-value; }
        ",
        with: { "spin:key-value/key-value.store": crate::key_value::store::OpenStore },
        imports: { default: trappable },
    });
}

use bindings::spin::key_value::key_value::{self, Error};

/// The most keys that are read from the database at once.
const KEYS_PER_READ: usize = 128;

/// Adds the interface to the linker. `host_getter` finds what it needs in an instance's state.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host_getter: fn(&mut T) -> KeyValueView<'_>,
) -> anyhow::Result<()> {
    Ok(key_value::add_to_linker::<T, KeyValue>(linker, host_getter)?)
}

impl key_value::Host for KeyValueView<'_> {}

impl key_value::HostStore for KeyValueView<'_> {
    fn drop(&mut self, store: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

/// The store that a handle stands for.
fn opened<T>(
    accessor: &Accessor<T, KeyValue>,
    store: &Resource<OpenStore>,
) -> wasmtime::Result<OpenStore> {
    accessor.with(|mut view| view.get().opened(store))
}

/// Runs an operation on a store, with arguments of this size, once the instance may run another.
async fn run<T, R, F: Future<Output = anyhow::Result<R>>>(
    accessor: &Accessor<T, KeyValue>,
    store: &Resource<OpenStore>,
    bytes: usize,
    operation: impl FnOnce(OpenStore) -> F,
) -> wasmtime::Result<Result<R, Error>> {
    let store = opened(accessor, store)?;
    let permit = accessor.with(|mut view| view.get().grant.permit(bytes));
    let done = async {
        let _permit = permit.await?;
        operation(store).await
    };
    Ok(done.await.map_err(failure))
}

#[allow(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
fn failure(error: anyhow::Error) -> Error {
    Error::Other(format!("{error:#}"))
}

impl<T> key_value::HostStoreWithStore<T> for KeyValue {
    async fn open(
        accessor: &Accessor<T, Self>,
        label: String,
    ) -> wasmtime::Result<Result<Resource<OpenStore>, Error>> {
        let opened = accessor.with(|mut view| view.get().open_store(&label))?;
        Ok(opened.map_err(|error| match error {
            OpenError::NotGranted => Error::AccessDenied,
            OpenError::NoDatabase => Error::NoSuchStore,
        }))
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        let bytes = key.len();
        run(accessor, &store, bytes, |store| async move { store.get(key).await }).await
    }

    async fn set(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let bytes = key.len() + value.len();
        run(accessor, &store, bytes, |store| async move { store.set(key, value).await }).await
    }

    async fn delete(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        let bytes = key.len();
        run(accessor, &store, bytes, |store| async move { store.delete(key).await }).await
    }

    async fn exists(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<bool, Error>> {
        let bytes = key.len();
        run(accessor, &store, bytes, |store| async move { store.exists(key).await }).await
    }

    async fn get_keys(
        accessor: &Accessor<T, Self>,
        store: Resource<OpenStore>,
    ) -> wasmtime::Result<(StreamReader<String>, FutureReader<Result<(), Error>>)> {
        let store = opened(accessor, &store)?;
        let (result, ended) = oneshot::channel();
        // A guest that has read enough drops the stream, and gets no error.
        let ended = async { wasmtime::error::Ok(ended.await.unwrap_or(Ok(()))) };
        accessor.with(|mut view| {
            let keys =
                Keys { store, position: Position::At(None), read: None, result: Some(result) };
            let keys = StreamReader::new(&mut view, keys)?;
            Ok((keys, FutureReader::new(&mut view, ended)?))
        })
    }
}

/// A store's keys, read in steps, so that a store of any size can be listed.
struct Keys {
    store: OpenStore,
    position: Position,
    read: Option<JoinHandle<anyhow::Result<KeyPage>>>,
    /// Receives the result.
    result: Option<oneshot::Sender<Result<(), Error>>>,
}

/// How far the keys have been read.
enum Position {
    /// The next page begins here.
    At(Option<String>),
    End,
}

impl Keys {
    fn end(&mut self, result: Result<(), Error>) -> Poll<wasmtime::Result<StreamResult>> {
        if let Some(receiver) = self.result.take() {
            // The guest may have dropped the other end.
            let _ = receiver.send(result);
        }
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}

impl<D> StreamProducer<D> for Keys {
    type Item = String;
    type Buffer = VecBuffer<String>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, String, VecBuffer<String>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        // The guest asks whether it can read: keys are only produced for a read.
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let this = &mut *self;
        loop {
            let Position::At(start) = &this.position else { return this.end(Ok(())) };
            let reading = this.read.get_or_insert_with(|| {
                let (store, start) = (this.store.clone(), start.clone());
                tokio::spawn(async move { store.page(start, KEYS_PER_READ).await })
            });
            let page = match Pin::new(reading).poll(context) {
                Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(page) => page?,
            };
            this.read = None;
            let KeyPage { keys, next } = match page {
                Ok(page) => page,
                Err(error) => return this.end(Err(failure(error))),
            };
            this.position = next.map_or(Position::End, |next| Position::At(Some(next)));
            // A page may be empty although there is another.
            if !keys.is_empty() {
                destination.set_buffer(keys.into());
                return Poll::Ready(Ok(StreamResult::Completed));
            }
        }
    }
}
