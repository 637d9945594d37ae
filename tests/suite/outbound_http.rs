//! The runtime configuration's limit on components' outgoing HTTP requests.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use spotter_tests::application::Application;
use spotter_tests::client;

/// How long the server waits for requests that do not come.
const PATIENCE: Duration = Duration::from_secs(20);

const MANIFEST: &str = r#"
[[trigger.http]]
route = "/..."
component = "guest"
[component.guest]
source = "guest.wasm"
allowed_outbound_hosts = ["http://127.0.0.1:*"]
"#;

/// Starts a server that replies to no request before it has had this many at once, and then takes a while. Returns its
/// URL, and the most requests that it had at once.
fn slow(awaited: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let most = Arc::new(AtomicUsize::new(0));
    let (kept, now) = (Arc::clone(&most), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (most, now) = (Arc::clone(&kept), Arc::clone(&now));
            std::thread::spawn(move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
                let began = Instant::now();
                while most.load(Ordering::SeqCst) < awaited && began.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(10));
                }
                std::thread::sleep(Duration::from_millis(300));
                now.fetch_sub(1, Ordering::SeqCst);
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4";
                // The client may be gone.
                let _ = write!(stream, "{head}\r\n\r\ndone");
            });
        }
    });
    (url, most)
}

/// What a component gets for four requests at once to a server that awaits some, and how many that server had at once.
fn fetch_four_times(config: &str, awaited: usize) -> (Vec<String>, usize) {
    let application = Application::new(MANIFEST).with("config.toml", config);
    let server = application.up(&["--runtime-config-file", "config.toml", "--instances", "4"]);
    let (url, most) = slow(awaited);
    let fetch = || {
        let reply = client::send("POST", &server.url("/fetch"), &[], url.as_bytes());
        String::from_utf8(reply.body).expect("text")
    };
    let fetched = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(fetch)).collect();
        clients.into_iter().map(|client| client.join().expect("a reply")).collect()
    });
    (fetched, most.load(Ordering::SeqCst))
}

#[test]
fn outgoing_requests_beyond_the_limit_wait() {
    let (fetched, most) = fetch_four_times("[outbound_http]\nmax_connections = 2\n", 2);
    assert!(fetched.iter().all(|text| text.contains("done")), "{fetched:?}");
    assert_eq!(most, 2);
    assert_eq!(fetch_four_times("", 4).1, 4);
}

#[test]
fn a_limit_of_zero_refuses_outgoing_requests() {
    let (fetched, most) = fetch_four_times("[outbound_http]\nmax_connections = 0\n", 1);
    assert!(fetched.iter().all(|text| text.contains("ConnectionLimitReached")), "{fetched:?}");
    assert_eq!(most, 0);
}
