//! Limits the memory of all requests that are being received or are waiting for an instance: that of their bodies, and
//! that of their headers, which are kept just as long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Notify;

use crate::reply::host_error::HostError;
use spotter_config::Limits;

/// A memory budget for requests. When it is used up, the bodies that have made no progress for the
/// longest are evicted.
pub(crate) struct UploadMemory {
    shared: Arc<UploadMemoryInner>,
    /// What the request's header takes, in bytes; 0 before there is a request.
    header: u64,
}

struct UploadMemoryInner {
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

/// What a field takes in a map of headers, in addition to its name and value.
const FIELD_BYTES: usize = size_of::<(HeaderName, HeaderValue)>();

struct InProgress {
    bytes: u64,
    progressed: Instant,
    evicted: Arc<Notify>,
}

impl UploadMemory {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let shared = UploadMemoryInner { capacity: limits.upload_memory, ledger: Mutex::default() };
        Arc::new(Self { shared: Arc::new(shared), header: 0 })
    }

    /// The same budget for one request, whose header counts with its body.
    pub(crate) fn with_header(&self, headers: &HeaderMap) -> Arc<Self> {
        let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        let bytes: usize = headers.iter().map(field).sum();
        Arc::new(Self {
            shared: Arc::clone(&self.shared),
            header: (bytes + headers.len() * FIELD_BYTES) as u64,
        })
    }

    /// Reserves what the header of a request without a body takes, evicting bodies if necessary.
    ///
    /// # Errors
    /// [`HostError::UploadMemory`].
    pub(super) fn hold_header(&self) -> Result<UploadPermit, HostError> {
        let bytes = self.header;
        self.shared.make_room(&mut self.ledger(), NO_UPLOAD, bytes)?.used += bytes;
        Ok(UploadPermit { memory: Arc::clone(&self.shared), bytes })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger()
    }
}

/// An id that no body has.
const NO_UPLOAD: u64 = 0;

impl UploadMemoryInner {
    /// Evicts bodies other than `own` until `bytes` are free.
    fn make_room<'l>(
        &self,
        ledger: &'l mut Ledger,
        own: u64,
        bytes: u64,
    ) -> Result<&'l mut Ledger, HostError> {
        let missing = (ledger.used + bytes).saturating_sub(self.capacity);
        if missing > 0 && !ledger.try_evict(own, missing) {
            return Err(HostError::UploadMemory { limit: self.capacity });
        }
        Ok(ledger)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Evicts bodies other than `own` until `needed` bytes are freed. Evicts none if all of them together are
    /// too small.
    fn try_evict(&mut self, own: u64, needed: u64) -> bool {
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
pub(super) struct Upload {
    memory: Arc<UploadMemoryInner>,
    id: u64,
    evicted: Arc<Notify>,
}

/// The memory of a complete body, released when dropped.
pub(super) struct UploadPermit {
    memory: Arc<UploadMemoryInner>,
    bytes: u64,
}

impl Upload {
    /// Registers a body that is about to be received, with its request's header. If there is no room for the header,
    /// the body is evicted at once.
    pub(crate) fn begin(memory: &Arc<UploadMemory>) -> Self {
        let evicted = Arc::new(Notify::new());
        let mut ledger = memory.ledger();
        ledger.count += 1;
        let id = ledger.count;
        let body =
            InProgress { bytes: 0, progressed: Instant::now(), evicted: Arc::clone(&evicted) };
        ledger.in_progress.insert(id, body);
        drop(ledger);
        let upload = Self { memory: Arc::clone(&memory.shared), id, evicted };
        if memory.header > 0 && upload.reserve(memory.header).is_err() {
            // Then nothing completes it either.
            memory.ledger().in_progress.remove(&id);
            upload.evicted.notify_one();
        }
        upload
    }

    /// Reserves more bytes, evicting other bodies if necessary.
    ///
    /// # Errors
    /// [`HostError::UploadMemory`].
    pub(crate) fn reserve(&self, bytes: u64) -> Result<(), HostError> {
        let full = || HostError::UploadMemory { limit: self.memory.capacity };
        let mut ledger = self.memory.ledger();
        // A body that is evicted already must not evict others.
        if !ledger.in_progress.contains_key(&self.id) {
            return Err(full());
        }
        let ledger = self.memory.make_room(&mut ledger, self.id, bytes)?;
        let body = ledger.in_progress.get_mut(&self.id).ok_or_else(full)?;
        body.bytes += bytes;
        body.progressed = Instant::now();
        ledger.used += bytes;
        Ok(())
    }

    /// Waits until the body is evicted.
    pub(super) async fn evicted(&self) -> HostError {
        self.evicted.notified().await;
        HostError::UploadMemory { limit: self.memory.capacity }
    }

    /// Marks the body as complete. It can no longer be evicted.
    ///
    /// # Errors
    /// [`HostError::UploadMemory`] if it has been evicted.
    pub(crate) fn complete(self) -> Result<UploadPermit, HostError> {
        let body = self.memory.ledger().in_progress.remove(&self.id);
        let InProgress { bytes, .. } =
            body.ok_or(HostError::UploadMemory { limit: self.memory.capacity })?;
        Ok(UploadPermit { memory: Arc::clone(&self.memory), bytes })
    }
}

impl UploadPermit {
    /// Releases a part of the memory.
    pub(super) fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.memory.ledger().used -= bytes;
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
    fn a_header_counts_as_long_as_its_body() {
        let memory = UploadMemory::new(&Limits { upload_memory: 1000, ..Limits::default() });
        let mut headers = http::HeaderMap::new();
        headers.insert("name", "a".repeat(596).parse().unwrap());
        let of_request = memory.with_header(&headers);
        let first = Upload::begin(&of_request);
        let header = memory.ledger().used;
        assert!((600..1000).contains(&header), "{header}");
        // The second makes room for itself.
        let second = Upload::begin(&of_request);
        assert!(first.reserve(1).is_err());
        let permit = second.complete();
        assert_eq!(memory.ledger().used, header);
        // What is whole stays, so there is no room for a third.
        let third = Upload::begin(&of_request);
        assert!(third.reserve(1000).is_err());
        drop((permit, third, first));
        assert_eq!(memory.ledger().used, 0);
    }

    #[test]
    fn a_header_without_a_body_counts_and_makes_room_for_itself() {
        let memory = UploadMemory::new(&Limits { upload_memory: 1000, ..Limits::default() });
        let mut headers = http::HeaderMap::new();
        headers.insert("name", "a".repeat(596).parse().unwrap());
        let stalled = Upload::begin(&memory);
        stalled.reserve(500).unwrap();
        let permit = memory.with_header(&headers).hold_header().unwrap();
        assert!(stalled.reserve(1).is_err());
        assert!(memory.with_header(&headers).hold_header().is_err());
        assert!((600..1000).contains(&memory.ledger().used));
        drop((stalled, permit));
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
