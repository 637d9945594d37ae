//! Schemathesis sends what the API description allows, and much that it does not.

use std::process::Command;

use spotter_tests::server::Server;
use spotter_tests::{client, peer};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn no_generated_request_gets_a_5xx_or_a_reply_off_the_description() {
    let server = Server::start(&["--queue-timeout", "60s"]);
    let packages = peer::python_packages("schemathesis", &["schemathesis==4.32.5"]);
    // It writes a cache to its working folder.
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new("python3")
        .current_dir(folder.path())
        .arg(packages.join("bin/schemathesis"))
        .args(["run", &server.url("/openapi.json"), "--url", &server.url("")])
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing"])
        .args([
            "--max-examples",
            "20",
            "--seed",
            "1",
            "--generation-database",
            "none",
            "--no-color",
        ])
        .env("PYTHONPATH", &packages)
        .output()
        .expect("python3 starts");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.contains("Test cases"), "{report}");
    assert_eq!(client::get(&server.url("/healthz")).status, 200);
}
