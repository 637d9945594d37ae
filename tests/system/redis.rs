//! Components against a real Redis server.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use spotter_tests::application::Application;
use spotter_tests::{client, ports, system};

pub(crate) struct Redis(Child);

impl Redis {
    /// A server with a password.
    pub(crate) fn start(port: u16) -> Self {
        let process = Command::new(system::program("redis-server", "redis-server"))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", "secret"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let redis = Self(process);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn components_of_both_interfaces_use_a_real_redis_server() {
    let port = ports::reserve();
    let redis = Redis::start(port);
    let server = Application::new(&format!(
        r#"
        [[trigger.http]]
        route = "/..."
        component = {{ source = "spin_sdk_7.wasm", allowed_outbound_hosts = ["redis://127.0.0.1:{port}"] }}
        [[trigger.http]]
        route = "/5/..."
        component = {{ source = "spin_sdk_5.wasm", allowed_outbound_hosts = ["redis://127.0.0.1:{port}"] }}
        "#
    ))
    .up(&[]);
    let results = |path: &str, address: &str| {
        let reply = client::send("POST", &server.url(path), &[], address.as_bytes());
        String::from_utf8(reply.body).expect("text").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let address = format!("redis://:secret@127.0.0.1:{port}/1");
    assert_eq!(
        results("/redis", &address),
        ["Ok(())", "Ok(Some([116, 101, 120, 116]))", "Err(Error::TypeError)", "Ok(1)", "Ok(None)"]
    );
    let older = results("/5/redis", &address);
    assert_eq!(
        older[..11],
        [
            "Ok(())",
            "Ok(Some([55]))",
            "Ok(None)",
            "Ok(8)",
            "Ok(())",
            "Ok(2)",
            "Ok(2)",
            "Ok(1)",
            "Err(Error::TypeError)",
            "Ok([RedisResult::Int64(3)])",
            "Ok([RedisResult::Binary([56, 45, 57]), RedisResult::Nil])",
        ]
    );
    assert!(older[11].contains("unknown command"), "{}", older[11]);
    assert_eq!(older[12], "Ok(2)");
    for path in ["/redis", "/5/redis"] {
        let wrong = results(path, &format!("redis://:wrong@127.0.0.1:{port}"));
        assert!(wrong[0].contains("Error::Other("), "{wrong:?}");
    }
    // If the server goes away, that is an error, too.
    drop(redis);
    let away = results("/redis", &address);
    assert!(away[0].contains("refused"), "{away:?}");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn spins_conformance_case_for_redis_passes_where_a_variable_allows_the_server() {
    let port = ports::reserve();
    let _redis = Redis::start(port);
    let server = Application::new(&format!(
        r#"
        [variables]
        host = {{ default = "127.0.0.1" }}
        [[trigger.http]]
        route = "/..."
        component = {{ source = "conformance.wasm", allowed_outbound_hosts = ["redis://{{{{ host }}}}:{port}"] }}
        "#
    ))
    .up(&[]);
    let address = format!("redis://:secret@127.0.0.1:{port}");
    let url = server.url("/outbound-redis");
    let reply = client::send("GET", &url, &[("address", &address)], b"");
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"ok".as_slice()));
}
