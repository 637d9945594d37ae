//! Rebuilds the repository's networks from the packages in which they are published.

use std::process::Command;

use spotter_tests::{peer, root};

/// Converts a network with the repository's script, which compares its nodes, its constants and its outputs for a
/// picture with the network of the repository.
fn is_made_again(model: &str) {
    let packages = peer::python_packages(
        "model-converter",
        &["numpy==2.4.6", "onnx==1.23.2", "onnxruntime==1.32.0", "pillow==13.0.0"],
    );
    let output = Command::new("python3")
        .arg(root().join("function/convert/convert.py"))
        .args([model, "--check"])
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python3 starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    for words in ["nodes are the same", "boxes differ by 0", "scores differ by 0"] {
        assert!(said.contains(words), "{said} lacks {words}");
    }
}

#[test]
#[cfg_attr(not(all(root_on_debian, npm)), ignore = "needs npm, and root on Debian")]
fn both_networks_are_made_again_from_the_packages_that_publish_them() {
    is_made_again("ssdlite_mobilenet_v2");
    is_made_again("nanodet_g");
}
