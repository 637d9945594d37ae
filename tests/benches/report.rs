//! The README's figures: `cargo bench --bench report`, and with `-- --peers`
//! beside Flask and ONNX Runtime in the same run (installed with pip into the cache).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use spotter_app::{App, Choices};
use spotter_config::Limits;
use spotter_runtime::Runtime;
use spotter_runtime::usage::Usage;
use spotter_tests::server::Server;
use spotter_tests::{
    client, component, native as native_detector, peer, pictures, root, run, stderr,
};

fn main() {
    let picture = pictures::photograph();
    component();
    println!("{}", machine());
    println!("A 640x480 JPEG of {} kB; medians, in one run.\n", picture.len() / 1000);
    println!("| | |\n|---|---|");
    build_accelerated();
    shipped("the baked component", component());
    shipped("the accelerated component", &root().join("target/spotter/detector-accelerated.wasm"));
    let model = root().join("function/model/ssdlite_mobilenet_v2/model.onnx");
    shipped("the network beside it", &model);
    starting("Spotter", &[], &picture);
    starting(ACCELERATED, &["--profile", "accelerated"], &picture);
    instantiation();
    serving("Spotter", Server::start(&[]), &picture);
    serving(ACCELERATED, Server::start(&["--profile", "accelerated"]), &picture);
    native(&picture);
    if std::env::args().any(|argument| argument == "--peers") {
        peers(&picture);
    }
}

const ACCELERATED: &str = "Spotter, accelerated";

fn build_accelerated() {
    let output = run(&["build", "--profile", "accelerated"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

fn row(what: &str, figure: &str) {
    println!("| {what} | {figure} |");
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

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn quantile(figures: &mut [f64], quantile: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[((figures.len() - 1) as f64 * quantile).round() as usize]
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// The size that a registry stores and a node pulls.
fn shipped(what: &str, file: &Path) {
    let gzip = Command::new("gzip").arg("-c").arg(file).output().expect("gzip");
    row(&format!("Shipped: {what}, gzip"), &format!("{:.1} MB", gzip.stdout.len() as f64 / 1e6));
}

fn starting(name: &str, arguments: &[&str], picture: &[u8]) {
    let mut ready = Vec::new();
    let mut answered = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        let server = Server::start(arguments);
        ready.push(milliseconds(began));
        let reply = client::post_picture(&server.url("/detect"), picture);
        answered.push(milliseconds(began));
        assert_eq!(reply.status, 200);
    }
    let ready = format!("{:.0} ms", median(ready));
    row(&format!("{name}: ready to accept, from exec, warm cache"), &ready);
    let answered = format!("{:.0} ms", median(answered));
    row(&format!("{name}: first detection answered, from exec, warm cache"), &answered);
}

fn instantiation() {
    let limits = Limits::default();
    let app = App::load(&root().join("spin.toml"), &Choices::default()).expect("an application");
    let mut runtime = Runtime::new(&limits);
    runtime.load(&app.components["detector"], &app.nn_engine).expect("a component");
    let loaded = runtime.component("detector").expect("a component");
    let threads =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    let figures = (0..2000)
        .map(|_| {
            let store = loaded.store(&limits, Usage::start(), 0);
            let mut store = store.expect("a store");
            let began = Instant::now();
            threads.block_on(loaded.handler().instantiate(&mut store)).expect("an instance");
            milliseconds(began) * 1000.0
        })
        .collect();
    row("A fresh instance, with the model in it", &format!("{:.0} µs", median(figures)));
}

fn serving(name: &str, server: Server, picture: &[u8]) {
    let url = server.url("/detect");
    let detect = || assert_eq!(client::post_picture(&url, picture).status, 200);
    (0..10).for_each(|_| detect());
    const REQUESTS: usize = 100;
    let cpu_before = cpu_of_group(server.pid());
    let mut figures: Vec<f64> = (0..REQUESTS)
        .map(|_| {
            let began = Instant::now();
            detect();
            milliseconds(began)
        })
        .collect();
    let cpu = (cpu_of_group(server.pid()) - cpu_before).as_secs_f64() * 1000.0 / REQUESTS as f64;
    let (p50, p99) = (quantile(&mut figures, 0.5), quantile(&mut figures, 0.99));
    row(&format!("{name}: one client, p50 / p99"), &format!("{p50:.0} / {p99:.0} ms"));
    row(&format!("{name}: processor time of one detection"), &format!("{cpu:.0} ms"));
    row(&format!("{name}: pictures a second, on one core"), &format!("{:.1}", 1000.0 / cpu));
    row(
        &format!("{name}: pictures a second, four clients"),
        &format!("{:.1}", four_clients(&url, picture)),
    );
    row(
        &format!("{name}: resident memory after that"),
        &format!("{} MB", resident_of_group(server.pid()) / 1_000_000),
    );
}

fn four_clients(url: &str, picture: &[u8]) -> f64 {
    const EACH: usize = 40;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    assert_eq!(client::post_picture(url, picture).status, 200);
                }
            });
        }
    });
    (4 * EACH) as f64 / began.elapsed().as_secs_f64()
}

/// The same pipeline, compiled for this machine rather than for WebAssembly.
fn native(picture: &[u8]) {
    let began = Instant::now();
    let model = native_detector::model();
    let loading = milliseconds(began);
    let options = model.default_options();
    let mut inference = Vec::new();
    let total = (0..60)
        .map(|_| {
            let (report, _) = detector::detect(&model, picture, &options).expect("detections");
            inference.push(report.timings_ms.inference);
            report.timings_ms.total
        })
        .collect();
    row("Native tract: loading the model", &format!("{loading:.0} ms"));
    row("Native tract: one detection, one thread", &format!("{:.0} ms", median(total)));
    row("Native tract: of which the network", &format!("{:.0} ms", median(inference)));
}

/// A process and its children.
fn group(pid: u32) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let is_child = |path: &Path| {
        let status = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        let parent =
            status.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).map(str::to_owned);
        parent.is_some_and(|parent| parent == pid.to_string())
    };
    let children = entries.map(|entry| entry.path()).filter(|path| is_child(path));
    std::iter::once(PathBuf::from(format!("/proc/{pid}"))).chain(children).collect()
}

fn cpu_of_group(pid: u32) -> Duration {
    // In clock ticks, which are a hundredth of a second on every Linux.
    let ticks: u64 = group(pid)
        .iter()
        .filter_map(|path| std::fs::read_to_string(path.join("stat")).ok())
        .filter_map(|stat| {
            let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        })
        .sum();
    Duration::from_millis(ticks * 10)
}

fn resident_of_group(pid: u32) -> u64 {
    let pages: u64 = group(pid)
        .iter()
        .filter_map(|path| std::fs::read_to_string(path.join("statm")).ok())
        .filter_map(|statm| statm.split(' ').nth(1)?.parse::<u64>().ok())
        .sum();
    pages * 4096
}

fn peers(picture: &[u8]) {
    const NAME: &str = "Flask + gunicorn + ONNX Runtime, 2 workers";
    let packages = peer::flask_packages();
    let mut ready = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let server = flask(&packages);
        let reply = client::post_picture(&server.url("/detect"), picture);
        assert_eq!(reply.status, 200);
        ready.push(milliseconds(began));
    }
    row(
        &format!("{NAME}: first detection answered, from exec"),
        &format!("{:.0} ms", median(ready)),
    );
    serving(NAME, flask(&packages), picture);
}

/// Starts the peer, and waits until it answers.
fn flask(packages: &Path) -> Server {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("a port")
        .port();
    let model = root().join("function/model/ssdlite_mobilenet_v2");
    let process: Child = Command::new("python3")
        .args(["-m", "gunicorn", "--workers", "2", "--bind", &format!("127.0.0.1:{port}")])
        .args(["--log-level", "error", "--chdir", "tests/benches/peers", "flask_onnxruntime:app"])
        .env("PYTHONPATH", packages)
        .env("MODEL", model.join("model.onnx").canonicalize().expect("a network"))
        .env("LABELS", model.join("labels.txt").canonicalize().expect("labels"))
        .current_dir(root())
        .stderr(Stdio::null())
        .spawn()
        .expect("gunicorn starts");
    let address = format!("127.0.0.1:{port}");
    let mut tries = 0;
    while std::net::TcpStream::connect(&address).is_err() {
        tries += 1;
        assert!(tries < 6000, "gunicorn does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    Server::of(process, address)
}
