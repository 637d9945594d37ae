//! Streams and polling: the same as those of `wasi:io@0.2`, except for names.

use wasmtime::component::{LinkerInstance, Resource, ResourceType};
use wasmtime::{Result, bail};
use wasmtime_wasi::p2::bindings::io::{
    error as released_error, poll as released_poll, streams as released,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, IoError, StreamResult};
use wasmtime_wasi_http::WasiHttpCtxView;

use super::{HostGetter, Reply};
use crate::release_candidates::linker_functions::{async_functions, functions, resources};
use released::{Host, HostInputStream as Input, HostOutputStream as Output, StreamError};

/// A stream's error is the guest's, any other one a trap.
fn reply<T>(
    http: &mut WasiHttpCtxView<'_>,
    result: StreamResult<T>,
) -> Result<Reply<T, StreamError>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Ok(Err(Host::convert_stream_error(http.table, error)?)),
    }
}

pub(super) fn add_poll<T: Send + 'static>(
    poll: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    resources!(poll, host:
        "pollable" => DynPollable, |io, it| released_poll::HostPollable::drop(io.table, it);
    );
    async_functions!(poll, host:
        "poll-list" => |io, pollables: Vec<Resource<DynPollable>>|
            released_poll::Host::poll(io.table, pollables).await;
    );
    poll.func_wrap_async("poll-one", move |mut store, (pollable,): (Resource<DynPollable>,)| {
        Box::new(async move {
            let io = host(store.data_mut());
            released_poll::HostPollable::block(io.table, pollable).await
        })
    })
}

pub(super) fn add_resources<T: Send + 'static>(
    streams: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    resources!(streams, host:
        "error" => IoError, |io, it| released_error::HostError::drop(io.table, it);
    );
    functions!(streams, host:
        "[method]error.to-debug-string" => |io, error: Resource<IoError>|
            released_error::HostError::to_debug_string(io.table, error);
    );
    let input = ResourceType::host::<DynInputStream>();
    streams.resource_async("input-stream", input, move |mut store, rep| {
        Box::new(
            async move { Input::drop(host(store.data_mut()).table, Resource::new_own(rep)).await },
        )
    })?;
    let output = ResourceType::host::<DynOutputStream>();
    streams.resource_async("output-stream", output, move |mut store, rep| {
        Box::new(
            async move { Output::drop(host(store.data_mut()).table, Resource::new_own(rep)).await },
        )
    })
}

pub(super) fn add_input_streams<T: Send + 'static>(
    streams: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    type Handle = Resource<DynInputStream>;
    functions!(streams, host:
        "[method]input-stream.subscribe" => |io, stream: Handle| Input::subscribe(io.table, stream);
        "[method]input-stream.read" => |io, stream: Handle, length: u64| {
            let read = Input::read(io.table, stream, length);
            reply(io, read)
        };
        "[method]input-stream.skip" => |io, stream: Handle, length: u64| {
            let skipped = Input::skip(io.table, stream, length);
            reply(io, skipped)
        };
    );
    async_functions!(streams, host:
        "[method]input-stream.blocking-read" => |io, stream: Handle, length: u64| {
            let read = Input::blocking_read(io.table, stream, length).await;
            reply(io, read)
        };
        "[method]input-stream.blocking-skip" => |io, stream: Handle, length: u64| {
            let skipped = Input::blocking_skip(io.table, stream, length).await;
            reply(io, skipped)
        };
    );
    Ok(())
}

pub(super) fn add_output_streams<T: Send + 'static>(
    streams: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    type Handle = Resource<DynOutputStream>;
    type Source = Resource<DynInputStream>;
    functions!(streams, host:
        "[method]output-stream.subscribe" => |io, stream: Handle| Output::subscribe(io.table, stream);
        "[method]output-stream.check-write" => |io, stream: Handle| {
            let checked = Output::check_write(io.table, stream);
            reply(io, checked)
        };
        "[method]output-stream.write" => |io, stream: Handle, contents: Vec<u8>| {
            let written = Output::write(io.table, stream, contents);
            reply(io, written)
        };
        "[method]output-stream.write-zeroes" => |io, stream: Handle, length: u64| {
            let written = Output::write_zeroes(io.table, stream, length);
            reply(io, written)
        };
        "[method]output-stream.flush" => |io, stream: Handle| {
            let flushed = Output::flush(io.table, stream);
            reply(io, flushed)
        };
        // It could run for ever within one call, where nothing checks the limit on CPU time. Spin's host has none either.
        "[method]output-stream.forward" => |_io, _stream: Handle, _source: Source| not_supported();
    );
    async_functions!(streams, host:
        "[method]output-stream.blocking-write-and-flush" => |io, stream: Handle, contents: Vec<u8>| {
            let written = Output::blocking_write_and_flush(io.table, stream, contents).await;
            reply(io, written)
        };
        "[method]output-stream.blocking-write-zeroes-and-flush" => |io, stream: Handle, length: u64| {
            let written = Output::blocking_write_zeroes_and_flush(io.table, stream, length).await;
            reply(io, written)
        };
        "[method]output-stream.blocking-flush" => |io, stream: Handle| {
            let flushed = Output::blocking_flush(io.table, stream).await;
            reply(io, flushed)
        };
        // These take the source itself, which 0.2 only borrows.
        "[method]output-stream.splice" => |io, stream: Handle, source: Source, length: u64| {
            let borrowed = Resource::new_borrow(source.rep());
            let moved = Output::splice(io.table, stream, borrowed, length);
            Input::drop(io.table, source).await?;
            reply(io, moved)
        };
        "[method]output-stream.blocking-splice" =>
            |io, stream: Handle, source: Source, length: u64| {
            let borrowed = Resource::new_borrow(source.rep());
            let moved = Output::blocking_splice(io.table, stream, borrowed, length).await;
            Input::drop(io.table, source).await?;
            reply(io, moved)
        };
    );
    Ok(())
}

fn not_supported() -> Result<Reply<u64, StreamError>> {
    bail!("`forward` of wasi:io@0.2.0-rc-2023-10-18 is not supported")
}
