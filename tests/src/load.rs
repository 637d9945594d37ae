//! Load from many clients at once, and what became of it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::client;

/// What became of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Time of each request that was answered with 200, in milliseconds, sorted.
    pub times: Vec<f64>,
    /// Every other status, in no order.
    pub refused: Vec<u16>,
    pub took: Duration,
}

impl Outcome {
    /// Requests a second that were answered with 200.
    pub fn goodput(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64()
    }

    /// The time that this share of the good requests stayed below, in milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.times.len().saturating_sub(1) as f64;
        self.times.get((last * share).round() as usize).copied().unwrap_or(f64::NAN)
    }
}

/// Posts `body` to `url` from so many clients, each as soon as it has its answer, for so long.
pub fn post(url: &str, body: &[u8], clients: usize, duration: Duration) -> Outcome {
    let outcome = Mutex::new(Outcome::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while began.elapsed() < duration {
                    let sent = Instant::now();
                    let status = client::post_picture(url, body).status;
                    let took = sent.elapsed().as_secs_f64() * 1000.0;
                    let mut outcome = outcome.lock().expect("an outcome");
                    match status {
                        200 => outcome.times.push(took),
                        status => outcome.refused.push(status),
                    }
                    drop(outcome);
                    if status == 503 {
                        // As `Retry-After` asks, though sooner.
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            });
        }
    });
    let mut outcome = outcome.into_inner().expect("an outcome");
    outcome.took = began.elapsed();
    outcome.times.sort_by(f64::total_cmp);
    outcome
}
