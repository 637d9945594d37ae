//! Models baked into the function, and served.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::server::Server;
use crate::{run, spotter, stderr, unbaked};

/// Runs `spotter bake` on a model's folder.
pub fn bake(model: &Path, output: &Path) -> Output {
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let module = path(&unbaked());
    run(&["bake", &module, "--model", &path(model), "--output", &path(output)])
}

/// Serves a baked component as an application of its own, in a separate folder.
pub fn up(component: &Path) -> (Server, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"baked\"\n[[trigger.http]]\n\
         route = \"/...\"\ncomponent = \"detector\"\n[component.detector]\nsource = {:?}\n",
        component.canonicalize().expect("a component")
    );
    std::fs::write(folder.path().join("spin.toml"), manifest).expect("a manifest");
    let mut command = Command::new(spotter());
    command.args(["up", "--listen", "127.0.0.1:0"]).current_dir(folder.path());
    (Server::spawn(command), folder)
}

/// Bakes a model from the content of its files, and serves it.
pub fn serve(manifest: &str, labels: &str, network: &[u8]) -> (Server, [TempDir; 2]) {
    let model = tempfile::tempdir().expect("a folder");
    let files = [("model.toml", manifest.as_bytes()), ("labels.txt", labels.as_bytes())];
    for (name, content) in files.into_iter().chain([("model.onnx", network)]) {
        std::fs::write(model.path().join(name), content).expect("a model's file");
    }
    let target = model.path().join("detector.wasm");
    let baked = bake(model.path(), &target);
    assert!(baked.status.success(), "{}", stderr(&baked));
    let (server, folder) = up(&target);
    (server, [model, folder])
}
