//! Writes images as OCI archives, with any layers.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A layer: its media type and its bytes.
pub type Layer = (&'static str, Vec<u8>);

pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub const WASM: &str = "application/wasm";
pub const SPIN_WASM: &str = "application/vnd.wasm.content.layer.v1+wasm";
pub const SPIN_APPLICATION: &str = "application/vnd.fermyon.spin.application.v1+config";

/// The digest of bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hash}")
}

/// Writes an image of these layers, whose configuration is of `config_type`.
pub fn archive(path: &Path, name: &str, config: &Value, config_type: &str, layers: &[Layer]) {
    let described = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()});
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described(config_type, &config),
        "layers": layers.iter().map(|(kind, bytes)| described(kind, bytes)).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes();
    let mut entry = described("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let mut blobs = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index),
    ];
    let contents = layers.iter().map(|(_, bytes)| bytes.clone()).chain([config, manifest]);
    blobs.extend(contents.map(|bytes| (blob(&digest(&bytes)), bytes)));
    let files: Vec<(&str, u32, &[u8])> =
        blobs.iter().map(|(name, bytes)| (name.as_str(), 0o644, bytes.as_slice())).collect();
    std::fs::write(path, tar(&files)).expect("an archive");
}

fn blob(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// A tar archive of these files: name, mode, content.
pub fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        tar.append_data(&mut header, name, *bytes).expect("a tar");
    }
    tar.into_inner().expect("a tar")
}

/// The usual configuration of a Linux image with one layer.
pub fn linux_config(entrypoint: &[&str], layer: &[u8]) -> Value {
    json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    })
}

/// The media type of that configuration.
pub const LINUX_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A program that reports that it has started, and then sleeps until a signal ends it.
const PAUSE: &str = r#"
#include <signal.h>
#include <unistd.h>
static void end(int signal) { _exit(128 + signal); }
int main(void) {
    signal(SIGTERM, end);
    write(1, "paused\n", 7);
    for (;;) pause();
}
"#;

/// An image whose only program sleeps until a signal ends it, for a pod's sandbox.
pub fn pause(path: &Path, name: &str) -> PathBuf {
    let source = path.with_extension("c");
    let program = path.with_extension("elf");
    std::fs::write(&source, PAUSE).expect("a source");
    let mut compiler = Command::new("cc");
    let compiled = compiler.args(["-static", "-Os", "-o"]).arg(&program).arg(&source).output();
    let compiled = compiled.expect("cc starts");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let program = std::fs::read(program).expect("a program");
    let layer = tar(&[("pause", 0o755, &program)]);
    archive(path, name, &linux_config(&["/pause"], &layer), LINUX_CONFIG, &[(TAR, layer)]);
    path.to_owned()
}

/// What an OCI archive of one image with one layer holds.
pub struct Unpacked {
    /// The image's entry in the index.
    pub entry: Value,
    /// The configuration of each of its variants.
    pub configs: Vec<Value>,
    /// The folder with the layer's files.
    pub root: PathBuf,
}

/// Unpacks the archive of an image with one layer into `folder`.
pub fn unpack(archive: &Path, folder: &Path) -> Unpacked {
    let image = folder.join("image");
    extract(archive, &image);
    let json = |path: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
    };
    let blob = |digest: &Value| image.join(blob(digest.as_str().expect("a digest")));
    let entry = json(&image.join("index.json"))["manifests"][0].clone();
    let mut manifest = json(&blob(&entry["digest"]));
    let variants = manifest["manifests"].as_array().cloned().unwrap_or_default();
    let configurations = |manifest: &Value| json(&blob(&manifest["config"]["digest"]));
    let configs = if variants.is_empty() {
        vec![configurations(&manifest)]
    } else {
        variants.iter().map(|variant| configurations(&json(&blob(&variant["digest"])))).collect()
    };
    if let Some(first) = variants.first() {
        manifest = json(&blob(&first["digest"]));
    }
    let root = folder.join("rootfs");
    extract(&blob(&manifest["layers"][0]["digest"]), &root);
    Unpacked { entry, configs, root }
}

fn extract(archive: &Path, folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let status = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(folder).status();
    assert!(status.is_ok_and(|status| status.success()), "tar -xf {}", archive.display());
}
