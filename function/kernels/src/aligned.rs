//! Numbers stored from the start of a cache line, so that no vector crosses two lines.

use std::ops::{Deref, DerefMut};

/// The numbers in a cache line, which is as long as the widest vector.
pub(crate) const LINE: usize = 64 / size_of::<f32>();

/// A slice of numbers, aligned to cache lines.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Aligned {
    lines: Box<[Line]>,
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

impl Aligned {
    pub(crate) fn zeros(length: usize) -> Self {
        let lines = Box::new_zeroed_slice(length.div_ceil(LINE));
        // SAFETY: all bits of the number zero are zero.
        Self { lines: unsafe { lines.assume_init() }, length }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the lines are arrays without padding, and hold at least as many numbers.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::Aligned;

    #[test]
    fn numbers_begin_with_a_cache_line() {
        for length in [0, 1, 16, 100] {
            let mut numbers = Aligned::zeros(length);
            assert_eq!(numbers.len(), length);
            assert_eq!(numbers.as_ptr().addr() % 64, 0);
            numbers.fill(1.0);
            assert_eq!(*numbers, vec![1.0; length]);
        }
    }
}
