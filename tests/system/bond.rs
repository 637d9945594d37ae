//! The bond that k8s/network sets up, on a kernel with the bonding driver: LACP, traffic, the loss of links under
//! load, and the reports of `spotter node check`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spotter_tests::virtual_machine::{Report, bond_files, run};
use spotter_tests::{guests, root, stderr, system};

/// The codes and subjects of the bond and MTU checks that do not pass.
fn faults(report: &Report, state: &str) -> Vec<(String, String)> {
    let said = report.json(state);
    let findings = said["findings"].as_array().expect("findings").iter();
    let of = |finding: &Value, field: &str| finding[field].as_str().expect("a text").to_owned();
    findings
        .filter(|finding| finding["verdict"] != "pass")
        .map(|finding| (of(finding, "code"), of(finding, "subject")))
        .filter(|(code, _)| code.starts_with("bond") || code.starts_with("mtu"))
        .collect()
}

/// Runs netplan on the shipped configuration.
fn generate(folder: &Path) {
    let netplan = system::program("netplan", "netplan.io");
    let place = folder.join("etc/netplan");
    std::fs::create_dir_all(&place).expect("a folder");
    std::fs::copy(root().join("k8s/network/netplan/60-bond.yaml"), place.join("60-bond.yaml"))
        .expect("a copy");
    let generated = Command::new(netplan).args(["generate", "--root-dir"]).arg(folder).output();
    let generated = generated.expect("netplan starts");
    assert!(generated.status.success(), "{}", stderr(&generated));
}

/// Megabits per second, and the share of each of the two links.
fn traffic(report: &Report, flows: &str) -> (f64, [f64; 2]) {
    let key = format!("flows={flows}");
    let bytes = |field: &str| -> Vec<f64> {
        report
            .result(&key, field)
            .split('/')
            .map(|number| number.parse().expect("a number"))
            .collect()
    };
    let (before, after) = (bytes("before"), bytes("after"));
    let moved = [after[0] - before[0], after[1] - before[1]];
    let sum = moved[0] + moved[1];
    (report.number(&key, "bits_per_second") / 1e6, [moved[0] / sum, moved[1] / sum])
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_shipped_bond_carries_both_links_and_survives_the_loss_of_each() {
    guests();
    let folder = tempfile::tempdir().expect("a folder");
    generate(folder.path());
    let report = run(&bond_files(&folder.path().join("run/systemd/network")));

    for form in ["ifupdown", "netplan", "networkd"] {
        let waited = report.number(&format!("form={form}"), "lacp_seconds");
        assert!(waited < 60.0, "{form}: no LACP");
        assert_eq!(report.result(&format!("form={form}"), "address"), "10.0.0.1/24");
        assert_eq!(faults(&report, form), [], "{form}");
        let bond = &report.json(form)["bonds"][0];
        assert_eq!(bond["aggregator"]["ports"], 2, "{form}");
        assert_eq!(bond["ports"][0]["aggregator"], bond["ports"][1]["aggregator"], "{form}");
    }

    // Each link has 40 Mbit/s.
    let (one, shares) = traffic(&report, "1");
    println!("one flow: {one:.1} Mbit/s, {shares:.2?} of it on each link");
    assert!((25.0..42.0).contains(&one) && shares[0].max(shares[1]) > 0.95, "{one} {shares:?}");
    // The ports of the flows are random, and so are the links that their hashes choose. Of 32 flows, fewer than seven
    // share a link in one run of 2,000, and of eight flows fewer than two do in one of 14.
    let (many, shares) = traffic(&report, "32");
    println!("32 flows: {many:.1} Mbit/s, {shares:.2?} of it on each link");
    assert!(many > 1.6 * one && shares[0].min(shares[1]) > 0.2, "{many} {shares:?}");

    let requests = report.number("failed=0", "requests");
    println!(
        "{requests} requests, none failed; slowest {} s",
        report.number("failed=0", "slowest")
    );
    assert!(requests > 50.0);
    // A lost link is noticed within a tenth of a second. Packets that were lost with it are sent again.
    assert!(report.number("failed=0", "slowest") < 8.0);
    for port in ["port1", "port2"] {
        assert_eq!(report.result(&format!("cut={port}"), "active"), "1");
        assert!(report.number(&format!("restored={port}"), "seconds") < 30.0);
    }
    assert!(report.text("metrics").contains("spotter_bond_ports_active{bond=\"bond0\"} 2"));

    let fault = |code: &str, subject: &str| (code.to_owned(), subject.to_owned());
    assert_eq!(faults(&report, "dead-port"), [fault("bond-port-link", "bond0/eno1")]);
    let alone = faults(&report, "no-partner");
    assert!(alone.contains(&fault("bond-partner", "bond0")), "{alone:?}");
    let half = faults(&report, "half-configured");
    for code in ["bond-mode", "bond-miimon", "bond-ports"] {
        assert!(half.contains(&fault(code, "bond0")), "{half:?}");
    }
    assert_eq!(report.result("done=yes", "done"), "yes");
}
