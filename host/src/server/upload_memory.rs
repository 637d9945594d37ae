//! What all bodies that are being received, or wait for their guests, may take of the memory together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::fault::Fault;
use crate::runtime::Limits;

/// How many bytes of bodies may be held at once. Where they are all taken, the bodies that have made no
/// progress for the longest are given up for the others.
pub struct UploadMemory {
    most: u64,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    /// What all bodies hold, the whole ones too that wait for their guests.
    used: u64,
    /// Those that are being received, by their number.
    under_way: BTreeMap<u64, UnderWay>,
    count: u64,
}

struct UnderWay {
    held: u64,
    progressed: Instant,
    given_up: Arc<Notify>,
}

impl UploadMemory {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self { most: limits.upload_memory, ledger: Mutex::default() })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Gives up bodies other than `own`, until so many bytes are free; none where that would not do.
    fn make_room(&mut self, own: u64, bytes: u64) -> bool {
        let others =
            self.under_way.iter().filter(|(number, body)| **number != own && body.held > 0);
        let mut others: Vec<_> =
            others.map(|(number, body)| (body.progressed, *number, body.held)).collect();
        if others.iter().map(|(_, _, held)| held).sum::<u64>() < bytes {
            return false;
        }
        others.sort_unstable();
        let mut freed = 0;
        for (_, number, held) in others {
            if freed >= bytes {
                break;
            }
            if let Some(body) = self.under_way.remove(&number) {
                body.given_up.notify_one();
            }
            // It lets go of them as soon as its task runs.
            self.used -= held;
            freed += held;
        }
        true
    }
}

/// A body that is being received.
pub struct Upload {
    memory: Arc<UploadMemory>,
    number: u64,
    given_up: Arc<Notify>,
}

/// What a whole body holds, until its guest has it.
pub struct Held {
    memory: Arc<UploadMemory>,
    bytes: u64,
}

impl Upload {
    /// Begins to receive a body.
    pub fn begin(memory: &Arc<UploadMemory>) -> Self {
        let given_up = Arc::new(Notify::new());
        let mut ledger = memory.ledger();
        ledger.count += 1;
        let number = ledger.count;
        let body =
            UnderWay { held: 0, progressed: Instant::now(), given_up: Arc::clone(&given_up) };
        ledger.under_way.insert(number, body);
        drop(ledger);
        Self { memory: Arc::clone(memory), number, given_up }
    }

    /// Takes room for more bytes, where need be that of others.
    ///
    /// # Errors
    /// [`Fault::UploadMemory`].
    pub fn more(&self, bytes: u64) -> Result<(), Fault> {
        let full = || Fault::UploadMemory { limit: self.memory.most };
        let mut ledger = self.memory.ledger();
        let missing = (ledger.used + bytes).saturating_sub(self.memory.most);
        if missing > 0 && !ledger.make_room(self.number, missing) {
            return Err(full());
        }
        let body = ledger.under_way.get_mut(&self.number).ok_or_else(full)?;
        body.held += bytes;
        body.progressed = Instant::now();
        ledger.used += bytes;
        Ok(())
    }

    /// Waits until the body is given up.
    pub async fn given_up(&self) -> Fault {
        self.given_up.notified().await;
        Fault::UploadMemory { limit: self.memory.most }
    }

    /// The body is whole: it can no longer be given up.
    pub fn done(self) -> Held {
        let body = self.memory.ledger().under_way.remove(&self.number);
        Held { memory: Arc::clone(&self.memory), bytes: body.map_or(0, |body| body.held) }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut ledger = self.memory.ledger();
        if let Some(body) = ledger.under_way.remove(&self.number) {
            ledger.used -= body.held;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.ledger().used -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::{Upload, UploadMemory};
    use crate::runtime::Limits;

    #[test]
    fn those_that_stall_for_the_longest_make_room_and_only_where_that_does() {
        const MOST: u64 = 100 << 10;
        let memory = UploadMemory::new(&Limits { upload_memory: MOST, ..Limits::default() });
        let uploads: Vec<_> = (0..4).map(|_| Upload::begin(&memory)).collect();
        for (upload, bytes) in uploads.iter().zip([1, 40 << 10, 59 << 10]) {
            upload.more(bytes).unwrap();
        }
        uploads[0].more(1).unwrap();
        // More than all the others hold: none of them is given up.
        assert!(uploads[3].more(MOST + 1).is_err());
        assert_eq!(memory.ledger().under_way.len(), 4);
        // The second has waited for the longest.
        uploads[3].more(30 << 10).unwrap();
        let left: Vec<u64> = memory.ledger().under_way.keys().copied().collect();
        assert_eq!(left, [1, 3, 4]);
        assert!(uploads[1].more(1).is_err());
        drop(uploads);
        assert_eq!(memory.ledger().used, 0);
    }

    #[test]
    fn what_is_whole_is_not_given_up_and_goes_back_when_it_is_dropped() {
        let memory = UploadMemory::new(&Limits { upload_memory: 100, ..Limits::default() });
        let first = Upload::begin(&memory);
        first.more(60).unwrap();
        let held = first.done();
        let second = Upload::begin(&memory);
        assert!(second.more(60).is_err());
        drop(held);
        assert!(second.more(60).is_ok());
    }
}
