//! The runtime configuration file: Spin's keys that are supported, and the others, which are refused by name.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, ports, stderr};

const MANIFEST: &str = r#"
[variables]
name = { required = true }
other = { default = "of the manifest" }
[[trigger.http]]
route = "/guest/..."
component = "guest"
[component.guest]
source = "guest.wasm"
key_value_stores = ["default"]
variables = { greeting = "hello {{ name }}, {{ other }}" }
"#;

/// The text with which the application greets, given a runtime configuration.
fn greeting(application: Application, config: &str, flags: &[&str]) -> String {
    let application = application.with("config.toml", config);
    let server = application.up(&[&["--runtime-config-file", "config.toml"], flags].concat());
    String::from_utf8(client::get(&server.url("/guest/variable")).body).expect("text")
}

/// What the application says when it does not start with a runtime configuration.
fn refusal(config: &str) -> String {
    let application = Application::new(MANIFEST).with("config.toml", config);
    let arguments = ["up", "--runtime-config-file", "config.toml", "--listen", "127.0.0.1:0"];
    let output = application.run(&arguments);
    assert!(!output.status.success(), "{config}");
    stderr(&output)
}

#[test]
fn variables_come_from_providers_in_the_order_of_the_file() {
    let config = r#"
        [[variables_provider]]
        type = "env"
        prefix = "SHOP"
        dotenv_path = "shop.env"
        [[variables_provider]]
        type = "static"
        values = { name = "of the second", other = "of the second" }
        "#;
    let dotenv = "# a comment\n\nexport SHOP_NAME=\"of the file\"\n";
    let application = || Application::new(MANIFEST).with("shop.env", dotenv);
    assert_eq!(greeting(application(), config, &[]), "hello of the file, of the second");
    let flags = ["--variable", "name=of the flag"];
    assert_eq!(greeting(application(), config, &flags), "hello of the flag, of the second");
    let malformed = application().with("shop.env", "no value").with("config.toml", config);
    let said = stderr(&malformed.run(&["up", "--runtime-config-file", "config.toml"]));
    assert!(said.contains("line 1 of shop.env"), "{said}");
}

/// Stands in for Vault: answers requests for `/v1/secret/data/app/name` with this status and body. Returns its URL and
/// the requests it got, line by line.
fn vault(status: &'static str, body: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
            let head: Vec<String> =
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let (status, body) = match head.first() {
                Some(first) if first.contains("/v1/secret/data/app/name ") => (status, body),
                _ => ("404 Not Found", r#"{"errors": []}"#),
            };
            kept.lock().expect("lines").extend(head);
            let length = body.len();
            // The client may be gone.
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
        }
    });
    (url, asked)
}

fn with_vault(url: &str) -> String {
    format!(
        "[[variables_provider]]\ntype = \"vault\"\nurl = \"{url}/\"\ntoken = \"s3cr3t\"\n\
         mount = \"secret\"\nprefix = \"app\"\n"
    )
}

#[test]
fn vault_is_asked_for_the_variables_that_have_no_other_value() {
    let (url, asked) =
        vault("200 OK", r#"{"data": {"data": {"value": "of Vault"}, "metadata": {}}}"#);
    let application = Application::new(MANIFEST);
    assert_eq!(greeting(application, &with_vault(&url), &[]), "hello of Vault, of the manifest");
    let asked_first = std::mem::take(&mut *asked.lock().expect("lines"));
    assert!(asked_first.iter().any(|line| line.eq_ignore_ascii_case("x-vault-token: s3cr3t")));
    let flags = ["--variable", "name=of the flag", "--variable", "other=too"];
    let application = Application::new(MANIFEST);
    assert_eq!(greeting(application, &with_vault(&url), &flags), "hello of the flag, too");
    assert!(asked.lock().expect("lines").is_empty());
}

#[test]
fn a_vault_that_refuses_or_is_away_is_an_error_without_the_token() {
    for (status, body, reason) in [
        ("403 Forbidden", r#"{"errors": ["permission denied"]}"#, "403 Forbidden"),
        ("200 OK", "no JSON", "not JSON"),
        ("200 OK", r#"{"data": {"value": "of version 1"}}"#, "data.data.value"),
        ("307 Temporary Redirect", "", "307"),
    ] {
        let url = vault(status, body).0.replace("://", "://user:passw0rd@");
        let said = refusal(&with_vault(&url));
        assert!(said.contains("`name`") && said.contains(reason), "{said} lacks {reason}");
        assert!(!said.contains("s3cr3t") && !said.contains("passw0rd"), "{said}");
    }
    let said = refusal(&with_vault(&format!("http://127.0.0.1:{}", ports::reserve())));
    assert!(said.contains("cannot reach Vault for the variable `name`"), "{said}");
    // If a secret does not exist, its variable has no value.
    let said = refusal(&with_vault(&vault("404 Not Found", "").0));
    assert!(said.contains("`name` is required but has no value"), "{said}");
}

#[test]
fn the_folder_of_state_can_be_in_the_file() {
    let application = Application::new(MANIFEST).with("config.toml", "state_dir = \"kept\"\n");
    let up = |flags: &[&str]| -> Server {
        let given = ["--runtime-config-file", "config.toml", "--variable", "name=a"];
        application.up(&[&given, flags].concat())
    };
    let count = |server: &Server| {
        String::from_utf8(client::get(&server.url("/guest/store")).body).expect("text")
    };
    assert_eq!(count(&up(&[])), r#"1 ["count"]"#);
    assert!(application.folder().join("kept/key_value.redb").is_file());
    // The flag overrides the file.
    assert_eq!(count(&up(&["--state-dir", "other"])), r#"1 ["count"]"#);
    assert_eq!(count(&up(&[])), r#"2 ["count"]"#);
}

#[test]
fn a_database_can_be_a_file_of_the_users_choice() {
    let manifest = r#"
[[trigger.http]]
route = "/..."
component = "conformance"
[component.conformance]
source = "conformance.wasm"
sqlite_databases = ["default"]
"#;
    let config = "[sqlite_database.default]\ntype = \"spin\"\npath = \"data/my.db\"\n\
                  [sqlite_database.defualt]\ntype = \"spin\"\npath = \"other.db\"\n";
    let application = Application::new(manifest).with("config.toml", config);
    let create = "CREATE TABLE of_a_flag (a)";
    let server = application.up(&["--runtime-config-file", "config.toml", "--sqlite", create]);
    let reply = client::get(&server.url("/sqlite"));
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let folder = application.folder();
    assert!(folder.join("data/my.db").metadata().expect("a file").len() > 0);
    assert!(!folder.join(".spotter/sqlite").exists() && !folder.join("other.db").exists());
    server.wait_for_log("[sqlite_database.defualt] in the runtime configuration has no effect");
    assert!(server.log().contains("did you mean `default`?"), "{}", server.log());
}

#[test]
fn keys_that_are_not_supported_are_refused_by_name() {
    for (config, reason) in [
        ("[outbound_http]\nconnection_pooling = true", "a connection of its own"),
        ("[sqlite_database.default]\ntype = \"libsql\"", "the type \"libsql\" is not supported"),
        ("[llm_compute]\ntype = \"spin\"", "`llm_compute` is not supported"),
        ("[blob_store.default]\ntype = \"file_system\"", "`blob_store` is not supported"),
        ("[[client_tls]]\nhosts = []", "`client_tls` is not supported"),
        (
            "[[variables_provider]]\ntype = \"azure_key_vault\"\nvault_url = \"u\"",
            "azure_key_vault",
        ),
        ("[[variables_provider]]\ntype = \"vault\"\nurl = \"u\"", "token"),
        ("state_dri = \"a\"", "did you mean `state_dir`?"),
    ] {
        let said = refusal(config);
        assert!(said.contains(reason) && said.contains("config.toml"), "{said} lacks {reason}");
    }
}
