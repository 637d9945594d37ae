//! Runs a guest on a thread of its own.
//!
//! While the guest computes, however long, the server's own threads can answer other clients. Linux also places a new
//! thread on an idle core, whereas it can leave an existing thread waiting for milliseconds on a core that another
//! thread occupies.

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Closes when the guest has ended, was stopped, or could not be started.
pub(crate) type Ended = oneshot::Receiver<()>;

/// Starts the thread. It runs the guest until the guest ends or, if it is cancelled, until the guest next waits. The
/// thread serves no other guest: its priority can be lowered for good.
pub(crate) fn start(
    guest: impl Future<Output = ()> + Send + 'static,
    cancelled: CancellationToken,
) -> Ended {
    let runtime = Handle::current();
    let (running, ended) = oneshot::channel();
    let run = move || {
        let _running = running;
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = cancelled.cancelled() => {}
                () = guest => {}
            }
        });
    };
    if let Err(error) = std::thread::Builder::new().name("guest".into()).spawn(run) {
        // The guest is dropped, so its client gets an error.
        tracing::error!(%error, "cannot start a thread for an instance");
    }
    ended
}
