//! Components against a real MQTT broker.

use std::net::TcpStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use spotter_tests::application::Application;
use spotter_tests::{client, ports, system};
use tempfile::TempDir;

/// Mosquitto with one user.
struct Broker {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Broker {
    fn start() -> Self {
        let broker = system::program("mosquitto", "mosquitto");
        let folder = tempfile::tempdir().expect("a folder");
        let passwords = folder.path().join("passwords");
        let status = Command::new(system::program("mosquitto_passwd", "mosquitto"))
            .args(["-b", "-c"])
            .arg(&passwords)
            .args(["user", "password"])
            .status()
            .expect("mosquitto_passwd starts");
        assert!(status.success(), "{status}");
        let port = ports::reserve();
        // As another user, it could not read the folder.
        let configuration = format!(
            "listener {port} 127.0.0.1\nuser root\nallow_anonymous false\npassword_file {}\n\
             queue_qos0_messages true\n",
            passwords.display()
        );
        let file = folder.path().join("mosquitto.conf");
        std::fs::write(&file, configuration).expect("a file");
        let process = Command::new(broker).arg("-c").arg(file).spawn().expect("mosquitto starts");
        let broker = Self { process, port, _folder: folder };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        broker
    }

    fn address(&self, client_id: &str) -> String {
        format!("mqtt://127.0.0.1:{}?client_id={client_id}", self.port)
    }

    /// What a subscriber to all topics prints, whose session the broker keeps between calls.
    fn subscriber(&self, arguments: &[&str]) -> String {
        let output = Command::new(system::program("mosquitto_sub", "mosquitto-clients"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-u", "user", "-P", "password", "-i", "subscriber", "-c", "-q", "2", "-t", "#"])
            .args(arguments)
            .output()
            .expect("mosquitto_sub starts");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Lets the broker keep what is published from now on.
    fn subscribe(&self) {
        self.subscriber(&["-E"]);
    }

    /// The kept messages in alphabetical order, each with its topic and quality of service.
    fn received(&self, count: usize) -> Vec<String> {
        let printed = self.subscriber(&["-C", &count.to_string(), "-W", "20", "-F", "%t %q %p"]);
        let mut lines: Vec<String> = printed.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn components_of_both_interfaces_publish_to_a_real_mqtt_broker() {
    let broker = Broker::start();
    let hosts = format!("allowed_outbound_hosts = [\"mqtt://127.0.0.1:{}\"]", broker.port);
    let server = Application::new(&format!(
        r#"
        [[trigger.http]]
        route = "/..."
        component = {{ source = "spin_sdk_7.wasm", {hosts} }}
        [[trigger.http]]
        route = "/5/..."
        component = {{ source = "spin_sdk_5.wasm", {hosts} }}
        "#
    ))
    .up(&[]);
    let address = broker.address("spotter");
    let results = |path: &str, password: &str| {
        let body = [&address, "user", password].join("\n");
        let reply = client::send("POST", &server.url(path), &[], body.as_bytes());
        String::from_utf8(reply.body).expect("text").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for path in ["/mqtt", "/5/mqtt"] {
        broker.subscribe();
        let published = results(path, "password");
        assert_eq!(published[..3], ["Ok(())", "Ok(())", "Ok(())"]);
        assert!(published[3].contains("has a wildcard"), "{published:?}");
        let received = ["sdk/exactly 2 two", "sdk/least 1 one", "sdk/most 0 zero"];
        assert_eq!(broker.received(3), received, "{path}");
        let wrong = results(path, "wrong");
        assert!(wrong[0].contains("Error::ConnectionFailed(\"the broker refuses"), "{wrong:?}");
    }
    // The host keeps the connection alive while the component does something else.
    assert_eq!(results("/5/mqtt-later", "password"), ["Ok(())"]);
    drop(broker);
    for path in ["/mqtt", "/5/mqtt"] {
        let away = results(path, "password");
        assert!(away[0].contains("Connection refused"), "{away:?}");
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn spins_conformance_case_for_mqtt_passes() {
    let broker = Broker::start();
    let server = Application::new(&format!(
        r#"
        [[trigger.http]]
        route = "/..."
        component = {{ source = "conformance.wasm", allowed_outbound_hosts = ["mqtt://127.0.0.1:{}"] }}
        "#,
        broker.port
    ))
    .up(&[]);
    broker.subscribe();
    let address = broker.address("spintest");
    let url = server.url("/outbound-mqtt");
    let reply = client::send("GET", &url, &[("address", &address)], b"");
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"ok".as_slice()));
    assert_eq!(broker.received(1), ["telemetry-topic 1 Eureka!"]);
}
