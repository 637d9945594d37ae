//! Collects received bytes in blocks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes in blocks. They are copied once, because a small slice would keep its connection's whole read buffer
/// alive, and never moved again.
#[derive(Default)]
pub(super) struct SegmentedBuf {
    full: VecDeque<Bytes>,
    last: BytesMut,
    length: u64,
}

const MAX_BLOCK_BYTES: usize = 64 << 10;

impl SegmentedBuf {
    /// The number of bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Adds bytes. `reserve` is called with the size of each new block before it is allocated.
    ///
    /// # Errors
    /// If `reserve` fails. The remaining bytes are not added.
    pub(super) fn add<E>(
        &mut self,
        mut data: &[u8],
        reserve: impl Fn(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        self.length += data.len() as u64;
        while !data.is_empty() {
            let room = self.last.capacity() - self.last.len();
            if room == 0 {
                // Small bodies get small blocks.
                let size = data.len().max(self.last.len() * 2).clamp(1 << 10, MAX_BLOCK_BYTES);
                reserve(size as u64)?;
                let last = std::mem::replace(&mut self.last, BytesMut::with_capacity(size));
                self.full.push_back(last.freeze());
                continue;
            }
            let (now, later) = data.split_at(room.min(data.len()));
            self.last.extend_from_slice(now);
            data = later;
        }
        Ok(())
    }

    /// The non-empty blocks, in order.
    pub(super) fn into_queue(mut self) -> VecDeque<Bytes> {
        self.full.push_back(self.last.freeze());
        self.full.retain(|block| !block.is_empty());
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::SegmentedBuf;

    #[test]
    fn blocks_hold_what_they_are_given_and_little_more() {
        let mut blocks = SegmentedBuf::default();
        let asked = std::cell::Cell::new(0);
        let bytes: Vec<u8> = (0..200_000_u32).map(|index| (index % 251) as u8).collect();
        for piece in bytes.chunks(7) {
            let reserve = |bytes| {
                asked.set(asked.get() + bytes);
                Ok::<(), ()>(())
            };
            blocks.add(piece, reserve).unwrap();
        }
        assert_eq!(blocks.length(), 200_000);
        assert!(asked.get() < 200_000 + (64 << 10), "{}", asked.get());
        assert_eq!(blocks.into_queue().into_iter().flatten().collect::<Vec<u8>>(), bytes);
    }
}
