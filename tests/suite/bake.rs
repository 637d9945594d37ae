//! `spotter bake`: its result, its messages, and what it refuses.

use std::path::{Path, PathBuf};

use spotter::toolchain::{self, Installation, Preference, Toolchain, ToolchainOptions};
use spotter_tests::baked::{bake, up};
use spotter_tests::reference::{self, Detection};
use spotter_tests::server::Server;
use spotter_tests::{client, component, pictures, root, run, stderr, unbaked};

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn models() -> PathBuf {
    root().join("function/model")
}

fn detect_cat(server: &Server) -> Vec<Detection> {
    let reply =
        client::post_picture(&server.url("/detect"), &pictures::bytes("skimage_chelsea.png"));
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    reference::of_reply(&reply.json())
}

/// The cat fills the left nine tenths of the test picture, from top to bottom.
fn assert_cat(detections: &[Detection]) {
    let cat = detections.iter().find(|detection| detection.label == "cat").expect("a cat");
    let overlap = reference::overlap(&cat.corners, &[1.0, 2.9, 401.5, 297.4]);
    assert!(overlap > 0.7, "{cat:?}");
}

#[test]
fn the_snapshot_is_mapped_copy_on_write_under_wasmtimes_defaults() {
    let output = tempfile::tempdir().expect("a folder");
    let target = output.path().join("detector.wasm");
    let baked = bake(&models().join("ssdlite_mobilenet_v2"), &target);
    let said = stderr(&baked);
    assert!(baked.status.success(), "{said}");
    assert!(said.contains("wasmtime maps it copy-on-write"), "{said}");
    let module = largest_module(&std::fs::read(&target).expect("a component"));
    let density = spotter::bake::density::Density::from_module(&module).expect("a module");
    assert!(density.is_mapped(), "{density}");
    // The weights take 18 MB as f32. The snapshot does not contain what loading them left behind.
    assert!(density.data < 24 << 20, "{density}");
    assert!(density.percent() > 60, "{density}");
    // Baking is deterministic: the same bytes as the application's own component.
    let own = std::fs::read(component()).expect("a component");
    assert!(std::fs::read(&target).expect("a component") == own, "two bakes differ");
}

/// The largest core module of a component: the function itself. The others are its adapter.
fn largest_module(component: &[u8]) -> Vec<u8> {
    let modules =
        wasmparser::Parser::new(0).parse_all(component).filter_map(|payload| {
            match payload.expect("a component") {
                wasmparser::Payload::ModuleSection { unchecked_range, .. } => Some(unchecked_range),
                _ => None,
            }
        });
    let range = modules.max_by_key(|range| range.len()).expect("a core module");
    component[range.start..range.end].to_vec()
}

/// How many bytes of code a core module has.
fn code_bytes(module: &[u8]) -> usize {
    let payloads = wasmparser::Parser::new(0).parse_all(module);
    let bodies = payloads.filter_map(|payload| match payload.expect("a module") {
        wasmparser::Payload::CodeSectionEntry(body) => Some(body.range().len()),
        _ => None,
    });
    bodies.sum()
}

#[test]
fn the_component_has_lost_the_code_that_only_loads_a_network() {
    let built = std::fs::read(unbaked()).expect("a module");
    let baked = largest_module(&std::fs::read(component()).expect("a component"));
    let before = code_bytes(&built);
    // Debian's linker leaves no relocations.
    let choice =
        ToolchainOptions { preference: Preference::Auto, installation: Installation::Asked };
    let expected = match toolchain::find(choice).expect("a toolchain") {
        Toolchain::OnPath => 0..before / 2,
        Toolchain::Debian => before..before + 1,
    };
    let remaining = code_bytes(&baked);
    assert!(expected.contains(&remaining), "{remaining} bytes of code remain of {before}");
}

#[test]
fn the_components_imports_are_http_io_clocks_random_and_stdio() {
    let bytes = std::fs::read(component()).expect("a component");
    let interfaces = spotter_app::check::interfaces(&bytes).expect("a component");
    let names: Vec<&str> =
        interfaces.imports.iter().map(|name| name.split('@').next().expect("a name")).collect();
    let granted = [
        "wasi:cli/stderr",
        "wasi:cli/stdin",
        "wasi:cli/stdout",
        "wasi:clocks/monotonic-clock",
        "wasi:clocks/wall-clock",
        "wasi:http/types",
        "wasi:io/error",
        "wasi:io/poll",
        "wasi:io/streams",
        "wasi:random/random",
    ];
    let extra: Vec<_> = names.iter().filter(|name| !granted.contains(name)).collect();
    assert!(extra.is_empty(), "{extra:?}");
    let versions = interfaces.imports.iter().all(|name| name.contains("@0.2."));
    assert!(versions, "{:?}", interfaces.imports);
    assert_eq!(interfaces.exports, ["wasi:http/incoming-handler@0.2.0"]);
}

#[test]
fn nanodet_works_by_another_model_toml_alone() {
    let output = tempfile::tempdir().expect("a folder");
    let target = output.path().join("nanodet.wasm");
    let baked = bake(&models().join("nanodet_g"), &target);
    assert!(baked.status.success(), "{}", stderr(&baked));
    let (server, _folder) = up(&target);
    assert_cat(&detect_cat(&server));
    let labels = client::get(&server.url("/labels")).json();
    assert_eq!(labels["model"], "nanodet_g");
    assert_eq!(labels["labels"][0]["class_id"], 0);
    assert_eq!(labels["labels"].as_array().expect("labels").len(), 80);
}

#[test]
#[cfg_attr(not(shared_pictures), ignore = "CenterNet has no licence: set SPOTTER_SHARED")]
fn a_third_head_works_by_another_model_toml_alone() {
    let shared = pictures::shared().expect("SPOTTER_SHARED");
    let folder = tempfile::tempdir().expect("a folder");
    let copy = |from: &str, to: &str| {
        std::fs::copy(shared.join("model").join(from), folder.path().join(to))
            .expect("a model's file");
    };
    copy("mbv3_centernet_coco_512_u8.onnx", "model.onnx");
    copy("labels_coco80.txt", "labels.txt");
    let nanodet =
        std::fs::read_to_string(models().join("nanodet_g/model.toml")).expect("a manifest");
    let manifest = nanodet.replace("416", "512").replace("nanodet_g", "centernet");
    std::fs::write(folder.path().join("model.toml"), manifest).expect("a manifest");
    let target = folder.path().join("centernet.wasm");
    let baked = bake(folder.path(), &target);
    assert!(baked.status.success(), "{}", stderr(&baked));
    let (server, _folder) = up(&target);
    assert_cat(&detect_cat(&server));
}

#[test]
fn a_faulty_model_is_refused_with_the_file_at_fault() {
    let good = models().join("nanodet_g");
    let manifest = std::fs::read_to_string(good.join("model.toml")).expect("a manifest");
    let unknown = manifest.replace("[thresholds]", "[treshold]");
    let zero = manifest.replace("width = 416", "width = 0");
    let missing = manifest.replace("scores = \"scores\"", "scores = \"nonsense\"");
    let cases: [(&str, &[u8], [&str; 2]); 6] = [
        ("model.toml", unknown.as_bytes(), ["model.toml", "unknown field `treshold`"]),
        ("model.toml", zero.as_bytes(), ["model.toml", "input.width is 0"]),
        ("model.toml", missing.as_bytes(), ["model.onnx", "nonsense"]),
        ("labels.txt", b"cat\ndog\n", ["2 labels", "scores"]),
        ("labels.txt", b"", ["labels.txt", "no label"]),
        ("model.onnx", b"this is no network", ["model.onnx", ""]),
    ];
    for (file, content, words) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["model.toml", "labels.txt", "model.onnx"] {
            std::fs::copy(good.join(name), folder.path().join(name)).expect("a model's file");
        }
        std::fs::write(folder.path().join(file), content).expect("a model's file");
        let baked = bake(folder.path(), &folder.path().join("out.wasm"));
        assert!(!baked.status.success());
        let said = stderr(&baked);
        for word in words {
            assert!(said.contains(word), "{file}: {said} lacks {word:?}");
        }
    }
    let baked = bake(Path::new("/nonexistent"), Path::new("/nonexistent/out.wasm"));
    assert!(stderr(&baked).contains("model.toml"), "{}", stderr(&baked));
}

#[test]
fn every_committed_network_is_the_one_its_model_md_describes() {
    for model in ["ssdlite_mobilenet_v2", "nanodet_g"] {
        let folder = models().join(model);
        let described = std::fs::read_to_string(folder.join("MODEL.md")).expect("MODEL.md");
        let network = std::fs::read(folder.join("model.onnx")).expect("a network");
        let digest = spotter_tests::oci::digest(&network);
        let digest = digest.trim_start_matches("sha256:");
        assert!(described.contains(digest), "{model}: MODEL.md lacks {digest}");
    }
}

#[test]
fn what_is_no_function_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("out.wasm");
    let model = models().join("nanodet_g");
    let cases: [(&[u8], &str); 3] = [
        (b"not WebAssembly", "not a core WebAssembly module"),
        (&std::fs::read(component()).expect("a component"), "not a core WebAssembly module"),
        (b"\0asm\x01\0\0\0", "wizer-initialize"),
    ];
    for (bytes, word) in cases {
        let module = folder.path().join("module.wasm");
        std::fs::write(&module, bytes).expect("a module");
        let baked = run(&["bake", path(&module), "--model", path(&model), "-o", path(&output)]);
        assert!(!baked.status.success());
        assert!(stderr(&baked).contains(word), "{} lacks {word}", stderr(&baked));
    }
}
