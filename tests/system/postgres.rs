//! Components against a real PostgreSQL server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use spotter_tests::application::Application;
use spotter_tests::{client, ports, system};
use tempfile::TempDir;

/// A server in a folder of its own, with one user, who has a password.
struct Postgres {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Postgres {
    fn start() -> Self {
        let initdb = program("initdb");
        let folder = tempfile::tempdir().expect("a folder");
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        fs::write(&password, "secret\n").expect("a file");
        succeed(Command::new("chown").args(["-R", "postgres:"]).arg(folder.path()));
        succeed(
            as_postgres(&initdb)
                .args(["--username=me", "--auth=scram-sha-256", "--encoding=UTF8"])
                .args(["--locale=C", "--no-sync"])
                .arg(format!("--pwfile={}", password.display()))
                .arg(&data)
                .stdout(Stdio::null()),
        );
        let port = ports::reserve();
        let process = as_postgres(&program("postgres"))
            .args(["-F", "-h", "127.0.0.1", "-k", "", "-p", &port.to_string(), "-D"])
            .arg(&data)
            .spawn()
            .expect("postgres starts");
        let postgres = Self { process, port, _folder: folder };
        postgres.wait();
        postgres
    }

    fn wait(&self) {
        let is_ready = || {
            Command::new(program("pg_isready"))
                .args(["--quiet", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .expect("pg_isready starts")
                .success()
        };
        let began = Instant::now();
        while !is_ready() {
            assert!(began.elapsed() < Duration::from_secs(60), "postgres is not ready");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn address(&self, password: &str) -> String {
        format!("postgres://me:{password}@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It closes the connections, and removes its shared memory.
        let _ = kill_process(Pid::from_child(&self.process), Signal::INT);
        let _ = self.process.wait();
    }
}

/// A program of the newest server that is installed. Debian does not have it on the `PATH`.
fn program(name: &str) -> PathBuf {
    let find = || {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        versions.map(|version| version.path().join("bin").join(name)).filter(|p| p.is_file()).max()
    };
    if find().is_none() {
        system::install("postgresql");
    }
    find().unwrap_or_else(|| panic!("`{name}` is missing: install the package postgresql"))
}

/// The server does not run as root.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command.current_dir("/");
    command
}

fn succeed(command: &mut Command) {
    let status = command.status().expect("a program that starts");
    assert!(status.success(), "{command:?}: {status}");
}

/// The components of two SDKs, which may connect to the server.
fn application(postgres: &Postgres) -> Application {
    let hosts = format!("allowed_outbound_hosts = [\"postgres://127.0.0.1:{}\"]", postgres.port);
    Application::new(&format!(
        r#"
        [[trigger.http]]
        route = "/..."
        component = {{ source = "spin_sdk_7.wasm", {hosts} }}
        [[trigger.http]]
        route = "/5/..."
        component = {{ source = "spin_sdk_5.wasm", {hosts} }}
        "#
    ))
}

/// What a component says about each of these lines.
fn results(url: &str, lines: &[&str]) -> Vec<String> {
    let reply = client::send("POST", url, &[], lines.join("\n").as_bytes());
    String::from_utf8(reply.body).expect("text").lines().map(str::to_owned).collect()
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn components_of_each_interface_use_a_real_postgresql_server() {
    let postgres = Postgres::start();
    let application = application(&postgres);
    let server = application.up(&[]);
    let address = postgres.address("secret");
    let run = |path: &str, table: &str, insert: &str| {
        let create = format!("CREATE TEMPORARY TABLE t ({table})");
        let insert = format!("INSERT INTO t VALUES {insert}");
        let said = results(&server.url(path), &[&address, &create, &insert, "SELECT * FROM t"]);
        assert!(said.len() == 3 && said[1] == "Ok(1)", "{said:?}");
        said[2].clone()
    };
    let table = "a bool, b smallint, c int, d bigint, e real, f float8, g text, h bytea, i int, \
                 j date DEFAULT '2000-01-01', k json DEFAULT '{}'";
    let insert = "($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    assert_eq!(
        run("/5/postgres", table, insert),
        "DbDataType::Boolean DbDataType::Int16 DbDataType::Int32 DbDataType::Int64 \
         DbDataType::Floating32 DbDataType::Floating64 DbDataType::Str DbDataType::Binary \
         DbDataType::Int32 DbDataType::Other DbDataType::Other \
         [[DbValue::Boolean(true), DbValue::Int16(-2), DbValue::Int32(3), DbValue::Int64(4), \
         DbValue::Floating32(19.2), DbValue::Floating64(-inf), DbValue::Str(\"it's\"), \
         DbValue::Binary([0, 255]), DbValue::DbNull, DbValue::Unsupported, DbValue::Unsupported]]"
    );
    let table = "a varchar, b date, c time, d timestamptz, e timestamptz, f int8range DEFAULT NULL, \
                 g uuid DEFAULT '12345678-1234-1234-1234-123456789abc'";
    assert_eq!(
        run("/5/postgres3", table, "($1, $2, $3, $4, $5)"),
        "DbDataType::Str DbDataType::Date DbDataType::Time DbDataType::Datetime \
         DbDataType::Datetime DbDataType::Other DbDataType::Other \
         [[DbValue::Str(\"text\"), DbValue::Date((-43, 3, 15)), \
         DbValue::Time((4, 5, 6, 789000000)), \
         DbValue::Datetime((1989, 11, 24, 1, 2, 3, 4000)), \
         DbValue::Datetime((2000, 2, 29, 0, 0, 0, 0)), DbValue::DbNull, DbValue::Unsupported]]"
    );
    assert_eq!(
        run(
            "/5/postgres4",
            "a uuid, b numeric, c numeric DEFAULT 'NaN', d \"char\" DEFAULT 'x'",
            "($1, $2)"
        ),
        "DbDataType::Uuid DbDataType::Decimal DbDataType::Decimal DbDataType::Other(\"char\") \
         [[DbValue::Uuid(\"fedcba98-fedc-fedc-fedc-fedcba987654\"), \
         DbValue::Decimal(\"-1234.50\"), DbValue::Decimal(\"NaN\"), DbValue::Unsupported([120])]]"
    );
    let table = "a jsonb, b numeric, c int4range, d int8range, e numrange, f int4[], g int8[], \
                 h numeric[], i text[], j interval, k int4range DEFAULT 'empty'";
    assert_eq!(
        run("/postgres", table, "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"),
        "DbDataType::Jsonb DbDataType::Decimal DbDataType::RangeInt32 DbDataType::RangeInt64 \
         DbDataType::RangeDecimal DbDataType::ArrayInt32 DbDataType::ArrayInt64 \
         DbDataType::ArrayDecimal DbDataType::ArrayStr DbDataType::Interval DbDataType::RangeInt32 \
         [[DbValue::Jsonb([91, 49, 44, 32, 110, 117, 108, 108, 93]), \
         DbValue::Decimal(\"123456789.50\"), \
         DbValue::RangeInt32((Some((31, RangeBoundKind::Inclusive)), Some((40, RangeBoundKind::Exclusive)))), \
         DbValue::RangeInt64((Some((1099511627776, RangeBoundKind::Inclusive)), None)), \
         DbValue::RangeDecimal((None, Some((\"1.5\", RangeBoundKind::Inclusive)))), \
         DbValue::ArrayInt32([Some(1), None]), DbValue::ArrayInt64([]), \
         DbValue::ArrayDecimal([Some(\"0.10\")]), \
         DbValue::ArrayStr([Some(\"a\\\"b\\\\,}\"), Some(\"NULL\"), None]), \
         DbValue::Interval(Interval { micros: 1, days: -2, months: 3 }), \
         DbValue::RangeInt32((Some((0, RangeBoundKind::Exclusive)), Some((0, RangeBoundKind::Exclusive))))]] Ok(())"
    );
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn errors_of_a_real_postgresql_server_reach_the_component_and_the_connection_goes_on() {
    let postgres = Postgres::start();
    let application = application(&postgres);
    let server = application.up(&[]);
    let address = postgres.address("secret");
    for path in ["/postgres", "/5/postgres", "/5/postgres3", "/5/postgres4"] {
        let url = server.url(path);
        let wrong = results(&url, &[&postgres.address("wrong")]);
        assert!(wrong[0].contains("ConnectionFailed(") && wrong[0].contains("28P01"), "{wrong:?}");
        let said = results(
            &url,
            &[
                &address,
                "SELECT nonsense",
                "SELECT 1; SELECT 2",
                "CREATE TEMPORARY TABLE t (a int)",
                "COPY t FROM STDIN",
                "COPY t TO STDOUT",
                // What would take too much memory: many numbers, and long ones.
                "SELECT generate_series(1, 300000)",
                "SELECT 10::numeric ^ 1000 FROM generate_series(1, 100000)",
                "SELECT 7",
                "SELECT repeat('a', 1000) FROM generate_series(1, 10000)",
                "SELECT 7",
            ],
        );
        let expected = [
            "42703",
            "42601",
            "",
            "COPY is not supported",
            "COPY is not supported",
            "more than 16777216 bytes",
            "more than 16777216 bytes",
            "Int32(7)",
            "more than 8388608 bytes",
            "was closed after an error",
        ];
        assert_eq!(said.len(), expected.len(), "{path}: {said:?}");
        for (line, part) in said.iter().zip(expected) {
            assert!(line.contains(part), "{path}: {line} lacks {part}");
        }
    }
    // The details of an error are there, too.
    let failed = results(&server.url("/postgres"), &[&address, "SELECT nonsense"]).join("\n");
    for part in ["DbError", "severity: \"ERROR\"", "code: \"42703\"", "(\"position\", \"8\")"] {
        assert!(failed.contains(part), "{failed} lacks {part}");
    }
    let tls = results(&server.url("/postgres-tls"), &[&address]);
    assert!(tls[0] == "Ok(())" && tls[1].contains("TLS is not supported"), "{tls:?}");
    // A server that goes away is an error, and one that takes too long, too.
    let began = Instant::now();
    let slow = results(&server.url("/5/postgres"), &[&address, "SELECT pg_sleep(60)", "SELECT 7"]);
    assert!(slow[0].contains("did not reply within 10s"), "{slow:?}");
    assert!(slow[1].contains("was closed after an error"), "{slow:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
    drop(postgres);
    let away = results(&server.url("/postgres"), &[&address]);
    assert!(away[0].contains("refused"), "{away:?}");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn spins_conformance_case_for_postgres_passes() {
    let postgres = Postgres::start();
    let server = Application::new(&format!(
        r#"
        [[trigger.http]]
        route = "/..."
        component = {{ source = "conformance.wasm", allowed_outbound_hosts = ["*://localhost:{}"] }}
        "#,
        postgres.port
    ))
    .up(&[]);
    let address =
        format!("host=localhost port={} user=me password=secret dbname=postgres", postgres.port);
    let reply = client::send("GET", &server.url("/postgres"), &[("address", &address)], b"");
    let text = String::from_utf8_lossy(&reply.body);
    assert_eq!((reply.status, text.as_ref()), (200, "ok"));
}
