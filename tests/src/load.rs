//! Sends requests from many clients at once, and collects the results.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client;

/// The results of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The time of each request that was answered with 200, in milliseconds, sorted.
    pub times: Vec<f64>,
    /// All other statuses, in no particular order.
    pub refused: Vec<u16>,
    pub took: Duration,
}

impl Outcome {
    fn of(gathered: Mutex<Self>, began: Instant) -> Self {
        let mut outcome = gathered.into_inner().expect("an outcome");
        outcome.took = began.elapsed();
        outcome.times.sort_by(f64::total_cmp);
        outcome
    }

    fn add(gathered: &Mutex<Self>, status: u16, milliseconds: f64) {
        let mut outcome = gathered.lock().expect("an outcome");
        match status {
            200 => outcome.times.push(milliseconds),
            status => outcome.refused.push(status),
        }
    }

    /// Requests a second that were answered with 200.
    pub fn goodput(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64()
    }

    /// The time below which this share of the good requests stayed, in milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.times.len().saturating_sub(1) as f64;
        self.times.get((last * share).round() as usize).copied().unwrap_or(f64::NAN)
    }
}

/// Posts `body` to `url` from several clients for a while. Each sends its next request once it has a reply.
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
                    Outcome::add(&outcome, status, took);
                    if status == 503 {
                        // Wait before retrying, though less than `Retry-After` asks.
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            });
        }
    });
    Outcome::of(outcome, began)
}

/// Posts `body` to `url` a given number of times in all, from several clients.
pub fn batch(url: &str, body: &[u8], clients: usize, count: usize) -> Outcome {
    let outcome = Mutex::new(Outcome::default());
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let sent = Instant::now();
                    let status = client::post_picture(url, body).status;
                    Outcome::add(&outcome, status, sent.elapsed().as_secs_f64() * 1000.0);
                }
            });
        }
    });
    Outcome::of(outcome, began)
}

/// Posts `body` to `url` at a fixed rate, whether or not earlier requests have been answered.
pub fn post_at_rate(url: &str, body: &[u8], rate: f64, duration: Duration) -> Outcome {
    const CLIENTS: usize = 16;
    let outcome = Mutex::new(Outcome::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for client_number in 0..CLIENTS {
            let outcome = &outcome;
            scope.spawn(move || {
                // Each client sends every sixteenth request, when it is due.
                for turn in 0.. {
                    let due = (turn * CLIENTS + client_number) as f64 / rate;
                    let due = Duration::from_secs_f64(due);
                    if due > duration {
                        break;
                    }
                    std::thread::sleep(due.saturating_sub(began.elapsed()));
                    let status = client::post_picture(url, body).status;
                    // Measured from when it was due, because a server that stalls also delays the requests behind it.
                    let took = (began.elapsed() - due.min(began.elapsed())).as_secs_f64() * 1000.0;
                    Outcome::add(outcome, status, took);
                }
            });
        }
    });
    Outcome::of(outcome, began)
}
