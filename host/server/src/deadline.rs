//! A time limit that starts again with each sign of progress.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A deadline that passes once no progress has been reported for `limit`.
pub(crate) struct Deadline {
    limit: Duration,
    last: Mutex<Instant>,
}

impl Deadline {
    /// A deadline that starts now.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, last: Mutex::new(Instant::now()) }
    }

    fn end(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) + self.limit
    }

    /// Restarts the time limit.
    pub(crate) fn extend(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits until the deadline has passed.
    pub(crate) async fn passed(&self) {
        let mut end = self.end();
        loop {
            tokio::time::sleep_until(end).await;
            let extended = self.end();
            if extended == end {
                return;
            }
            end = extended;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Deadline;
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn progress_starts_the_time_again_and_its_lack_ends_it() {
        const LIMIT: Duration = Duration::from_millis(200);
        let deadline = Deadline::new(LIMIT);
        let began = Instant::now();
        let progress = async {
            for _ in 0..4 {
                tokio::time::sleep(LIMIT / 2).await;
                deadline.extend();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = progress => {}
            () = deadline.passed() => {}
        }
        assert!(began.elapsed() >= LIMIT * 3, "{:?}", began.elapsed());
    }
}
