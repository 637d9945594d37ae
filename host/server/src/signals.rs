//! The signals that stop the server, and the one that reloads its certificate.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the server handles.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
pub enum SignalAction {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP: to read the certificate again.
    Reload,
}

impl Signals {
    /// Installs handlers, so that these signals no longer terminate the process.
    ///
    /// # Errors
    /// If the system refuses to install a handler.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot receive SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot receive SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("cannot receive SIGHUP")?,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.terminate.recv() => SignalAction::Stop,
            _ = self.interrupt.recv() => SignalAction::Stop,
            _ = self.hangup.recv() => SignalAction::Reload,
        }
    }

    /// Waits for the next signal to stop.
    pub async fn stop(&mut self) {
        while let SignalAction::Reload = self.next().await {}
    }
}
