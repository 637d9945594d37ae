//! The `spotter` command: what it prints, what it refuses, and its exit status.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spotter_tests::server::Server;
use spotter_tests::{client, component, pictures, root, run, spotter, stderr, stdout};

const MANIFEST: &str = r#"spin_manifest_version = 2

[application]
name = "an-application"

[[trigger.http]]
route = "/..."
component = "one"

[component.one]
source = "one.wasm"
"#;

/// Runs `spotter check` on a manifest, beside which `one.wasm` is a copy of the component.
fn check(manifest: &str, wasm: &[u8]) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("spin.toml"), manifest).expect("a manifest");
    std::fs::write(folder.path().join("one.wasm"), wasm).expect("a component");
    let output = run(&["check", "-f", folder.path().to_str().expect("a path")]);
    (output.status.success(), stderr(&output))
}

fn component_bytes() -> Vec<u8> {
    std::fs::read(component()).expect("a component")
}

#[test]
fn check_finds_no_fault_in_a_good_application() {
    component();
    let output = run(&["check"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        check(MANIFEST, &component_bytes()).1,
        "an-application: no errors (components: 1)\n"
    );
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_valid_one() {
    let cases = [
        (
            MANIFEST.replace("source =", "sorce ="),
            "unknown field `sorce`",
            "did you mean `source`?",
        ),
        (
            MANIFEST.replace("[component.one]", "[componant.one]"),
            "`componant`",
            "did you mean `component`?",
        ),
        (MANIFEST.replace("name =", "nmae ="), "`nmae`", "did you mean `name`?"),
        (format!("{MANIFEST}enviroment = {{}}\n"), "`enviroment`", "did you mean `environment`?"),
    ];
    for (manifest, unknown, hint) in cases {
        let (success, said) = check(&manifest, b"");
        assert!(!success);
        assert!(said.contains(unknown) && said.contains(hint), "{said}");
    }
}

#[test]
fn faulty_manifests_are_refused_with_the_fault() {
    let conflict = MANIFEST.replace(
        "[component.one]",
        "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"one\"\n\n[component.one]",
    );
    let cases = [
        (MANIFEST.replace("= 2", "= 1"), "version 1; only version 2"),
        (MANIFEST.replace("= 2", "= 3"), "`spin_manifest_version` is 3"),
        (MANIFEST.replace("= 2", "= \"2\""), "`spin_manifest_version` is \"2\""),
        (MANIFEST.replace("component = \"one\"", "component = \"two\""), "no [component.two]"),
        (MANIFEST.replace("\"/...\"", "\"...\""), "does not begin with `/`"),
        (MANIFEST.replace("\"/...\"", "\"/.../x\""), "`...` before its end"),
        (conflict, "conflict"),
        (
            format!("{MANIFEST}dependencies = {{ \"other:package\" = \"1.0.0\" }}\n"),
            "`other:package` in `dependencies`: version \"1.0.0\" would come from a registry",
        ),
        (
            format!("{MANIFEST}sqlite_databases = [\"../default\"]\n"),
            "`sqlite_databases` has \"../default\"",
        ),
        (MANIFEST.replace("trigger.http", "trigger.redis"), "type `redis`"),
    ];
    for (manifest, word) in cases {
        let (success, said) = check(&manifest, b"");
        assert!(!success);
        assert!(said.contains(word), "{said} lacks {word}");
    }
}

#[test]
fn check_tells_what_a_file_is_instead_of_a_component() {
    for (bytes, word) in [
        (b"text".to_vec(), "not WebAssembly"),
        // A core module is wrapped, and this one is empty.
        (b"\0asm\x01\0\0\0".to_vec(), "exports neither wasi:http/incoming-handler"),
        (b"\0asm\x0d\0\x01\0".to_vec(), "exports neither wasi:http/incoming-handler"),
    ] {
        let (success, said) = check(MANIFEST, &bytes);
        assert!(!success);
        assert!(said.contains(word), "{said} lacks {word}");
    }
}

#[test]
fn wrong_usage_exits_with_64_and_help_with_0() {
    for arguments in [&["serve"] as &[&str], &[], &["up", "--listen", "nowhere"], &["detect"]] {
        assert_eq!(run(arguments).status.code(), Some(64), "{arguments:?}");
    }
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for subcommand in ["up", "build", "bake", "detect", "check"] {
        assert!(stdout(&help).contains(subcommand), "{}", stdout(&help));
    }
    assert_eq!(run(&["check", "-f", "/nonexistent"]).status.code(), Some(1));
}

#[test]
fn up_says_where_it_listens_and_what_to_do_about_a_port_in_use() {
    let first = Server::start(&[]);
    let output = run(&["up", "--listen", first.address()]);
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(said.contains(first.address()) && said.contains("--listen"), "{said}");
}

#[test]
fn up_stops_on_sigterm_with_status_0() {
    let mut server = Server::start(&[]);
    assert_eq!(client::get(&server.url("/healthz")).status, 200);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn up_builds_nothing_that_is_built() {
    component();
    let mut command = Command::new(spotter());
    command.args(["up", "--build", "--listen", "127.0.0.1:0"]).current_dir(root());
    let server = Server::spawn(command);
    assert_eq!(client::get(&server.url("/healthz")).status, 200);
}

#[test]
fn the_compiled_code_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    component();
    let cache = tempfile::tempdir().expect("a folder");
    let detect = || {
        let mut command = Command::new(spotter());
        command.args(["detect", "tests/pictures/skimage_chelsea.png", "--json"]);
        command
            .current_dir(root())
            .env("XDG_CACHE_HOME", cache.path())
            .output()
            .expect("spotter starts")
    };
    let first = detect();
    assert!(stderr(&first).contains("Compiled"), "{}", stderr(&first));
    let folder = cache.path().join("spotter/compiled");
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let entry =
        std::fs::read_dir(&folder).expect("a folder").next().expect("an entry").expect("an entry");
    // Nobody else can enter the folder, and only its owner can write to it.
    assert_eq!(mode(&entry.path()), 0o644);
    // The second time it comes from the cache, but not from a cache that others may write to.
    assert_eq!(stderr(&detect()), "");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("permissions");
    let refused = detect();
    assert!(stderr(&refused).contains("cannot be trusted"), "{}", stderr(&refused));
}

#[test]
fn detect_prints_a_table_json_or_an_annotated_picture() {
    component();
    let picture = "tests/pictures/skimage_chelsea.png";
    let table = stdout(&run(&["detect", picture]));
    assert!(table.starts_with(picture) && table.contains("cat") && table.contains(" %"), "{table}");
    let json: Value =
        serde_json::from_str(&stdout(&run(&["detect", picture, "--json"]))).expect("JSON");
    assert_eq!(json["detections"][0]["label"], "cat");
    let none = run(&["detect", picture, "--json", "--classes", "dog"]);
    let json: Value = serde_json::from_str(&stdout(&none)).expect("JSON");
    assert_eq!(json["detections"], Value::Array(vec![]));

    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("drawn.png");
    let target_text = target.to_str().expect("a path");
    assert!(run(&["detect", picture, "-o", target_text]).status.success());
    let drawn = std::fs::read(&target).expect("a picture");
    assert_eq!(image::guess_format(&drawn).expect("a format"), image::ImageFormat::Png);
    let drawn = image::load_from_memory(&drawn).expect("a picture").into_rgb8();
    assert_eq!(drawn.dimensions(), pictures::cat().dimensions());
    assert_ne!(drawn, pictures::cat());
}

#[test]
fn detect_overwrites_no_picture_and_writes_no_other_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let picture = folder.path().join("cat.png");
    std::fs::write(&picture, pictures::bytes("skimage_chelsea.png")).expect("a picture");
    let detect = |output: &Path| {
        let paths = [&picture, output].map(|path| path.to_str().expect("a path").to_owned());
        run(&["detect", &paths[0], "-o", &paths[1]])
    };
    component();
    for output in [picture.clone(), folder.path().to_owned()] {
        assert!(stderr(&detect(&output)).contains("would be overwritten"), "{}", output.display());
    }
    assert!(
        stderr(&detect(&folder.path().join("a.webp")))
            .contains("does not end in .png, .jpg or .jpeg")
    );
    assert_eq!(std::fs::read(&picture).expect("a picture"), pictures::bytes("skimage_chelsea.png"));
}

#[test]
fn detect_goes_on_after_a_picture_that_is_none() {
    component();
    let good = "tests/pictures/skimage_coffee.png";
    let output = run(&["detect", "Cargo.toml", good]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("Cargo.toml: this is not a picture"), "{}", stderr(&output));
    assert!(stdout(&output).contains("cup"), "{}", stdout(&output));
}

#[test]
fn up_says_how_to_build_what_is_not_built() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("spin.toml"), MANIFEST).expect("a manifest");
    let output =
        run(&["up", "-f", folder.path().to_str().expect("a path"), "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("one.wasm; build it first: `spotter build`"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_shim_is_installed_once_and_taken_off_again() {
    let node = tempfile::tempdir().expect("a folder");
    let path = |name: &str| node.path().join(name).display().to_string();
    let (configuration, folder) = (path("config.toml"), path("bin"));
    let before = "# ours\nversion = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n";
    std::fs::write(&configuration, before).expect("a file");
    // Any program can stand in for the shim here.
    let program = spotter().display().to_string();
    let shim = |command: &str, further: &[&str]| {
        let arguments =
            ["shim", command, "--containerd-config", &configuration, "--bin-dir", &folder];
        let output = run(&[&arguments, further].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output) + &stderr(&output)
    };
    let read = || std::fs::read_to_string(&configuration).expect("a file");
    let installed = node.path().join("bin/containerd-shim-spotter-v1");

    let said = shim("install", &["--binary", &program, "--dry-run"]);
    assert!(said.contains("+runtime_type = \"io.containerd.spotter.v1\""), "{said}");
    assert!(read() == before && !installed.exists());

    let said = shim("install", &["--binary", &program]);
    assert!(said.contains("restart containerd"), "{said}");
    assert!(read().starts_with(before) && read().contains("runtimes.spotter]"), "{}", read());
    let length = |path: &Path| std::fs::metadata(path).expect("a file").len();
    assert_eq!(length(&installed), length(spotter()));
    assert!(shim("install", &["--binary", &program]).contains("nothing to do"));

    shim("uninstall", &[]);
    assert!(read() == before && !installed.exists());
    assert!(shim("uninstall", &[]).contains("nothing to do"));
}
