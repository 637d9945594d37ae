//! The host under load: `cargo bench --bench load` overloads it, connects slow clients, and then loads it to 80 %
//! for ten minutes. `-- --minutes 60` takes longer, `-- --minutes 1` is for a quick look.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spotter_tests::load::{self, Outcome};
use spotter_tests::pictures;
use spotter_tests::server::Server;

fn main() {
    let picture = pictures::photograph();
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let server = Server::start(&["--queue-length", "4", "--admin", "127.0.0.1:0"]);
    let url = server.url("/detect");
    load::post(&url, &picture, cores, Duration::from_secs(5));
    println!(
        "| load | goodput | p50 | p99 | turned away | other errors |\n|---|---|---|---|---|---|"
    );
    let peak = load::post(&url, &picture, 2 * cores, Duration::from_secs(30));
    row("as much as it carries", &peak);
    let over = load::post_at_rate(&url, &picture, 3.0 * peak.goodput(), Duration::from_secs(30));
    row("three times that", &over);
    println!(
        "\ngoodput under overload: {:.1} % of peak\n",
        100.0 * over.goodput() / peak.goodput()
    );
    slow_clients(&server, &url, &picture);
    soak(&server, &url, &picture, peak.goodput());
}

fn row(name: &str, outcome: &Outcome) {
    let turned_away = outcome.refused.iter().filter(|status| **status == 503).count();
    println!(
        "| {name} | {:.1}/s | {:.0} ms | {:.0} ms | {turned_away} | {} |",
        outcome.goodput(),
        outcome.quantile(0.5),
        outcome.quantile(0.99),
        outcome.refused.len() - turned_away,
    );
}

/// Measures good requests with and without a thousand connections that each send one header byte per second.
fn slow_clients(server: &Server, url: &str, picture: &[u8]) {
    const CONNECTIONS: usize = 1000;
    let mut quiet = Vec::new();
    let mut beset = Vec::new();
    for _ in 0..4 {
        let calm = load::post(url, picture, 1, Duration::from_secs(15));
        quiet.push(calm.quantile(0.99));
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| trickle(server.address(), CONNECTIONS, &is_done));
            std::thread::sleep(Duration::from_secs(2));
            beset.push(load::post(url, picture, 1, Duration::from_secs(15)).quantile(0.99));
            is_done.store(true, Ordering::Relaxed);
        });
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (quiet, beset) = (median(&mut quiet), median(&mut beset));
    println!(
        "{CONNECTIONS} slow connections: p99 {quiet:.0} ms without, {beset:.0} ms with them: {:.2} times\n",
        beset / quiet
    );
}

/// Keeps connections open and sends one byte per second on each. Reopens those that are closed.
fn trickle(address: &str, connections: usize, is_done: &AtomicBool) {
    let open = || TcpStream::connect(address).ok();
    let mut streams: Vec<Option<TcpStream>> = (0..connections).map(|_| open()).collect();
    let header = b"GET /detect HTTP/1.1\r\nhost: slow\r\nx-slow: ";
    for turn in 0.. {
        if is_done.load(Ordering::Relaxed) {
            return;
        }
        let byte = [*header.get(turn).unwrap_or(&b'a')];
        for stream in &mut streams {
            let is_sent = stream.as_mut().is_some_and(|stream| stream.write_all(&byte).is_ok());
            if !is_sent {
                *stream = open();
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Sends 80 % of the peak load, at a steady rate, in ten stretches.
fn soak(server: &Server, url: &str, picture: &[u8], peak: f64) {
    let minutes = minutes();
    let stretch = Duration::from_secs_f64(minutes * 6.0);
    println!("{minutes} minutes at {:.1}/s\n", 0.8 * peak);
    println!(
        "| stretch | goodput | p50 | p99 | errors | resident memory |\n|---|---|---|---|---|---|"
    );
    for number in 1..=10 {
        let outcome = load::post_at_rate(url, picture, 0.8 * peak, stretch);
        println!(
            "| {number} | {:.1}/s | {:.0} ms | {:.0} ms | {} | {:.1} MB |",
            outcome.goodput(),
            outcome.quantile(0.5),
            outcome.quantile(0.99),
            outcome.refused.len(),
            server.resident() as f64 / 1e6,
        );
    }
}

fn minutes() -> f64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--minutes").skip(1);
    arguments.next().and_then(|minutes| minutes.parse().ok()).unwrap_or(10.0)
}
