//! The threads that share the work of one computation while no other runs.

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A pool of threads for a computation that begins while no other runs. One that begins beside another has one thread:
/// dividing it too would only cost time.
pub(super) struct Threads {
    /// `None` if a computation never has more than one thread.
    pool: Option<(ThreadPool, u32)>,
    running: AtomicUsize,
}

impl Threads {
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn start(count: NonZeroU16) -> anyhow::Result<Self> {
        let pool = (count.get() > 1).then(|| {
            let builder = ThreadPoolBuilder::new().num_threads(count.get().into());
            builder.thread_name(|index| format!("nn-{index}")).build()
        });
        let pool = pool.transpose().context("cannot start the threads of `--nn-threads`")?;
        let pool = pool.map(|pool| (pool, count.get().into()));
        Ok(Self { pool, running: AtomicUsize::new(0) })
    }

    /// Runs a computation. It is told how many threads besides this one work for it.
    pub(super) fn run<T: Send>(&self, compute: impl FnOnce(u32) -> T + Send) -> T {
        let _running = Running::start(&self.running);
        match &self.pool {
            Some((pool, count)) if self.running.load(Ordering::Relaxed) == 1 => {
                pool.install(|| compute(*count))
            }
            _ => compute(0),
        }
    }
}

/// Counts a computation until it is dropped.
struct Running<'c>(&'c AtomicUsize);

impl<'c> Running<'c> {
    fn start(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Threads;

    #[test]
    fn only_one_computation_at_a_time_has_several_threads() {
        let threads = Threads::start(3.try_into().unwrap()).unwrap();
        let (alone, beside) = threads.run(|count| (count, threads.run(|count| count)));
        assert_eq!((alone, beside), (3, 0));
        assert_eq!(threads.run(|count| count), 3);
        let single = Threads::start(1.try_into().unwrap()).unwrap();
        assert_eq!(single.run(|count| count), 0);
    }
}
