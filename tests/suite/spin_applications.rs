//! Applications written for Spin start as they are: what their manifests ask for is granted, or refused by name.

use std::os::unix::fs::MetadataExt;

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, stderr};

/// The component of many guests on `/guest/...`; its keys follow.
const GUEST: &str = r#"
[[trigger.http]]
route = "/guest/..."
component = "guest"
[component.guest]
source = "guest.wasm"
"#;

fn text(server: &Server, path: &str) -> String {
    String::from_utf8(client::get(&server.url(path)).body).expect("text")
}

#[test]
fn globs_match_files_beside_the_manifest_however_it_is_named() {
    let application = Application::new(&format!("{GUEST}files = [\"texts/*.txt\"]"))
        .with("texts/one.txt", "a file's text");
    for arguments in [&[] as &[&str], &["-f", "spin.toml"], &["-f", "."]] {
        let server = application.up(arguments);
        assert_eq!(text(&server, "/guest/file"), "a file's text", "{arguments:?}");
    }
}

#[test]
fn a_variables_value_can_be_in_a_file() {
    let manifest = format!(
        "[variables]\nname = {{ required = true }}\n{GUEST}variables = {{ greeting = \"hello {{{{ name }}}}\" }}"
    );
    let application = Application::new(&manifest)
        .with("name.txt", "from text")
        .with("a.json", r#"{"name": "from JSON"}"#)
        .with("b.toml", "name = \"from TOML\"");
    for (variables, greeting) in [
        (["name=@name.txt"].as_slice(), "hello from text"),
        (&["@a.json"], "hello from JSON"),
        // The last one counts.
        (&["@a.json", "@b.toml"], "hello from TOML"),
        (&["@b.toml", "name=a=b"], "hello a=b"),
    ] {
        let flags: Vec<_> = variables.iter().flat_map(|given| ["--variable", given]).collect();
        assert_eq!(text(&application.up(&flags), "/guest/variable"), greeting, "{variables:?}");
    }
    for (variable, reason) in [
        ("name=@nothing.txt", "cannot read nothing.txt"),
        ("@nothing.json", "cannot read nothing.json"),
        ("@name.txt", "end in .json or .toml"),
        ("@spin.toml", "spin.toml"),
    ] {
        let said = stderr(&application.run(&["check", "--variable", variable]));
        assert!(said.contains(reason), "{said} lacks {reason}");
    }
}

#[test]
fn keys_of_other_hosts_and_tools_keep_nothing_from_starting() {
    let server = Application::new(
        r#"
        targets = ["spin-up:3.3", { registry = "example.com", id = "env:1" }]
        [application.trigger.redis]
        address = "redis://127.0.0.1:6379"
        [application.tool.lint]
        level = "high"
        [variables]
        city = { default = "Paris", description = "Where it is" }
        [[trigger.http]]
        route = "/hello"
        component = "hello"
        executor = { type = "http" }
        [component.hello]
        source = "hello.wasm"
        targets = ["spin-up:3.3"]
        dependencies_inherit_configuration = true
        dependencies = {}
        "#,
    )
    .up(&[]);
    assert_eq!(text(&server, "/hello"), "hello");
}

#[test]
fn a_component_can_be_written_in_its_trigger() {
    let application = Application::new(
        r#"
        [[trigger.http]]
        id = "first"
        route = "/guest/..."
        component = { source = "guest.wasm", environment = { GREETING = "good day" } }
        [[trigger.http]]
        route = "/hello"
        component = { source = "hello.wasm" }
        "#,
    );
    let server = application.up(&[]);
    assert_eq!(text(&server, "/guest/environment"), "good day");
    assert_eq!(text(&server, "/hello"), "hello");
    let said = stderr(&application.run(&["check"]));
    assert_eq!(said, "of-a-test: no errors (components: 2)\n");
    let misspelt = r#"
        [[trigger.http]]
        route = "/hello"
        component = { sorce = "hello.wasm" }
        "#;
    let said = stderr(&Application::new(misspelt).run(&["check"]));
    assert!(said.contains("did you mean `source`?"), "{said}");
}

#[test]
fn an_executor_that_is_not_supported_is_refused_by_name() {
    let unknown = r#"
        [[trigger.http]]
        route = "/hello"
        component = "hello"
        executor = { type = "fastcgi" }
        [component.hello]
        source = "hello.wasm"
        "#;
    let said = stderr(&Application::new(unknown).run(&["check"]));
    assert!(said.contains("the executor `fastcgi`") && said.contains("/hello"), "{said}");
}

#[test]
fn what_no_request_can_reach_keeps_nothing_from_starting() {
    let idle = r#"
        [[trigger.http]]
        route = "/hello"
        component = "hello"
        [component.hello]
        source = "hello.wasm"
        [[trigger.redis]]
        channel = "news"
        component = "listener"
        [component.listener]
        source = "not-built.wasm"
        [component.stored]
        source = "not-built.wasm"
        dependencies = { "other:package" = "1.0.0" }
        "#;
    let application = Application::new(idle);
    let server = application.up(&[]);
    assert_eq!(text(&server, "/hello"), "hello");
    for warning in ["redis", "`stored`"] {
        server.wait_for_log(warning);
        let said = stderr(&application.run(&["check"]));
        assert!(said.contains(warning) && said.contains("(components: 1)"), "{said}");
    }
    // A component that another one calls is not left out: its error is reported.
    let called = format!("{idle}[component.caller]\nsource = \"hello.wasm\"\n");
    let called = format!("{called}allowed_outbound_hosts = [\"http://stored.spin.internal\"]\n");
    let called = format!("{called}[[trigger.http]]\nroute = \"/call\"\ncomponent = \"caller\"\n");
    let said = stderr(&Application::new(&called).run(&["check"]));
    assert!(said.contains("[component.stored]") && said.contains("dependencies"), "{said}");
}

#[test]
fn a_manifest_of_version_1_is_refused_with_the_way_out() {
    let first = "spin_manifest_version = \"1\"\nname = \"old\"\nversion = \"1.0.0\"\n\
                 trigger = { type = \"http\", base = \"/\" }\n[[component]]\nid = \"a\"\n\
                 source = \"a.wasm\"\n[component.trigger]\nroute = \"/...\"\n";
    let oldest = first.replace("spin_manifest_version", "spin_version");
    for manifest in [first, &oldest] {
        let said = stderr(&Application::new("").with("spin.toml", manifest).run(&["check"]));
        assert!(said.contains("version 1") && said.contains("spin doctor"), "{said}");
    }
    let none = Application::new("").with("spin.toml", "[application]\nname = \"a\"\n");
    let said = stderr(&none.run(&["check"]));
    assert!(said.contains("write `spin_manifest_version = 2`"), "{said}");
}

#[test]
fn check_and_up_list_all_missing_imports_and_compile_nothing_first() {
    let missing = [
        "other:host/thing",
        "fermyon:spin/filesystem@2.0.0",
        "spin:sqlite/sqlite@2.0.0",
        "wasi:http/types@0.2.0-rc-2024-01-16",
        "wasi:config/store@0.2.0-draft-2024-09-28",
        "wasi:clocks/calendar@0.2.0",
    ];
    let imports: String =
        missing.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
    let component = wat::parse_str(format!(
        r#"(component {imports} (import "wasi:io/poll@0.2.9" (instance)) (instance $empty)
            (export "wasi:http/incoming-handler@0.2.0" (instance $empty)))"#
    ))
    .expect("a component");
    let application = Application::new(GUEST).with("guest.wasm", component);
    for command in [&["check"] as &[&str], &["up", "--listen", "127.0.0.1:0"]] {
        let output = application.run(command);
        let said = stderr(&output);
        assert!(!output.status.success() && !said.contains("Compil"), "{said}");
        assert!(missing.iter().all(|name| said.contains(name)), "{said}");
        assert!(!said.contains("wasi:io/poll"), "{said}");
    }
}

#[test]
fn a_core_module_is_wrapped_when_it_is_loaded_once() {
    let application = Application::new("").with(
        "spin.toml",
        "spin_manifest_version = 2\n[application]\nname = \"a\"\n[[trigger.http]]\n\
         route = \"/...\"\ncomponent = \"m\"\n[component.m]\nsource = \"module.wasm\"\n",
    );
    let cache = tempfile::tempdir().expect("a folder");
    let up = || {
        let mut command = application.command(&["up", "--listen", "127.0.0.1:0"]);
        command.env("XDG_CACHE_HOME", cache.path());
        let server = Server::spawn(command);
        assert_eq!(text(&server, "/"), "hello");
        let wrapped = std::fs::read_dir(cache.path().join("spotter/wrapped")).expect("a folder");
        let files = wrapped.map(|entry| entry.expect("an entry"));
        // A file that is written again is another one.
        files.map(|file| file.metadata().expect("a file").ino()).collect::<Vec<_>>()
    };
    let first = up();
    assert_eq!(first.len(), 1);
    assert_eq!(up(), first);
    let said = stderr(&application.run(&["check"]));
    assert_eq!(said, "a: no errors (components: 1)\n");
    let alone = application.up(&["-f", "module.wasm"]);
    assert_eq!(text(&alone, "/any"), "hello");
    // A module that describes no interfaces answers no requests.
    let said = stderr(&application.with("module.wasm", b"\0asm\x01\0\0\0").run(&["check"]));
    assert!(said.contains("exports neither wasi:http/incoming-handler"), "{said}");
}

#[test]
fn a_whole_folder_of_files_takes_no_space_in_the_temporary_folder() {
    const MANIFEST: &str = r#"
[[trigger.http]]
route = "/guest/..."
component = "guest"
[component.guest]
source = "guest.wasm"
files = [{ source = "site", destination = "/" }]
"#;
    let application = Application::new(MANIFEST).with("site/texts/one.txt", "a text");
    let mut command = application.command(&["up", "--listen", "127.0.0.1:0"]);
    let server = Server::spawn({
        command.env("TMPDIR", "/nonexistent");
        command
    });
    assert_eq!(client::get(&server.url("/guest/file")).body, b"a text");
}
