//! The host's own cost, measured with a component that does nothing, compared with `wasmtime serve`:
//! `cargo bench --bench overhead`.

use std::process::Command;

use spotter_tests::peer::WasmtimeServe;
use spotter_tests::server::Server;
use spotter_tests::{guests, root, spotter, system};

/// Turns, each with both hosts, so that other work on the machine affects both.
const ROUNDS: usize = 7;

fn main() {
    guests();
    let component = root().join("target/spotter/hello.wasm");
    let mut command = Command::new(spotter());
    command.arg("up").arg("-f").arg(&component).args(["--listen", "127.0.0.1:0"]);
    // Neither logs successful requests.
    command.env("RUST_LOG", "warn");
    let spotter = Server::spawn(command);
    // The component's standard library imports more than the world `wasi:http/proxy` has.
    let wasmtime = WasmtimeServe::start(&component, &["-S", "cli"]);
    println!("| connections | | requests a second | p50 | p99 |\n|---|---|---|---|---|");
    for connections in [1, 16] {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..ROUNDS {
            ours.push(Run::of(&spotter.url("/"), connections));
            theirs.push(Run::of(&wasmtime.url("/"), connections));
        }
        let (ours, theirs) = (Run::median(&ours), Run::median(&theirs));
        for (name, run) in [("spotter up", &ours), ("wasmtime serve", &theirs)] {
            let Run { rate, p50, p99 } = run;
            println!("| {connections} | {name} | {rate:.0} | {p50:.0} µs | {p99:.0} µs |");
        }
        println!(
            "| {connections} | ratio | {:.2} | {:.2} | {:.2} |",
            ours.rate / theirs.rate,
            ours.p50 / theirs.p50,
            ours.p99 / theirs.p99
        );
    }
}

/// What `wrk` measured: requests a second, and times in microseconds.
struct Run {
    rate: f64,
    p50: f64,
    p99: f64,
}

impl Run {
    fn of(url: &str, connections: usize) -> Self {
        let output = Command::new(system::program("wrk", "wrk"))
            .args(["--latency", "--threads", "1", "--duration", "3s", "--connections"])
            .args([&connections.to_string(), url])
            .output()
            .expect("wrk starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let word = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
        };
        assert!(!text.contains("Non-2xx"), "{text}");
        let rate = word("Requests/sec:").parse().expect("a rate");
        Self { rate, p50: microseconds(&word("50%")), p99: microseconds(&word("99%")) }
    }

    fn median(runs: &[Self]) -> Self {
        let median = |value: fn(&Self) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self {
            rate: median(|run| run.rate),
            p50: median(|run| run.p50),
            p99: median(|run| run.p99),
        }
    }
}

/// A time as `wrk` writes it: `83.00us`, `1.20ms`, `2.00s`.
fn microseconds(text: &str) -> f64 {
    let (number, factor) = match text {
        _ if text.ends_with("us") => (text.trim_end_matches("us"), 1.0),
        _ if text.ends_with("ms") => (text.trim_end_matches("ms"), 1e3),
        _ => (text.trim_end_matches('s'), 1e6),
    };
    number.parse::<f64>().expect("a time") * factor
}
