//! Our own version of those of Spin's conformance cases (<https://github.com/fermyon/conformance-tests>) that need no
//! server beside the test. docs/spin.md names the test of each case.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, ports};

/// The component in an application, whose folder has to stay as long as its server.
struct Conformance {
    server: Server,
    _application: Application,
}

/// Serves the component with these keys.
fn up(keys: &str) -> Conformance {
    let application = Application::new(&format!(
        r#"
        [variables]
        host = {{ default = "127.0.0.1" }}
        network = {{ default = "127.0.0.0/24" }}
        [[trigger.http]]
        route = "/..."
        component = "conformance"
        [component.conformance]
        source = "conformance.wasm"
        {keys}
        "#
    ));
    Conformance { server: application.up(&[]), _application: application }
}

/// The reply's status and text.
fn call(conformance: &Conformance, path: &str, address: &str) -> (u16, String) {
    let reply = client::send("GET", &conformance.server.url(path), &[("address", address)], b"");
    (reply.status, String::from_utf8(reply.body).expect("text"))
}

fn assert_ok(conformance: &Conformance, path: &str, address: &str) {
    assert_eq!(call(conformance, path, address), (200, "ok".to_owned()), "{path}");
}

fn assert_fails(conformance: &Conformance, path: &str, address: &str, reason: &str) {
    let (status, text) = call(conformance, path, address);
    assert!(status == 500 && text.contains(reason), "{path}: {status} {text}");
}

/// A server on this machine that sends back what it receives. Returns its address.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut back = stream.try_clone().expect("a stream");
            std::thread::spawn(move || std::io::copy(&mut stream, &mut back));
        }
    });
    address
}

#[test]
fn key_value() {
    assert_ok(&up("key_value_stores = [\"default\"]"), "/key-value", "");
}

#[test]
fn key_value_no_permission() {
    assert_fails(&up(""), "/key-value", "", "Error::AccessDenied");
}

#[test]
fn variables() {
    assert_ok(&up("variables = { variable = \"value\" }"), "/variables", "");
}

#[test]
fn sqlite() {
    assert_ok(&up("sqlite_databases = [\"default\"]"), "/sqlite", "");
}

#[test]
fn sqlite_no_permission() {
    assert_fails(&up(""), "/sqlite", "", "Error::AccessDenied");
}

#[test]
fn request_shape() {
    let server = Application::new(
        r#"
        [[trigger.http]]
        route = "/base/:path_segment/:path_end/..."
        component = "conformance"
        [component.conformance]
        source = "conformance.wasm"
        "#,
    )
    .up(&[]);
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    let request = "GET /base/path/end/rest?key=value HTTP/1.1\r\nhost: example.com\r\nuser-agent: my-agent\r\n\
                   accept: */*\r\nspin-path-info: forged\r\nspin-other: forged\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a request");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
}

#[test]
fn outbound_wasi_http() {
    // The guests' own application sends a body back.
    let other = Server::guests(&[]);
    let keys = format!("allowed_outbound_hosts = [\"http://{}\"]", other.address());
    assert_ok(&up(&keys), "/outbound-http", &other.url("/guest/echo"));
}

#[test]
fn outbound_wasi_http_no_perms() {
    let other = Server::guests(&[]);
    let server = up("");
    assert_fails(&server, "/outbound-http-get", &other.url("/guest/hello"), "HttpRequestDenied");
    let (status, _) = call(&server, "/outbound-http", &other.url("/guest/echo"));
    assert_eq!(status, 500);
}

#[test]
fn outbound_redis_no_permission() {
    assert_fails(&up(""), "/outbound-redis", "redis://127.0.0.1:6379", "Error::InvalidAddress");
}

#[test]
fn outbound_redis_variable_permission() {
    // The connection is tried: a port on which nobody listens is another error than a denial.
    let closed = ports::reserve();
    let keys = format!("allowed_outbound_hosts = [\"redis://{{{{ host }}}}:{closed}\"]");
    let server = up(&keys);
    assert_fails(&server, "/outbound-redis", &format!("redis://127.0.0.1:{closed}"), "refused");
    assert_fails(&server, "/outbound-redis", "redis://127.0.0.1:1", "Error::InvalidAddress");
}

#[test]
fn outbound_mqtt_no_permission() {
    let address = "mqtt://localhost:1883?client_id=spintest";
    let reason = format!("Error::ConnectionFailed(\"address {address} is not permitted\")");
    assert_fails(&up(""), "/outbound-mqtt", address, &reason);
}

#[test]
fn tcp_sockets() {
    let address = echo();
    assert_ok(
        &up(&format!("allowed_outbound_hosts = [\"*://{address}\"]")),
        "/tcp-sockets",
        &address,
    );
}

#[test]
fn tcp_sockets_ip_range() {
    let address = echo();
    let port = address.rsplit(':').next().expect("a port");
    let keys = format!("allowed_outbound_hosts = [\"*://127.0.0.0/24:{port}\"]");
    assert_ok(&up(&keys), "/tcp-sockets", &address);
}

#[test]
fn tcp_sockets_ip_range_variable_permission() {
    let address = echo();
    let port = address.rsplit(':').next().expect("a port");
    let keys = format!("allowed_outbound_hosts = [\"*://{{{{ network }}}}:{port}\"]");
    assert_ok(&up(&keys), "/tcp-sockets", &address);
}

#[test]
fn tcp_sockets_no_ip_permission() {
    let address = echo();
    let port = address.rsplit(':').next().expect("a port");
    let keys = format!("allowed_outbound_hosts = [\"*://127.0.0.2:{port}\"]");
    assert_fails(&up(&keys), "/tcp-sockets", &address, "access-denied (error 1)");
}

#[test]
fn tcp_sockets_no_port_permission() {
    let keys = "allowed_outbound_hosts = [\"*://127.0.0.1:1\"]";
    assert_fails(&up(keys), "/tcp-sockets", &echo(), "access-denied (error 1)");
}
