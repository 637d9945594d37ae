//! The exit status of `spotter detect`: what became of the pictures.

use anyhow::ensure;
use spotter_progress::print_message;

/// How many pictures were tried, and failed.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) done: usize,
    pub(super) failed: usize,
    /// Of those that failed: the ones that may succeed another time.
    pub(super) to_retry: usize,
}

impl Tally {
    pub(super) fn of_command(&self) -> anyhow::Result<()> {
        ensure!(self.failed == 0, "{} of {} pictures failed", self.failed, self.done);
        Ok(())
    }

    /// A picture that is at fault itself has its line in the results, and would fail again.
    pub(super) fn of_batch(&self) -> anyhow::Result<()> {
        let Self { done, failed, to_retry } = self;
        print_message(&format!("{done} pictures, {failed} of them failed"));
        ensure!(
            *to_retry == 0,
            "{to_retry} of {done} pictures failed and may succeed another time: start it again"
        );
        Ok(())
    }
}
