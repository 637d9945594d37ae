//! What the host reports: metrics, probes, logs, request ids and traces.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::Value;
use spotter_tests::server::Server;
use spotter_tests::{client, pictures};

#[test]
fn metrics_count_requests_by_route_and_status_and_detections_by_label() {
    let server = Server::guests(&[]);
    for path in
        ["/guest/hello", "/guest/hello", "/guest/trap", "/guest/detections", "/nowhere", "/teapot"]
    {
        client::get(&server.url(path));
    }
    let expected = [
        ("spotter_requests_total{route=\"/guest/...\",status=\"200\"}", 3.0),
        ("spotter_requests_total{route=\"/guest/...\",status=\"500\"}", 1.0),
        ("spotter_requests_total{route=\"/teapot\",status=\"418\"}", 1.0),
        ("spotter_requests_total{route=\"\",status=\"404\"}", 1.0),
        ("spotter_requests_rejected_total{reason=\"no_route\"}", 1.0),
        ("spotter_guest_failures_total{reason=\"guest_trapped\"}", 1.0),
        ("spotter_detections_total{model=\"test\",label=\"dog\",component=\"guest\"}", 2.0),
        ("spotter_requests_in_flight", 0.0),
        ("spotter_queue_wait_seconds_count", 4.0),
        ("spotter_instantiation_seconds_count", 4.0),
        ("spotter_guest_cpu_seconds_count", 4.0),
        ("spotter_guest_memory_peak_bytes_count", 4.0),
        ("spotter_request_duration_seconds_count", 6.0),
    ];
    for (name, value) in expected {
        assert_eq!(server.metric(name), value, "{name}");
    }
    let text = String::from_utf8(client::get(&server.admin_url("/metrics")).body).expect("text");
    assert!(text.contains("spotter_build_info{version="), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn whatever_a_guest_says_it_found_the_metrics_can_be_read() {
    let server = Server::guests(&[]);
    assert_eq!(client::get(&server.url("/guest/bad-detections")).status, 200);
    let text = String::from_utf8(client::get(&server.admin_url("/metrics")).body).expect("text");
    let counted: Vec<_> =
        text.lines().filter(|line| line.starts_with("spotter_detections_total{")).collect();
    // Escaped as OpenMetrics demands. What is too long is not counted.
    assert_eq!(counted.len(), 2, "{counted:?}");
    for line in [
        r#"spotter_detections_total{model="m\"",label="a\"",component="guest"} 1"#,
        r#"spotter_detections_total{model="m\"",label="b\\",component="guest"} 2"#,
    ] {
        assert!(counted.contains(&line), "{counted:?}");
    }
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody_and_its_loss_is_counted() {
    let mut server = Server::guests_unread(&[]);
    for _ in 0..3 {
        assert_eq!(client::get(&server.url("/guest/shout")).body, b"shouted");
    }
    assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
    let dropped = server.metric("spotter_log_lines_dropped_total");
    // 60,000 lines were logged. About 8,192 wait in memory, and 64 KiB in the pipe.
    assert!(dropped > 40_000.0, "{dropped}");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_detectors_own_findings_are_counted_and_its_header_is_kept_from_clients() {
    let server = Server::start(&["--admin", "127.0.0.1:0"]);
    let reply =
        client::post_picture(&server.url("/detect"), &pictures::bytes("skimage_chelsea.png"));
    assert_eq!(reply.header("spotter-detections"), "");
    assert_eq!(
        server.metric(
            "spotter_detections_total{model=\"ssdlite_mobilenet_v2\",label=\"cat\",component=\"detector\"}"
        ),
        1.0
    );
}

#[test]
fn the_admin_listener_answers_three_paths_and_is_off_by_default() {
    let server = Server::guests(&[]);
    for (path, status) in [("/metrics", 200), ("/healthz", 200), ("/readyz", 200), ("/", 404)] {
        assert_eq!(client::get(&server.admin_url(path)).status, status, "{path}");
    }
    let posted = client::send("POST", &server.admin_url("/metrics"), &[], &[]);
    assert_eq!(posted.status, 405);
    // The public listener does not serve these paths.
    assert_eq!(client::get(&server.url("/metrics")).status, 404);
}

#[test]
fn a_request_id_goes_to_the_guest_the_log_and_back() {
    let server = Server::guests(&["--log-format", "json"]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("x-request-id", "my-own-id"), ("traceparent", trace)];
    let reply = client::send("GET", &server.url("/guest/headers"), &headers, &[]);
    assert_eq!(reply.body, format!("my-own-id {trace}").as_bytes());
    assert_eq!(reply.header("x-request-id"), "my-own-id");
    server.wait_for_log("my-own-id");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("my-own-id")).expect("an access line");
    let line: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!((&line["status"], &line["route"]), (&Value::from(200), &Value::from("/guest/...")));
    assert_eq!(
        (&line["path"], &line["method"]),
        (&Value::from("/guest/headers"), &Value::from("GET"))
    );
    assert_eq!(line["traceparent"], trace);
    // An id that cannot be logged, and a missing one, are replaced.
    let other = client::send("GET", &server.url("/guest/headers"), &[("x-request-id", "a b")], &[]);
    let new = client::get(&server.url("/guest/headers"));
    assert!(other.header("x-request-id").len() > 8 && !other.header("x-request-id").contains(' '));
    assert_ne!(other.header("x-request-id"), new.header("x-request-id"));
}

#[test]
fn traces_go_to_a_collector_under_the_callers_span() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let collector = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let endpoint = format!("http://{}", collector.local_addr().expect("an address"));
    let server = Server::guests(&["--otlp-endpoint", &endpoint]);
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("traceparent", traceparent.as_str())];
    let reply = client::send("GET", &server.url("/guest/headers"), &headers, b"");
    // The guest continues the trace, below the host's own span.
    let reply = String::from_utf8(reply.body).expect("text");
    assert!(reply.contains(TRACE) && !reply.contains("00f067aa0ba902b7"), "{reply}");
    server.signal("TERM");
    collector.set_nonblocking(true).expect("a socket that does not block");
    let began = Instant::now();
    let mut stream = loop {
        if let Ok((stream, _)) = collector.accept() {
            break stream;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "no traces came");
        std::thread::sleep(Duration::from_millis(20));
    };
    stream.set_nonblocking(false).expect("a stream that blocks");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    let holds = |received: &[u8], wanted: &[u8]| {
        received.windows(wanted.len()).any(|window| window == wanted)
    };
    while !holds(&received, b"GET /guest/...") {
        let length = stream.read(&mut buffer).expect("a request");
        assert!(length > 0, "{}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&buffer[..length]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("a reply");
    assert!(received.starts_with(b"POST /v1/traces HTTP/1.1"));
    let trace: Vec<u8> = (0..16)
        .map(|at| u8::from_str_radix(&TRACE[2 * at..2 * at + 2], 16).expect("hex"))
        .collect();
    assert!(holds(&received, &trace) && holds(&received, b"http.response.status_code"));
}

#[test]
fn the_service_of_traces_is_named_by_the_environment() {
    let collector = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let endpoint = format!("http://{}", collector.local_addr().expect("an address"));
    let mut command = std::process::Command::new(spotter_tests::spotter());
    command.env("OTEL_SERVICE_NAME", "a-name-of-the-operator");
    let server = Server::guests_by(command, &["--otlp-endpoint", &endpoint]);
    client::get(&server.url("/guest/hello"));
    server.signal("TERM");
    let (mut stream, _) = collector.accept().expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&received).contains("a-name-of-the-operator") {
        let length = stream.read(&mut buffer).expect("a request");
        assert!(length > 0, "{}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&buffer[..length]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("a reply");
}
