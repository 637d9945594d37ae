//! Drains the server after a signal to stop: connections end once their requests are finished, or when the grace period
//! is over.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::timeouts::Activity;
use crate::Server;
use crate::signals::Signals;

/// Waits until all connections and guests have finished, the grace period is over, or a signal arrives.
pub(super) async fn finish_requests(
    server: Arc<Server>,
    tasks: &TaskTracker,
    signals: &mut Signals,
) {
    let grace = server.limits().grace;
    tracing::info!(connections = tasks.len(), ?grace, "stopping: finishing the requests in flight");
    tasks.close();
    let finish = async {
        tasks.wait().await;
        server.finish().await;
    };
    tokio::select! {
        () = finish => tracing::info!("stopped: all requests have finished"),
        () = tokio::time::sleep(grace) => tracing::warn!(?grace, "stopped: not all requests have finished"),
        () = signals.stop() => tracing::warn!("stopped immediately: a second signal arrived"),
    }
}

/// Waits until shutdown begins.
pub(crate) async fn requested(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender, and so the server, is gone.
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
}

/// Runs a future to its end. Once the server stops, its connection ends if it is idle, or becomes so.
pub(super) async fn or_drain<T>(
    activity: &Activity,
    stopping: &mut watch::Receiver<bool>,
    future: impl Future<Output = T>,
) -> T {
    let mut future = std::pin::pin!(future);
    tokio::select! {
        biased;
        output = &mut future => output,
        () = requested(stopping) => {
            // Not hyper's own graceful shutdown, which would close the connection even if a request has arrived
            // that hyper has not read yet.
            activity.drain();
            future.await
        }
    }
}
