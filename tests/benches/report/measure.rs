//! Measures servers in turn, in rounds, so that what disturbs the machine disturbs all of them.

use std::time::Instant;

use serde_json::Value;
use spotter_tests::client;

use crate::contenders::{Contender, Running, gzipped};
use crate::processes;

/// How often everything is done.
#[derive(Clone, Copy)]
pub struct Rounds {
    pub starts: usize,
    pub rounds: usize,
    /// Requests of one client in each round.
    pub requests: usize,
    /// Requests of each of four clients in each round.
    pub requests_of_four: usize,
}

/// The figures of one server.
pub struct Figures {
    pub name: &'static str,
    /// Megabytes.
    pub shipped: f64,
    /// Milliseconds from exec to the first reply.
    pub first_reply: Series,
    /// Milliseconds of CPU time for each request, by round.
    pub processor: Series,
    /// Milliseconds that one client waits.
    pub latency: Series,
    /// Pictures a second with four clients, by round.
    pub throughput: Series,
    /// Megabytes after the first reply.
    pub idle_memory: f64,
    /// Megabytes at the end.
    pub busy_memory: f64,
}

/// Measured values of one kind.
#[derive(Default)]
pub struct Series(Vec<f64>);

impl Series {
    fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The value below which this share of all values lies.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * share).round() as usize]
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// Measures all contenders with the same picture.
pub fn all(contenders: &[Contender], picture: &[u8], rounds: Rounds) -> Vec<Figures> {
    let mut figures: Vec<Figures> = contenders.iter().map(of).collect();
    let mut found = None;
    for _ in 0..rounds.starts {
        for (contender, figures) in contenders.iter().zip(&mut figures) {
            let began = Instant::now();
            let running = (contender.start)();
            let labels = detect(&running, picture);
            figures.first_reply.add(milliseconds(began));
            // The same network finds the same objects.
            let expected = found.get_or_insert_with(|| labels.clone());
            assert_eq!(&labels, expected, "{}", contender.name);
        }
    }
    let servers: Vec<Running> = contenders.iter().map(|contender| (contender.start)()).collect();
    for (server, figures) in servers.iter().zip(&mut figures) {
        // Every worker answers before memory is read.
        (0..10).for_each(|_| drop(detect(server, picture)));
        figures.idle_memory = megabytes(processes::memory(server.pid));
    }
    for _ in 0..rounds.rounds {
        for (server, figures) in servers.iter().zip(&mut figures) {
            one_client(server, picture, rounds.requests, figures);
            figures.throughput.add(four_clients(server, picture, rounds.requests_of_four));
        }
    }
    for (server, figures) in servers.iter().zip(&mut figures) {
        figures.busy_memory = megabytes(processes::memory(server.pid));
    }
    figures
}

fn of(contender: &Contender) -> Figures {
    Figures {
        name: contender.name,
        shipped: megabytes(gzipped(&contender.files)),
        first_reply: Series::default(),
        processor: Series::default(),
        latency: Series::default(),
        throughput: Series::default(),
        idle_memory: 0.0,
        busy_memory: 0.0,
    }
}

fn one_client(server: &Running, picture: &[u8], requests: usize, figures: &mut Figures) {
    let before = processes::processor_time(server.pid);
    for _ in 0..requests {
        let began = Instant::now();
        detect(server, picture);
        figures.latency.add(milliseconds(began));
    }
    let used = processes::processor_time(server.pid) - before;
    figures.processor.add(used.as_secs_f64() * 1000.0 / requests as f64);
}

/// Pictures a second.
fn four_clients(server: &Running, picture: &[u8], each: usize) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..each).for_each(|_| drop(detect(server, picture))));
        }
    });
    (4 * each) as f64 / began.elapsed().as_secs_f64()
}

/// The labels in the picture, sorted.
fn detect(server: &Running, picture: &[u8]) -> Vec<String> {
    let reply = client::post_picture(&server.url, picture);
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let reply = reply.json();
    let detections = reply["detections"].as_array().expect("detections");
    let label = |detection: &Value| detection["label"].as_str().expect("a label").to_owned();
    let mut labels: Vec<String> = detections.iter().map(label).collect();
    labels.sort();
    labels
}

pub fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
