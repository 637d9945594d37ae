//! Runs a guest on a thread of its own.
//!
//! The server's threads answer other clients meanwhile, however long the guest computes without a pause. Linux also
//! gives a new thread an idle core, while it can leave a thread for milliseconds on a core that another one occupies.

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Is closed when the guest has ended.
pub(super) type Ended = oneshot::Receiver<()>;

/// Starts the thread. It keeps its priority to its end, and runs the guest until the guest ends, or waits after it was
/// cancelled.
pub(super) fn start(
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
