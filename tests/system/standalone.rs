//! The standalone image under runc and Podman: detection, probes, limits, and the end of a container.

use std::time::{Duration, Instant};

use spotter_tests::server::Server;
use spotter_tests::standalone::{Podman, RuncContainer, image};
use spotter_tests::{client, pictures, stderr, stdout};

/// Ports that the system chooses, since these containers share the machine's network.
const PORTS: [(&str, &str); 2] =
    [("SPIN_HTTP_LISTEN_ADDR", "127.0.0.1:0"), ("SPOTTER_ADMIN", "127.0.0.1:0")];

const GIB: u64 = 1 << 30;

fn with<'a>(further: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&PORTS, further].concat()
}

fn detects_a_cat(server: &Server) {
    let reply =
        client::post_picture(&server.url("/detect"), &pictures::bytes("skimage_chelsea.png"));
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.json()["detections"][0]["label"], "cat");
}

/// Requests in flight when the signal comes are answered, and then the container ends with success.
fn drains(mut server: Server, terminate: impl FnOnce()) {
    let url = server.url("/detect");
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            // Several pictures, so that no request ends before all have arrived.
            std::thread::spawn(move || {
                let picture = pictures::photograph();
                client::post_form(&url, &[("image", Some("a.jpg"), picture.as_slice()); 8]).status
            })
        })
        .collect();
    let began = Instant::now();
    while server.metric("spotter_requests_in_flight") < 4.0 {
        assert!(began.elapsed() < Duration::from_secs(20), "the requests do not arrive");
        std::thread::sleep(Duration::from_millis(1));
    }
    terminate();
    let replies: Vec<u16> =
        clients.into_iter().map(|client| client.join().expect("a reply")).collect();
    assert_eq!(replies, [200; 4]);
    assert!(server.wait().success(), "{}", server.log());
}

#[test]
#[cfg_attr(not(static_binary), ignore = "needs SPOTTER_STATIC_BINARY, a static spotter")]
fn under_runc_the_image_detects_and_is_ready_without_root_or_a_place_to_write() {
    let (container, server) = RuncContainer::start(&PORTS, GIB);
    detects_a_cat(&server);
    assert!(client::is_ready(&server.admin_url("/readyz")));
    // The code that came with the image was used.
    assert!(!server.log().contains("compiling"), "{}", server.log());
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid()));
    let status = status.expect("a status");
    for line in ["Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000"] {
        assert!(status.contains(line), "{status}");
    }
    let address = server.admin_url("").replace("http://", "");
    let healthy = container.exec(&["/spotter", "health", "--admin", &address]);
    assert_eq!(stdout(&healthy), "ready\n", "{}", stderr(&healthy));
    let shell = container.exec(&["/bin/sh", "-c", "true"]);
    assert!(!shell.status.success(), "the image has a shell");
}

#[test]
#[cfg_attr(not(static_binary), ignore = "needs SPOTTER_STATIC_BINARY, a static spotter")]
fn under_runc_limits_hold_and_follow_the_containers_memory() {
    let (_container, server) =
        RuncContainer::start(&with(&[("SPOTTER_BODY_SIZE", "64KiB")]), 320 << 20);
    let large = vec![0; 80 << 10];
    let refused = client::post_picture(&server.url("/detect"), &large);
    assert_eq!(refused.status, 413);
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        server.wait_for_log("memory limit is too low for an instance on each core");
    }
    let small = pictures::jpeg(&pictures::cat());
    assert!(small.len() < 64 << 10, "the picture is too large for this test");
    assert_eq!(client::post_picture(&server.url("/detect"), &small).status, 200);
}

#[test]
#[cfg_attr(not(static_binary), ignore = "needs SPOTTER_STATIC_BINARY, a static spotter")]
fn under_runc_requests_in_flight_are_answered_before_the_container_ends() {
    let (container, server) = RuncContainer::start(&with(&[("SPOTTER_QUEUE_TIMEOUT", "30s")]), GIB);
    drains(server, || container.kill("TERM"));
}

#[test]
#[cfg_attr(not(static_binary), ignore = "needs SPOTTER_STATIC_BINARY, a static spotter")]
fn under_podman_the_image_detects_is_healthy_and_drains() {
    let podman = Podman::start();
    let options = [
        "--env",
        "SPIN_HTTP_LISTEN_ADDR=127.0.0.1:0",
        "--env",
        "SPOTTER_ADMIN=127.0.0.1:0",
        "--env",
        "SPOTTER_QUEUE_TIMEOUT=30s",
        "--memory",
        "1g",
    ];
    let server = podman.run("detect", &options);
    detects_a_cat(&server);
    assert!(client::is_ready(&server.admin_url("/readyz")));
    assert!(!server.log().contains("compiling"), "{}", server.log());
    let address = server.admin_url("").replace("http://", "");
    let health = ["exec", "detect", "/spotter", "health", "--admin", &address];
    let healthy = podman.command(&health).output().expect("podman");
    assert_eq!(stdout(&healthy), "ready\n", "{}", stderr(&healthy));
    drains(server, || {
        let stopped = podman.command(&["kill", "--signal", "TERM", "detect"]).output();
        assert!(stopped.is_ok_and(|output| output.status.success()), "podman kill");
    });
}

/// Prints the figures of BENCHMARKS.md.
#[test]
#[cfg_attr(not(static_binary), ignore = "needs SPOTTER_STATIC_BINARY, a static spotter")]
fn the_first_detection_comes_soon_after_the_start_under_runc() {
    image();
    let picture = pictures::bytes("skimage_chelsea.png");
    let mut times = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..7 {
        let began = Instant::now();
        let (container, server) = RuncContainer::start(&PORTS, GIB);
        let reply = client::post_picture(&server.url("/detect"), &picture);
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        assert_eq!(reply.status, 200);
        memory.push(proportional(container.pid()));
    }
    times.sort_by(f64::total_cmp);
    memory.sort_by(f64::total_cmp);
    println!(
        "runc: {:.1} MB compressed, first detection after {:.0} ms (median; {:.0} to {:.0}), {:.0} MB then",
        image().compressed as f64 / 1e6,
        times[3],
        times[0],
        times[6],
        memory[3] / 1e6
    );
    assert!(times[3] < 5000.0, "{times:?}");
}

/// The proportional share of a process's memory, in bytes.
fn proportional(pid: u64) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a share");
    let kibibytes = line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number");
    kibibytes * 1024.0
}
