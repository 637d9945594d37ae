//! The network between clients and a detector: `cargo bench --features system --bench network`. Posts a batch of
//! pictures to `spotter up` on the host, to a pod in an LXC node over its veth, and to that pod through one link,
//! through two bonded links, and through a VXLAN overlay on these. Reports throughput, latency, how much of each
//! link is used, and the time that the whole batch takes.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use spotter_tests::containerd::SCRATCH;
use spotter_tests::kubelet::Wanted;
use spotter_tests::load::{self, Outcome};
use spotter_tests::node::{Bridge, Node, ip, sure};
use spotter_tests::pictures;
use spotter_tests::server::Server;
use spotter_tests::switch::Switch;

/// The rate of each link.
const RATE: (&str, f64) = ("30mbit", 30e6);
/// The number of clients, each with its own connections.
const CLIENTS: usize = 16;
/// The number of pictures in a batch.
const BATCH: usize = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(place) = arguments.iter().position(|argument| argument == "--client") {
        return client(&arguments[place + 1]);
    }
    let size = picture().len();
    println!("{BATCH} pictures of {size} bytes by {CLIENTS} clients; links of 30 Mbit/s\n");
    println!(
        "| path | pictures/s | Mbit/s | p50 | p99 | links used | batch | refused |\n|---|---|---|---|---|---|---|---|"
    );
    {
        let server = Server::start(&[]);
        let url = server.url("/detect");
        load::batch(&url, &picture(), CLIENTS, 16);
        row(
            "host: `spotter up`, its own address",
            &load::batch(&url, &picture(), CLIENTS, BATCH),
            None,
        );
    }
    let bridge = Bridge::new();
    let node = Node::make(&bridge, 13);
    let kubelet = node.kubelet();
    let wanted = Wanted {
        name: "detect",
        image: SCRATCH,
        environment: &[("SPIN_HTTP_LISTEN_ADDR", "0.0.0.0:8080")],
        user: 1000,
        ..Wanted::default()
    };
    let (pod, _) = kubelet.serve("bench", &wanted);
    let url = pod.url(":8080/detect");
    load::batch(&url, &picture(), CLIENTS, 16);
    row("LXC node: its veth and the bridge", &load::batch(&url, &picture(), CLIENTS, BATCH), None);

    let switch = Switch::join(&bridge, None);
    row("the same, through two links without a limit", &from(&switch, &url), None);
    drop(switch);

    let switch = Switch::join(&bridge, Some(RATE.0));
    switch.cut(2);
    through("one link", &switch, &url);
    drop(switch);

    // A new switch: one that has moved everything to one link leaves it there for a while.
    let switch = Switch::join(&bridge, Some(RATE.0));
    through("two links, bonded", &switch, &url);
    overlay(&switch, &bridge, &node);
    through("two links, bonded, VXLAN over them", &switch, &url);
    kubelet.remove_pod(&pod);
}

/// A picture with many bytes for its number of pixels.
fn picture() -> Vec<u8> {
    let photograph = image::load_from_memory(&pictures::photograph()).expect("a picture");
    pictures::encode(&photograph, image::ImageFormat::Png)
}

/// Runs this program again, in the client's namespace.
fn from(switch: &Switch, url: &str) -> Outcome {
    let own = std::env::current_exe().expect("this program");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &switch.client()]).arg(own).args(["--client", url]);
    let said: Value = serde_json::from_str(&sure(&mut command)).expect("JSON");
    let times = said["times"].as_array().expect("times").iter();
    Outcome {
        times: times.map(|time| time.as_f64().expect("a time")).collect(),
        refused: serde_json::from_value(said["refused"].clone()).expect("statuses"),
        took: std::time::Duration::from_secs_f64(said["took"].as_f64().expect("a time")),
    }
}

fn client(url: &str) {
    let outcome = load::batch(url, &picture(), CLIENTS, BATCH);
    let refused = outcome.refused;
    println!(
        "{}",
        json!({"times": outcome.times, "refused": refused, "took": outcome.took.as_secs_f64()})
    );
}

fn through(name: &str, switch: &Switch, url: &str) {
    let (before, began) = (switch.bytes(), Instant::now());
    let outcome = from(switch, url);
    let (after, seconds) = (switch.bytes(), began.elapsed().as_secs_f64());
    let used = [0, 1].map(|link| (after[link].0 - before[link].0) as f64 * 8.0 / seconds / RATE.1);
    row(name, &outcome, Some(used));
}

fn row(name: &str, outcome: &Outcome, used: Option<[f64; 2]>) {
    let used = used.map(|used| format!("{:.0} %, {:.0} %", 100.0 * used[0], 100.0 * used[1]));
    println!(
        "| {name} | {:.1} | {:.1} | {:.0} ms | {:.0} ms | {} | {:.1} s | {} |",
        outcome.goodput(),
        outcome.goodput() * picture().len() as f64 * 8.0 / 1e6,
        outcome.quantile(0.5),
        outcome.quantile(0.99),
        used.unwrap_or_default(),
        outcome.took.as_secs_f64(),
        // 408 is a body whose packets were lost so often that it stalled for ten seconds.
        outcome.refused.len(),
    );
}

/// Creates a tunnel between the client and the node, through which the client then reaches the pods.
fn overlay(switch: &Switch, bridge: &Bridge, node: &Node) {
    let client = switch.client();
    let tunnel = |own: &str, other: &str| {
        format!("link add vx0 mtu 1450 type vxlan id 42 dstport 4789 local {own} remote {other}")
    };
    let own = format!("{}.250", bridge.network);
    for words in [
        tunnel(&own, &node.address),
        "address add 10.46.0.1/24 dev vx0".to_owned(),
        "link set vx0 up".to_owned(),
        format!("route add {} via 10.46.0.2", node.pods),
    ] {
        ip(&format!("-n {client} {words}"));
    }
    for words in [
        tunnel(&node.address, &own),
        "address add 10.46.0.2/24 dev vx0".to_owned(),
        "link set vx0 up".to_owned(),
    ] {
        let mut command = vec!["ip"];
        command.extend(words.split(' '));
        node.attach(&command);
    }
}
