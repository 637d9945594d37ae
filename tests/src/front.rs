//! A proxy in front of a server: Debian's nginx or haproxy, which logs what it passes on.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{ports, system};

/// A proxy on a port of its own.
pub struct Front {
    process: Child,
    pub address: String,
    log: PathBuf,
    _folder: TempDir,
}

impl Front {
    /// nginx, which keeps connections to the server open, and streams bodies to it.
    pub fn nginx(server: &str) -> Self {
        let (folder, address) = place();
        let log = folder.path().join("log");
        let path = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/errors;\n\
             events {{}}\n\
             http {{\n\
               log_format seen '$upstream_status $request_method $request_uri';\n\
               access_log {path}/log seen;\n\
               client_body_temp_path {path}/a; proxy_temp_path {path}/b; fastcgi_temp_path {path}/c;\n\
               uwsgi_temp_path {path}/d; scgi_temp_path {path}/e;\n\
               keepalive_timeout 2s; client_header_timeout 2s; client_body_timeout 2s;\n\
               upstream spotter {{ server {server}; keepalive 4; }}\n\
               server {{ listen {address}; location / {{\n\
                 proxy_pass http://spotter; proxy_http_version 1.1; proxy_set_header Connection '';\n\
                 proxy_request_buffering off; proxy_read_timeout 3s;\n\
               }} }}\n\
             }}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config).expect("a file");
        let mut command = Command::new(in_sbin("nginx", "nginx-light"));
        command.arg("-c").arg(file).arg("-p").arg(folder.path());
        Self::start(command.stdout(Stdio::null()), folder, address, log)
    }

    /// haproxy, which shares connections to the server among all clients.
    pub fn haproxy(server: &str) -> Self {
        let (folder, address) = place();
        let log = folder.path().join("log");
        let config = format!(
            "global\n  log stdout format raw local0\n\
             defaults\n  mode http\n  log global\n  log-format \"%s %HM %HP\"\n\
             \x20 timeout connect 2s\n  timeout client 2s\n  timeout server 3s\n\
             \x20 timeout http-request 2s\n  http-reuse always\n\
             frontend front\n  bind {address}\n  default_backend back\n\
             backend back\n  server spotter {server}\n"
        );
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, config).expect("a file");
        let mut command = Command::new(in_sbin("haproxy", "haproxy"));
        command.arg("-db").arg("-f").arg(file);
        let output = std::fs::File::create(&log).expect("a file");
        Self::start(command.stdout(output), folder, address, log)
    }

    fn start(command: &mut Command, folder: TempDir, address: String, log: PathBuf) -> Self {
        let process = command.stderr(Stdio::null()).spawn().expect("the proxy starts");
        let began = Instant::now();
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "the proxy does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { process, address, log, _folder: folder }
    }

    /// The requests that it has passed on: method and path of each.
    pub fn passed(&self) -> Vec<String> {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        log.lines().filter_map(passed).collect()
    }
}

/// A line of the log: the server's status, or the server, then method and target. What did not reach the server has
/// `-` or `<NOSRV>`.
fn passed(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    let (reached, method, target) = (words.next()?, words.next()?, words.next()?);
    if reached == "-" || reached.starts_with('<') {
        return None;
    }
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    let path = path.split('?').next().unwrap_or_default();
    Some(format!("{method} {path}"))
}

fn place() -> (TempDir, String) {
    (tempfile::tempdir().expect("a folder"), format!("127.0.0.1:{}", ports::reserve()))
}

/// A program that is often in a folder that is on root's path only.
fn in_sbin(name: &str, package: &str) -> PathBuf {
    let path = PathBuf::from("/usr/sbin").join(name);
    if path.is_file() { path } else { system::program(name, package) }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
