//! An hour of good, slow and hostile clients at once: `cargo bench --bench soak`, `-- --minutes 5` for a quick look.
//!
//! Two servers, one of them with TLS, serve the detector beside a component that misbehaves. Good clients send half as
//! many pictures as the servers can process, over HTTP/1.1 and HTTP/2, with and without TLS. All the while, slow
//! clients, broken and interrupted requests, floods of HTTP/2 frames and the misbehaving component's own clients use the same
//! servers. Each row is a tenth of the time. At the end the servers get SIGTERM while requests are in flight.

mod good;
mod hostile;
mod servers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use good::{Client, Protocol};
use servers::Servers;
use spotter_tests::{load, pictures};

const ROWS: u32 = 10;
/// The share of the servers' throughput that the good clients ask for.
const LOAD: f64 = 0.5;
/// One server's requests that are in flight at SIGTERM, for each protocol.
const IN_FLIGHT: usize = 4;

fn main() {
    let minutes = minutes();
    let picture = pictures::photograph();
    let mut servers = Servers::start();
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let peak =
        load::post(&servers.plain_url("/detect"), &picture, 2 * cores, Duration::from_secs(20));
    let rate = LOAD * peak.goodput();
    assert!(rate > 0.0, "the server answers nothing: {:?}", peak.refused);
    println!(
        "{minutes} minutes; good clients send {rate:.1} pictures a second, {LOAD} of what fits\n"
    );
    println!(
        "| good replies | of those sent | p50 | p99 | other replies | none | memory, HTTP | memory, TLS | open files |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = EndsHostileClients(&is_done);
        hostile::start(scope, &servers, &picture, &is_done);
        for _ in 0..ROWS {
            let row = Duration::from_secs_f64(minutes * 60.0 / f64::from(ROWS));
            let outcome = good::send(&servers, &picture, rate, row);
            println!("| {outcome} | {} |", servers.resources());
        }
    });
    let (answered, sent) = stop_in_flight(&mut servers, &picture);
    println!("\nSIGTERM with {sent} requests in flight: {answered} complete replies");
}

/// Ends the hostile clients when it is dropped, even by a panic: their scope waits for them.
struct EndsHostileClients<'d>(&'d AtomicBool);

impl Drop for EndsHostileClients<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends requests, stops the servers at once, and counts the replies that were complete.
fn stop_in_flight(servers: &mut Servers, picture: &[u8]) -> (usize, usize) {
    let clients = Protocol::ALL.iter().flat_map(|protocol| [*protocol; IN_FLIGHT]);
    let mut clients: Vec<_> = clients.map(|protocol| Client::new(protocol, servers)).collect();
    // So that each has its connection before the servers stop.
    clients.iter_mut().for_each(|client| drop(client.post("/no-such-path", &[])));
    let sent = clients.len();
    let answered = std::thread::scope(|scope| {
        let started: Vec<_> = clients
            .into_iter()
            .map(|mut client| scope.spawn(move || client.post("/detect", picture).is_ok()))
            .collect();
        std::thread::sleep(Duration::from_millis(100));
        servers.terminate();
        started.into_iter().filter_map(|one| one.join().ok()).filter(|is_ok| *is_ok).count()
    });
    let began = Instant::now();
    servers.wait();
    println!("\nboth servers ended {:.1} s after the last reply", began.elapsed().as_secs_f64());
    (answered, sent)
}

fn minutes() -> f64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--minutes").skip(1);
    arguments.next().and_then(|minutes| minutes.parse().ok()).unwrap_or(60.0)
}
