//! A real Prometheus scrapes the host.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use spotter_tests::server::Server;
use spotter_tests::{client, ports, system};

struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_real_prometheus_scrapes_the_host() {
    let server = Server::guests(&[]);
    client::get(&server.url("/guest/hello"));
    let folder = tempfile::tempdir().expect("a folder");
    let target = server.admin_url("");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: spotter\n  static_configs:\n  - targets: ['{}']\n",
        target.trim_start_matches("http://")
    );
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, config).expect("a file");
    let port = ports::reserve();
    let process = Command::new(system::program("prometheus", "prometheus"))
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus starts");
    let _prometheus = Prometheus(process);
    let query = format!("http://127.0.0.1:{port}/api/v1/query?query=spotter_requests_total");
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_secs(60), "prometheus has scraped nothing");
        std::thread::sleep(Duration::from_millis(300));
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            continue;
        }
        let reply = client::get(&query);
        let Ok(answer) = serde_json::from_slice::<Value>(&reply.body) else { continue };
        let result = &answer["data"]["result"];
        if result.as_array().is_some_and(|series| !series.is_empty()) {
            assert_eq!(result[0]["metric"]["route"], "/guest/...");
            assert_eq!(result[0]["value"][1], "1");
            return;
        }
    }
}
