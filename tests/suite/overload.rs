//! Under overload, accepted requests are answered as usual, and the others are told to try again.

use std::io::Write;
use std::time::Duration;

use spotter_tests::server::Server;
use spotter_tests::{client, load, pictures, raw};

/// A small picture, for which nearly all the time goes into the network.
fn picture() -> Vec<u8> {
    let cat = image::DynamicImage::ImageRgb8(pictures::cat());
    pictures::jpeg(&cat.resize(300, 300, image::imageops::FilterType::Triangle).into_rgb8())
}

#[test]
fn at_three_times_the_load_goodput_holds_and_probes_answer() {
    // Two instances on a machine of any size, because the loads below are relative to them.
    const INSTANCES: usize = 2;
    let limits = ["--instances", "2", "--queue-length", "4", "--queue-timeout", "10s"];
    let server = Server::start(&[&limits[..], &["--admin", "127.0.0.1:0"]].concat());
    let (url, picture) = (server.url("/detect"), picture());
    load::post(&url, &picture, INSTANCES, Duration::from_secs(1));
    let peak = load::post(&url, &picture, 2 * INSTANCES, Duration::from_secs(6));
    let (over, probes) = std::thread::scope(|scope| {
        let over =
            scope.spawn(|| load::post(&url, &picture, 6 * INSTANCES, Duration::from_secs(6)));
        let mut probes = 0;
        while !over.is_finished() {
            assert_eq!(client::get(&server.admin_url("/readyz")).status, 200);
            assert_eq!(client::get(&server.admin_url("/metrics")).status, 200);
            probes += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        (over.join().expect("a load"), probes)
    });
    println!(
        "peak {:.1}/s p99 {:.0} ms; at three times that {:.1}/s p99 {:.0} ms, {} turned away, {probes} probes",
        peak.goodput(),
        peak.quantile(0.99),
        over.goodput(),
        over.quantile(0.99),
        over.refused.len(),
    );
    assert!(peak.refused.is_empty(), "{:?}", peak.refused);
    assert!(over.refused.iter().all(|status| *status == 503), "{:?}", over.refused);
    assert!(!over.refused.is_empty());
    assert!(probes > 20, "{probes}");
    // The benchmark measures exact figures. These bounds are loose enough for a noisy machine.
    assert!(over.goodput() > 0.6 * peak.goodput(), "{} of {}", over.goodput(), peak.goodput());
}

#[test]
fn a_thousand_slow_headers_keep_nobody_from_an_answer() {
    let server = Server::guests(&["--header-timeout", "60s"]);
    // If the limit on open files is low, leave room for the other tests.
    let files = rlimit::increase_nofile_limit(4096).expect("a limit");
    let clients = usize::try_from(files / 2).expect("a number").min(1000);
    let mut slow: Vec<_> = (0..clients).map(|_| raw::connect(server.address())).collect();
    let drip = |slow: &mut Vec<std::net::TcpStream>, bytes: &[u8]| {
        slow.iter_mut().for_each(|stream| drop(stream.write_all(bytes)));
    };
    drip(&mut slow, b"GET / HTTP/1.1\r\n");
    for byte in b"host: te" {
        drip(&mut slow, &[*byte]);
        for _ in 0..20 {
            assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
        }
    }
    assert!(server.metric("spotter_connections") >= clients as f64);
}
