//! Applications in other languages, for older SDKs, or from templates, built with Spin's own SDKs and tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use spotter_tests::server::Server;
use spotter_tests::{client, peer, root, spotter, stderr};
use tempfile::TempDir;

/// An application that is built, in a folder of its own.
struct Application {
    folder: TempDir,
}

impl Application {
    /// Builds a copy of an application of `tests/applications`.
    fn build(name: &str, component: &str, tools: Option<PathBuf>) -> Self {
        Self::build_copy(&root().join("tests/applications").join(name), component, tools)
    }

    /// Builds an application that `spotter new` makes from a template.
    fn build_template(template: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut new = Command::new(spotter());
        new.args(["new", "--template", template, "made"]).current_dir(folder.path());
        let output = new.output().expect("spotter starts");
        assert!(output.status.success(), "{}", stderr(&output));
        let component = "target/wasm32-wasip1/release/app.wasm";
        Self::build_copy(&folder.path().join("made"), component, None)
    }

    /// Builds a copy of an application with its own build command. The component is kept in the cache as long as nothing
    /// of the application changes.
    fn build_copy(source: &Path, component: &str, tools: Option<PathBuf>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut hash = Sha256::new();
        copy(source, folder.path(), &mut hash);
        let name = source.file_name().expect("a name").to_string_lossy();
        let built = folder.path().join(component);
        let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let kept = peer::cache().join(format!("application-{name}-{digest}.wasm"));
        if kept.exists() {
            std::fs::create_dir_all(built.parent().expect("a folder")).expect("a folder");
            std::fs::copy(&kept, &built).expect("a copy");
            return Self { folder };
        }
        let mut build = Command::new(spotter());
        build.arg("build").current_dir(folder.path());
        if let Some(tools) = tools {
            let path = std::env::var("PATH").unwrap_or_default();
            build.env("PATH", format!("{}:{path}", tools.join("bin").display()));
            build.env("PYTHONPATH", tools).env("PYTHONDONTWRITEBYTECODE", "1");
        }
        let output = build.output().expect("spotter starts");
        assert!(output.status.success(), "{}", stderr(&output));
        let partial = kept.with_extension("partial");
        std::fs::create_dir_all(peer::cache()).expect("a folder");
        std::fs::copy(&built, &partial).expect("a copy");
        std::fs::rename(&partial, &kept).expect("a component in the cache");
        Self { folder }
    }

    fn serve(&self) -> Server {
        let mut up = Command::new(spotter());
        up.args(["up", "--listen", "127.0.0.1:0"]).current_dir(self.folder.path());
        Server::spawn(up)
    }
}

/// Copies a folder, and adds its files to a hash in the order of their names.
fn copy(from: &Path, to: &Path, hash: &mut Sha256) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(from)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    // What cargo builds is not the application.
    entries.retain(|entry| !entry.ends_with("target"));
    entries.sort();
    for entry in entries {
        let copied = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            std::fs::create_dir(&copied).expect("a folder");
            copy(&entry, &copied, hash);
        } else {
            let content = std::fs::read(&entry).expect("a file");
            hash.update(entry.file_name().expect("a name").as_encoded_bytes());
            hash.update(&content);
            std::fs::write(&copied, content).expect("a copy");
        }
    }
}

fn text(reply: &client::Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

/// Requests reach the component with Spin's headers, its own headers reach the client, and it calls itself through the
/// host.
fn assert_routes_and_calls(server: &Server) {
    let reply = client::get(&server.url("/app/hello"));
    assert_eq!((reply.status, text(&reply).as_str()), (200, "hello"));
    assert_eq!(reply.header("x-route"), "/app/...");
    assert_eq!(text(&client::get(&server.url("/app/other"))), "it says: hello");
    assert_eq!(client::get(&server.url("/elsewhere")).status, 404);
}

/// A key-value store keeps what one instance stored for the next, and variables have their values.
fn assert_stores_and_variables(server: &Server) {
    let stored = server.url("/app/stored");
    assert_eq!(text(&client::send("POST", &stored, &[], b"a note")), "a note");
    assert_eq!(text(&client::get(&stored)), "a note");
    assert_eq!(text(&client::get(&server.url("/app/variable"))), "good morning");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_application_of_the_python_sdk_3_runs_as_it_is() {
    let tools = ["spin-sdk==3.4.1", "componentize-py==0.17.2"];
    let tools = peer::python_packages("spin-sdk-3", &tools);
    let application = Application::build("python_3", "app.wasm", Some(tools));
    let server = application.serve();
    assert_routes_and_calls(&server);
    assert_stores_and_variables(&server);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_application_of_the_python_sdk_4_runs_as_it_is() {
    let tools = ["spin-sdk==4.0.0", "componentize-py==0.23.0"];
    let tools = peer::python_packages("spin-sdk-4", &tools);
    let application = Application::build("python_4", "app.wasm", Some(tools));
    let server = application.serve();
    assert_routes_and_calls(&server);
    assert_stores_and_variables(&server);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_application_of_the_candidate_of_november_2023_runs_as_it_is() {
    assert_candidate_runs("python_2023_11", "0.7.1");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_application_of_the_candidate_of_december_2023_runs_as_it_is() {
    assert_candidate_runs("python_2023_12", "0.9.2");
}

/// Without an SDK: the application reads bodies and trailers, and sets timeouts, through the candidate's own interfaces.
fn assert_candidate_runs(name: &str, componentize_py: &str) {
    let tools = [format!("componentize-py=={componentize_py}")];
    let tools = tools.each_ref().map(String::as_str);
    let tools = peer::python_packages(&format!("componentize-py-{componentize_py}"), &tools);
    let application = Application::build(name, "app.wasm", Some(tools));
    let server = application.serve();
    assert_routes_and_calls(&server);
    let reply = client::send("POST", &server.url("/app/echo"), &[], &[7; 300_000]);
    assert_eq!((reply.status, reply.body), (200, vec![7; 300_000]));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_application_of_the_rust_sdk_2_runs_as_it_is() {
    assert_rust_application_runs("rust_2");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_application_of_the_rust_sdk_3_runs_as_it_is() {
    assert_rust_application_runs("rust_3");
}

fn assert_rust_application_runs(name: &str) {
    let component = "target/wasm32-wasip1/release/app.wasm";
    let application = Application::build(name, component, None);
    let server = application.serve();
    assert_routes_and_calls(&server);
    assert_eq!(text(&client::get(&server.url("/app/without-host"))), "hello");
    let denied = text(&client::get(&server.url("/app/denied")));
    assert!(denied.contains("HttpRequestDenied"), "{denied}");
    assert_stores_and_variables(&server);
    let reply = client::send("POST", &server.url("/app/echo"), &[], &[7; 300_000]);
    assert_eq!((reply.status, reply.body), (200, vec![7; 300_000]));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_application_from_the_template_for_rust_answers() {
    let server = Application::build_template("http-rust").serve();
    assert_eq!(text(&client::get(&server.url("/"))), "Hello, world!\n");
    assert_eq!(text(&client::get(&server.url("/Ada"))), "Hello, Ada!\n");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_application_from_the_template_for_static_files_serves_them_and_no_others() {
    let application = Application::build_template("static-fileserver");
    let folder = application.folder.path();
    std::fs::create_dir(folder.join("static/a b")).expect("a folder");
    std::fs::write(folder.join("static/a b/data.JSON"), "{}").expect("a file");
    let server = application.serve();
    let page = client::get(&server.url("/"));
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(text(&page).contains("<h1>made</h1>"), "{}", text(&page));
    let data = client::get(&server.url("/a%20b/data.JSON"));
    assert_eq!((data.status, data.header("content-type")), (200, "application/json"));
    for path in ["/nothing", "/%2e%2e/spin.toml", "/a%20b", "/%ff"] {
        assert_eq!(client::get(&server.url(path)).status, 404, "{path}");
    }
    let posted = client::send("POST", &server.url("/"), &[], b"");
    assert_eq!((posted.status, posted.header("allow")), (405, "GET, HEAD"));
}

#[test]
#[cfg_attr(not(all(root_on_debian, npm)), ignore = "needs npm, and root on Debian")]
fn an_application_of_the_javascript_sdk_runs_as_it_is() {
    let application = Application::build("javascript", "dist/javascript.wasm", None);
    let server = application.serve();
    assert_routes_and_calls(&server);
    assert_stores_and_variables(&server);
    let reply = client::send("POST", &server.url("/app/echo"), &[], &[7; 300_000]);
    assert_eq!((reply.status, reply.body), (200, vec![7; 300_000]));
    assert_eq!(text(&client::get(&server.url("/app/stream"))), "part 0\npart 1\npart 2\n");
}
