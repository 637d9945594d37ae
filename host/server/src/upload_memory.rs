//! Limits the memory of all request bodies that are being received or are waiting for an instance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::fault::Fault;
use spotter_config::Limits;

/// A memory budget for request bodies. When it is used up, the bodies that have made no progress for the
/// longest are evicted.
pub struct UploadMemory {
    capacity: u64,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    /// Bytes of all bodies, including complete ones that are waiting for their guests.
    used: u64,
    /// The bodies that are being received, by id.
    in_progress: BTreeMap<u64, InProgress>,
    count: u64,
}

struct InProgress {
    bytes: u64,
    progressed: Instant,
    evicted: Arc<Notify>,
}

impl UploadMemory {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self { capacity: limits.upload_memory, ledger: Mutex::default() })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Evicts bodies other than `own` until `needed` bytes are freed. Evicts none if all of them together are
    /// too small.
    fn evict(&mut self, own: u64, needed: u64) -> bool {
        let others = self.in_progress.iter().filter(|(id, body)| **id != own && body.bytes > 0);
        let mut others: Vec<_> =
            others.map(|(id, body)| (body.progressed, *id, body.bytes)).collect();
        if others.iter().map(|(_, _, bytes)| bytes).sum::<u64>() < needed {
            return false;
        }
        others.sort_unstable();
        let mut freed = 0;
        for (_, id, bytes) in others {
            if freed >= needed {
                break;
            }
            if let Some(body) = self.in_progress.remove(&id) {
                body.evicted.notify_one();
            }
            // Its task drops them as soon as it runs.
            self.used -= bytes;
            freed += bytes;
        }
        true
    }
}

/// A body that is being received.
pub struct Upload {
    memory: Arc<UploadMemory>,
    id: u64,
    evicted: Arc<Notify>,
}

/// The memory of a complete body, released when dropped.
pub struct UploadPermit {
    memory: Arc<UploadMemory>,
    bytes: u64,
}

impl Upload {
    /// Registers a body that is about to be received.
    pub fn begin(memory: &Arc<UploadMemory>) -> Self {
        let evicted = Arc::new(Notify::new());
        let mut ledger = memory.ledger();
        ledger.count += 1;
        let id = ledger.count;
        let body =
            InProgress { bytes: 0, progressed: Instant::now(), evicted: Arc::clone(&evicted) };
        ledger.in_progress.insert(id, body);
        drop(ledger);
        Self { memory: Arc::clone(memory), id, evicted }
    }

    /// Reserves more bytes, evicting other bodies if necessary.
    ///
    /// # Errors
    /// [`Fault::UploadMemory`].
    pub fn reserve(&self, bytes: u64) -> Result<(), Fault> {
        let full = || Fault::UploadMemory { limit: self.memory.capacity };
        let mut ledger = self.memory.ledger();
        let missing = (ledger.used + bytes).saturating_sub(self.memory.capacity);
        if missing > 0 && !ledger.evict(self.id, missing) {
            return Err(full());
        }
        let body = ledger.in_progress.get_mut(&self.id).ok_or_else(full)?;
        body.bytes += bytes;
        body.progressed = Instant::now();
        ledger.used += bytes;
        Ok(())
    }

    /// Waits until the body is evicted.
    pub async fn evicted(&self) -> Fault {
        self.evicted.notified().await;
        Fault::UploadMemory { limit: self.memory.capacity }
    }

    /// Marks the body as complete. It can no longer be evicted.
    pub fn complete(self) -> UploadPermit {
        let body = self.memory.ledger().in_progress.remove(&self.id);
        UploadPermit { memory: Arc::clone(&self.memory), bytes: body.map_or(0, |body| body.bytes) }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut ledger = self.memory.ledger();
        if let Some(body) = ledger.in_progress.remove(&self.id) {
            ledger.used -= body.bytes;
        }
    }
}

impl Drop for UploadPermit {
    fn drop(&mut self) {
        self.memory.ledger().used -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::{Upload, UploadMemory};
    use spotter_config::Limits;

    #[test]
    fn those_that_stall_for_the_longest_make_room_and_only_where_that_does() {
        const CAPACITY_BYTES: u64 = 100 << 10;
        let memory =
            UploadMemory::new(&Limits { upload_memory: CAPACITY_BYTES, ..Limits::default() });
        let uploads: Vec<_> = (0..4).map(|_| Upload::begin(&memory)).collect();
        for (upload, bytes) in uploads.iter().zip([1, 40 << 10, 59 << 10]) {
            upload.reserve(bytes).unwrap();
        }
        uploads[0].reserve(1).unwrap();
        // More than all the others hold: none of them is evicted.
        assert!(uploads[3].reserve(CAPACITY_BYTES + 1).is_err());
        assert_eq!(memory.ledger().in_progress.len(), 4);
        // The second has made no progress for the longest.
        uploads[3].reserve(30 << 10).unwrap();
        let left: Vec<u64> = memory.ledger().in_progress.keys().copied().collect();
        assert_eq!(left, [1, 3, 4]);
        assert!(uploads[1].reserve(1).is_err());
        drop(uploads);
        assert_eq!(memory.ledger().used, 0);
    }

    #[test]
    fn what_is_whole_is_not_given_up_and_goes_back_when_it_is_dropped() {
        let memory = UploadMemory::new(&Limits { upload_memory: 100, ..Limits::default() });
        let first = Upload::begin(&memory);
        first.reserve(60).unwrap();
        let permit = first.complete();
        let second = Upload::begin(&memory);
        assert!(second.reserve(60).is_err());
        drop(permit);
        assert!(second.reserve(60).is_ok());
    }
}
