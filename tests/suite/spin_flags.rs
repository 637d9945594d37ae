//! Flags of `spin up` that `spotter up` spells the same, and where it finds the manifest.

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, run, stderr, stdout};

const TWO: &str = r#"
[[trigger.http]]
route = "/guest/..."
component = "guest"
[[trigger.http]]
route = "/hello"
component = "hello"
[component.guest]
source = "guest.wasm"
[component.hello]
source = "hello.wasm"
"#;

fn text(server: &Server, path: &str) -> String {
    String::from_utf8(client::get(&server.url(path)).body).expect("text")
}

#[test]
fn the_manifest_of_a_folder_above_is_found() {
    let application = Application::new(TWO).with("src/api/main.rs", "");
    let below = application.folder().join("src/api");
    let mut command = application.command(&["up", "--listen", "127.0.0.1:0"]);
    command.current_dir(&below);
    assert_eq!(text(&Server::spawn(command), "/hello"), "hello");
    // A manifest that is named must be there.
    let mut named = application.command(&["check", "-f", "spin.toml"]);
    let said = stderr(&named.current_dir(&below).output().expect("spotter starts"));
    assert!(said.contains("cannot read the manifest spin.toml"), "{said}");
}

#[test]
fn a_port_in_use_is_passed_over_on_request() {
    let application = Application::new(TWO);
    let first = application.up(&[]);
    let listen = ["--listen", first.address(), "--find-free-port"];
    let second = Server::spawn(application.command(&[&["up"], listen.as_slice()].concat()));
    let port = |server: &Server| -> u16 {
        server.address().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
    };
    assert!((1..10).contains(&(port(&second) - port(&first))), "{}", second.address());
    assert_eq!(text(&second, "/hello"), "hello");
}

#[test]
fn only_the_components_that_are_chosen_are_served() {
    let manifest = TWO.replace("hello.wasm", "not-built.wasm");
    let application = Application::new(&manifest);
    let server = application.up(&["-c", "guest"]);
    assert_eq!(text(&server, "/guest/hello"), "hello");
    assert_eq!(client::get(&server.url("/hello")).status, 404);
    let said = stderr(&application.run(&["up", "--component-id", "gest"]));
    assert!(said.contains("`gest`") && said.contains("did you mean `guest`?"), "{said}");
}

#[test]
fn the_cache_can_be_in_a_folder_of_the_users_choice() {
    let application = Application::new(TWO);
    let served = |flags: &[&str], variable: Option<&str>| {
        let mut command = application.command(&["up", "--listen", "127.0.0.1:0"]);
        command.args(flags).env("XDG_CACHE_HOME", "/proc/none");
        command.envs(variable.map(|folder| ("SPOTTER_CACHE_DIR", folder)));
        assert_eq!(text(&Server::spawn(command), "/hello"), "hello");
    };
    let compiled = |folder: &str| {
        let folder = application.folder().join(folder).join("spotter/compiled");
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    };
    served(&["--cache-dir", "flag"], Some("variable"));
    assert!(compiled("flag") > 0 && compiled("variable") == 0);
    served(&[], Some("variable"));
    assert!(compiled("variable") > 0);
}

#[test]
fn without_a_pool_instances_take_no_address_space_in_advance() {
    let application = Application::new(TWO);
    let address_space = |flags: &[&str]| {
        let server = application.up(flags);
        assert_eq!(text(&server, "/hello"), "hello");
        let status = format!("/proc/{}/status", server.pid());
        let status = std::fs::read_to_string(status).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).expect("a size");
        (kib.parse::<u64>().expect("a number"), server.log())
    };
    let (pooled, log) = address_space(&[]);
    let (on_demand, _) = address_space(&["--disable-pooling"]);
    // In some sandboxes, there is never a pool.
    assert!(
        on_demand < pooled / 4 || log.contains("cannot reserve memory for a pool of instances"),
        "{on_demand} KiB, {pooled} KiB"
    );
}

#[test]
fn commands_for_registries_have_spins_spelling_too() {
    let help = |words: &[&str]| {
        let help = stdout(&run(&[words, &["--help"]].concat()));
        let (usage, rest) = help.split_once("Usage: spotter ").expect("a help text");
        (usage.to_owned(), rest.strip_prefix("registry ").unwrap_or(rest).to_owned())
    };
    for command in ["push", "pull", "login"] {
        assert_eq!(help(&["registry", command]), help(&[command]), "{command}");
    }
    for (flags, reason) in [
        (&["push", "localhost:5000/a:1", "--annotation", "novalue"] as &[&str], "KEY=VALUE"),
        (&["push", "localhost:5000/a:1", "--compose=false"], "--compose"),
        (&["login", "localhost:5000"], "--username"),
    ] {
        let output = run(&[&["registry"], flags].concat());
        assert_eq!(output.status.code(), Some(64), "{flags:?}");
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
}
