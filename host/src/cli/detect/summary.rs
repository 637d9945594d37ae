//! Counts the pictures that failed, which decides the exit status of `spotter detect`.

use anyhow::ensure;
use spotter_progress::print_message;

/// How many pictures were tried, and failed.
#[derive(Default)]
pub(super) struct Summary {
    pub(super) done: usize,
    pub(super) failed: usize,
    /// Of those that failed: the ones that may succeed another time.
    pub(super) to_retry: usize,
}

impl Summary {
    pub(super) fn command_result(&self) -> anyhow::Result<()> {
        ensure!(self.failed == 0, "{} of {} pictures failed", self.failed, self.done);
        Ok(())
    }

    /// A picture that would fail again is not an error: it has its line in the results.
    pub(super) fn batch_result(&self) -> anyhow::Result<()> {
        let Self { done, failed, to_retry } = self;
        print_message(&format!("{done} pictures, {failed} of them failed"));
        ensure!(
            *to_retry == 0,
            "{to_retry} of {done} pictures failed but may succeed later: run the same command again"
        );
        Ok(())
    }
}
