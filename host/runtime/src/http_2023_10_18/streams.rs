//! Streams and polling: the same as those of `wasi:io@0.2`, except for names.

use wasmtime::component::Resource;
use wasmtime::{Result, bail};
use wasmtime_wasi::p2::bindings::io::{
    error as released_error, poll as released_poll, streams as released,
};
use wasmtime_wasi::p2::{
    self, DynInputStream, DynOutputStream, DynPollable, IoError, StreamResult,
};
use wasmtime_wasi_http::WasiHttpCtxView;

use super::bindings::wasi::io::poll::{Host as PollHost, HostPollable};
use super::bindings::wasi::io::streams::{
    Host, HostError, HostInputStream, HostOutputStream, StreamError,
};

/// What a function of a stream returns: its result, or a trap.
type HostResult<T> = Result<std::result::Result<T, StreamError>>;

fn convert<T>(http: &mut WasiHttpCtxView<'_>, result: StreamResult<T>) -> HostResult<T> {
    Ok(match result {
        Ok(value) => Ok(value),
        Err(p2::StreamError::Closed) => Err(StreamError::Closed),
        Err(p2::StreamError::LastOperationFailed(error)) => {
            Err(StreamError::LastOperationFailed(http.table.push(error)?))
        }
        Err(p2::StreamError::Trap(error)) => return Err(error),
    })
}

impl PollHost for WasiHttpCtxView<'_> {
    async fn poll_list(&mut self, pollables: Vec<Resource<DynPollable>>) -> Result<Vec<u32>> {
        released_poll::Host::poll(self.table, pollables).await
    }

    async fn poll_one(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        released_poll::HostPollable::block(self.table, pollable).await
    }
}

impl HostPollable for WasiHttpCtxView<'_> {
    async fn drop(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        released_poll::HostPollable::drop(self.table, pollable)
    }
}

impl Host for WasiHttpCtxView<'_> {}

impl HostError for WasiHttpCtxView<'_> {
    async fn to_debug_string(&mut self, error: Resource<IoError>) -> Result<String> {
        released_error::HostError::to_debug_string(self.table, error)
    }

    async fn drop(&mut self, error: Resource<IoError>) -> Result<()> {
        released_error::HostError::drop(self.table, error)
    }
}

impl HostInputStream for WasiHttpCtxView<'_> {
    async fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> HostResult<Vec<u8>> {
        let read = released::HostInputStream::read(self.table, stream, len);
        convert(self, read)
    }

    async fn blocking_read(
        &mut self,
        stream: Resource<DynInputStream>,
        len: u64,
    ) -> HostResult<Vec<u8>> {
        let read = released::HostInputStream::blocking_read(self.table, stream, len).await;
        convert(self, read)
    }

    async fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> HostResult<u64> {
        let skipped = released::HostInputStream::skip(self.table, stream, len);
        convert(self, skipped)
    }

    async fn blocking_skip(
        &mut self,
        stream: Resource<DynInputStream>,
        len: u64,
    ) -> HostResult<u64> {
        let skipped = released::HostInputStream::blocking_skip(self.table, stream, len).await;
        convert(self, skipped)
    }

    async fn subscribe(
        &mut self,
        stream: Resource<DynInputStream>,
    ) -> Result<Resource<DynPollable>> {
        released::HostInputStream::subscribe(self.table, stream)
    }

    async fn drop(&mut self, stream: Resource<DynInputStream>) -> Result<()> {
        released::HostInputStream::drop(self.table, stream).await
    }
}

impl HostOutputStream for WasiHttpCtxView<'_> {
    async fn check_write(&mut self, stream: Resource<DynOutputStream>) -> HostResult<u64> {
        let checked = released::HostOutputStream::check_write(self.table, stream);
        convert(self, checked)
    }

    async fn write(
        &mut self,
        stream: Resource<DynOutputStream>,
        contents: Vec<u8>,
    ) -> HostResult<()> {
        let written = released::HostOutputStream::write(self.table, stream, contents);
        convert(self, written)
    }

    async fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        contents: Vec<u8>,
    ) -> HostResult<()> {
        let write = released::HostOutputStream::blocking_write_and_flush;
        let written = write(self.table, stream, contents).await;
        convert(self, written)
    }

    async fn flush(&mut self, stream: Resource<DynOutputStream>) -> HostResult<()> {
        let flushed = released::HostOutputStream::flush(self.table, stream);
        convert(self, flushed)
    }

    async fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> HostResult<()> {
        let flushed = released::HostOutputStream::blocking_flush(self.table, stream).await;
        convert(self, flushed)
    }

    async fn subscribe(
        &mut self,
        stream: Resource<DynOutputStream>,
    ) -> Result<Resource<DynPollable>> {
        released::HostOutputStream::subscribe(self.table, stream)
    }

    async fn write_zeroes(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> HostResult<()> {
        let written = released::HostOutputStream::write_zeroes(self.table, stream, len);
        convert(self, written)
    }

    async fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> HostResult<()> {
        let write = released::HostOutputStream::blocking_write_zeroes_and_flush;
        let written = write(self.table, stream, len).await;
        convert(self, written)
    }

    /// Takes the source itself, which 0.2 only borrows.
    async fn splice(
        &mut self,
        stream: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        len: u64,
    ) -> HostResult<u64> {
        let borrowed = Resource::new_borrow(source.rep());
        let moved = released::HostOutputStream::splice(self.table, stream, borrowed, len);
        released::HostInputStream::drop(self.table, source).await?;
        convert(self, moved)
    }

    async fn blocking_splice(
        &mut self,
        stream: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        len: u64,
    ) -> HostResult<u64> {
        let borrowed = Resource::new_borrow(source.rep());
        let splice = released::HostOutputStream::blocking_splice;
        let moved = splice(self.table, stream, borrowed, len).await;
        released::HostInputStream::drop(self.table, source).await?;
        convert(self, moved)
    }

    /// It could run for ever within one call, where nothing checks the limit on CPU time. Spin's host has none either.
    async fn forward(
        &mut self,
        _: Resource<DynOutputStream>,
        _: Resource<DynInputStream>,
    ) -> HostResult<u64> {
        bail!("`forward` of wasi:io@0.2.0-rc-2023-10-18 is not supported")
    }

    async fn drop(&mut self, stream: Resource<DynOutputStream>) -> Result<()> {
        released::HostOutputStream::drop(self.table, stream).await
    }
}
