//! How much an instance may have waiting in the host's memory: the arguments of calls whose turn has not come.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most that may wait, in bytes: as much as one call may pass.
pub(crate) const MAX_WAITING_BYTES: usize = 16 << 20;

/// How many more bytes may wait.
pub(crate) struct WaitingBytes(Arc<Semaphore>);

/// A call would have to wait although as much as is allowed waits already.
#[derive(Debug)]
pub(crate) struct TooManyWaitingBytes;

impl WaitingBytes {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_WAITING_BYTES)))
    }

    /// Counts a call's arguments as long as the permit is held.
    ///
    /// # Errors
    /// If too much would wait.
    pub(crate) fn add(&self, bytes: usize) -> Result<OwnedSemaphorePermit, TooManyWaitingBytes> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.0).try_acquire_many_owned(bytes).map_err(|_| TooManyWaitingBytes)
    }
}

impl Display for TooManyWaitingBytes {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "more than {MAX_WAITING_BYTES} bytes would wait: wait for earlier calls to finish"
        )
    }
}

impl std::error::Error for TooManyWaitingBytes {}

#[cfg(test)]
mod tests {
    use super::{MAX_WAITING_BYTES, WaitingBytes};

    #[test]
    fn bytes_count_until_their_permit_is_dropped() {
        let waiting = WaitingBytes::new();
        let all = waiting.add(MAX_WAITING_BYTES).unwrap();
        assert!(waiting.add(1).unwrap_err().to_string().contains("16777216 bytes would wait"));
        drop(all);
        drop(waiting.add(1).unwrap());
        assert!(waiting.add(usize::MAX).is_err());
    }
}
