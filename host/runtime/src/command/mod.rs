//! Runs a command, `wasi:cli/run@0.2`, as a CGI program: what Spin calls the executor `wagi`.

mod cgi;
mod cgi_output;

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use anyhow::Context as _;
use bytes::{Buf, Bytes};
use http::Request;
use http_body::Body;
use tokio::io::{AsyncRead, ReadBuf};
use wasmtime::Store;
use wasmtime::component::InstancePre;
use wasmtime_wasi::cli::AsyncStdinStream;
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};
use wasmtime_wasi_http::WasiBody;

use crate::handler::ReplySender;
use crate::state::InstanceState;
use cgi_output::CgiOutput;

/// A linked command.
pub(crate) struct Command {
    command: CommandPre<InstanceState>,
    argv: String,
}

impl Command {
    /// A command, with the template of its arguments.
    ///
    /// # Errors
    /// If the component is not a command.
    pub(crate) fn new(linked: InstancePre<InstanceState>, argv: &str) -> anyhow::Result<Self> {
        let command = CommandPre::new(linked).map_err(anyhow::Error::from);
        let command = command
            .context("the executor `wagi` needs a component that exports wasi:cli/run@0.2")?;
        Ok(Self { command, argv: argv.to_owned() })
    }

    /// Creates an instance in `store` without running a request.
    ///
    /// # Errors
    /// If there is no free slot in the pool, or the instance fails to start.
    pub(crate) async fn instantiate(
        &self,
        store: &mut Store<InstanceState>,
    ) -> wasmtime::Result<()> {
        self.command.instantiate_async(store).await.map(drop)
    }

    /// Adds the request to a program's context. The component's own `environment` overrides the request's variables.
    /// Returns the program's output, which becomes the reply.
    pub(crate) fn connect(
        &self,
        wasi: &mut WasiCtxBuilder,
        environment: &BTreeMap<String, String>,
        request: Request<WasiBody>,
        reply: ReplySender,
    ) -> CgiOutput {
        let (parts, body) = request.into_parts();
        let length = body.size_hint().exact().unwrap_or_default();
        for (name, value) in cgi::variables(&parts, length) {
            if !environment.contains_key(&name) {
                wasi.env(name, value);
            }
        }
        wasi.args(&cgi::arguments(&self.argv, &parts));
        wasi.stdin(AsyncStdinStream::new(BodyReader {
            body: Mutex::new(body),
            chunk: Bytes::new(),
        }));
        let output = CgiOutput::new(reply);
        wasi.stdout(output.clone());
        output
    }

    /// Creates an instance in `store`, calls `on_instantiated`, and runs the program until it ends.
    ///
    /// # Errors
    /// If the program fails, or exceeds a limit.
    pub(crate) async fn run(
        &self,
        store: &mut Store<InstanceState>,
        output: &CgiOutput,
        on_instantiated: impl FnOnce(),
    ) -> wasmtime::Result<()> {
        let program = self.command.instantiate_async(&mut *store).await?;
        on_instantiated();
        let ended = program.wasi_cli_run().call_run(store).await;
        let status = match ended {
            Ok(ended) => i32::from(ended.is_err()),
            Err(error) => error.downcast::<I32Exit>()?.0,
        };
        if status != 0 {
            // The reply's body then ends with an error, once the store is dropped.
            return Err(wasmtime::Error::msg(format!(
                "the command ended with exit status {status}"
            )));
        }
        output.finish();
        Ok(())
    }
}

/// Reads a request's body.
struct BodyReader {
    /// The body need not be `Sync`; nobody else locks it.
    body: Mutex<WasiBody>,
    chunk: Bytes,
}

impl AsyncRead for BodyReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
            match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error.to_string()))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.chunk.len().min(into.remaining());
        into.put_slice(&self.chunk[..length]);
        self.chunk.advance(length);
        Poll::Ready(Ok(()))
    }
}
