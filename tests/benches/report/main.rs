//! The README's figures: `cargo bench --bench report`, and with `-- --peers` compared with other servers of the same
//! network, in the same run (installed with pip and npm into the cache). `--quick` takes less than five minutes, and
//! `--chart FILE` draws the figures.

mod alone;
mod chart;
mod contenders;
mod measure;
mod processes;
mod tensorflow;

use std::process::Command;

use measure::{Figures, Rounds, Series};
use spotter_tests::pictures;

const FULL: Rounds = Rounds { starts: 9, rounds: 12, requests: 20, requests_of_four: 10 };
const QUICK: Rounds = Rounds { starts: 3, rounds: 5, requests: 10, requests_of_four: 5 };

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let rounds = if has("--quick") { QUICK } else { FULL };
    let picture = pictures::photograph();
    let mut contenders = contenders::spotter();
    if has("--peers") {
        contenders.extend(contenders::peers());
    }
    let machine = machine();
    println!("{machine}");
    println!(
        "A 640x480 JPEG of {} kB; medians, in brackets the lowest and highest of {} rounds in turn.\n",
        picture.len() / 1000,
        rounds.rounds
    );
    let figures = measure::all(&contenders, &picture, rounds);
    table(&figures);
    println!("\n| | |\n|---|---|");
    for (what, figure) in alone::rows(&picture) {
        println!("| {what} | {figure} |");
    }
    let chart = arguments.iter().skip_while(|argument| *argument != "--chart").nth(1);
    if let Some(path) = chart {
        std::fs::write(path, chart::svg(&figures, &machine)).expect("the chart is written");
    }
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let date = Command::new("date").arg("+%Y-%m-%d").output().expect("date");
    format!(
        "{}, {cores} cores, {}; wasmtime 48, tract 0.23",
        model.trim_start_matches([':', ' ', '\t']),
        String::from_utf8_lossy(&date.stdout).trim()
    )
}

fn table(figures: &[Figures]) {
    let spread = |series: &Series| {
        let [low, middle, high] = [0.0, 0.5, 1.0].map(|share| series.quantile(share));
        format!("{middle:.0} ({low:.0}-{high:.0})")
    };
    println!(
        "| | exec to first reply, ms | CPU time of a picture, ms | one client, p50 / p99, ms \
         | four clients, pictures/s | memory after ten pictures / at the end, MB | shipped, gzip, MB |\n\
         |---|---|---|---|---|---|---|"
    );
    for one in figures {
        println!(
            "| {} | {} | {} | {:.0} / {:.0} | {} | {:.0} / {:.0} | {:.1} |",
            one.name,
            spread(&one.first_reply),
            spread(&one.processor),
            one.latency.median(),
            one.latency.quantile(0.99),
            spread(&one.throughput),
            one.idle_memory,
            one.busy_memory,
            one.shipped
        );
    }
}
