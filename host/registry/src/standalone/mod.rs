//! An image with this program and the application, for any container runtime: `FROM scratch`, without a shell, for a
//! non-root user, and with a root file system that nothing writes to
//! (<https://github.com/opencontainers/image-spec/blob/main/config.md>).

pub mod binary;
pub mod payload;
pub mod publish;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use walkdir::WalkDir;

use super::CONFIG_MEDIA_TYPE;
use super::archive::{MANIFEST_MEDIA_TYPE, TAR_MEDIA_TYPE, append, descriptor, folder};
use super::digest::sha256;
use super::inventory::{Inventory, Program};
use super::pack::{self, Package, shipped_file};
use binary::{Binary, Platform};
use spotter_app::App;
use spotter_app::component_manifest::Interruption;
use spotter_app::manifest::Manifest;
use spotter_progress::ProgressStep;
use spotter_runtime::compile::code_cache;
use spotter_runtime::compile::precompile::{self, CpuLevel};

/// The ID of the user and the group that distributions without a shell use for "not root".
const NONROOT_ID: u64 = 65532;
/// Where the image has the application, and its compiled code.
const APPLICATION_FOLDER: &str = "app";
const COMPILED_CODE_FOLDER: &str = "app/compiled";
/// The folder of `SPOTTER_STATE_DIR`.
const STATE_FOLDER: &str = "var/lib/spotter";
const SHIM_FILE_NAME: &str = "containerd-shim-spotter-v1";
/// The defaults of `spotter up` in the image, which the container's own environment and arguments override. The admin
/// listener and the grace period are those of a pod under the shim.
const DEFAULT_ENVIRONMENT: [(&str, &str); 7] = [
    ("SPIN_HTTP_LISTEN_ADDR", "[::]:3000"),
    ("SPOTTER_ADMIN", "[::]:3001"),
    ("SPOTTER_LOG_FORMAT", "json"),
    ("SPOTTER_GRACE", "25s"),
    ("SPOTTER_STATE_DIR", "/var/lib/spotter"),
    ("SPOTTER_COMPILED", "/app/compiled"),
    ("XDG_CACHE_HOME", "/tmp"),
];

/// What goes into the image.
pub struct Contents {
    pub manifest: Manifest,
    pub app: App,
    /// One for each platform, static.
    pub binaries: Vec<Binary>,
    /// The shims that `spotter node install` puts on nodes: at most one for each platform.
    pub shims: Vec<Binary>,
    pub level: CpuLevel,
}

/// An image for one platform or several.
pub struct StandaloneImage {
    /// Layers and configurations by digest.
    blobs: BTreeMap<String, Bytes>,
    variants: Vec<Variant>,
    pub inventory: Inventory,
}

/// The image's manifest for one platform.
struct Variant {
    platform: Platform,
    manifest: Bytes,
}

/// A layer: the digests of its archive before and after compression, and the descriptor of the latter.
struct PackedLayer {
    diff_id: String,
    descriptor: Value,
    made_of: &'static str,
}

/// Builds the image. It is reproducible.
///
/// # Errors
/// If a component is not built or invalid, or a file cannot be read.
pub fn build(contents: Contents) -> anyhow::Result<StandaloneImage> {
    let Contents { manifest, app, mut binaries, shims, level } = contents;
    binaries.sort_by_key(|binary| binary.platform);
    let labels = labels(&manifest);
    let code = compiled(&app, &binaries, level)?;
    let (tar, shipped) = {
        let package = pack::application(manifest, &app)?;
        (application(&package, &app)?, package.inventory)
    };
    let inventory = inventory(shipped, &binaries, &shims);
    let mut image = StandaloneImage { blobs: BTreeMap::new(), variants: Vec::new(), inventory };
    let application = image.layer("the application", tar)?;
    let code = code.map(|tar| image.layer("its compiled code", tar)).transpose()?;
    for binary in binaries {
        let program = image.layer("spotter", program(&binary)?)?;
        let code = code.as_ref().filter(|_| binary.platform.is_this_machines());
        let shim = shims.iter().find(|shim| shim.platform == binary.platform);
        let shim = shim.map(|shim| image.layer("the shim", packed_shim(shim)?)).transpose()?;
        let layers = [&program, &application].into_iter().chain(code).chain(&shim);
        let layers: Vec<&PackedLayer> = layers.collect();
        image.add(binary.platform, &layers, &labels);
    }
    Ok(image)
}

impl StandaloneImage {
    /// Compresses an archive and adds it.
    fn layer(&mut self, made_of: &'static str, tar: Vec<u8>) -> anyhow::Result<PackedLayer> {
        let mut zipped = GzEncoder::new(Vec::new(), Compression::best());
        zipped.write_all(&tar)?;
        let zipped = zipped.finish()?;
        let layer = PackedLayer {
            diff_id: sha256(&tar),
            descriptor: descriptor(TAR_MEDIA_TYPE, &zipped),
            made_of,
        };
        self.blobs.insert(sha256(&zipped), zipped.into());
        Ok(layer)
    }

    /// Adds the variant for a platform.
    fn add(&mut self, platform: Platform, layers: &[&PackedLayer], labels: &Value) {
        let config = config(platform, layers, labels).to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "config": descriptor(CONFIG_MEDIA_TYPE, config.as_bytes()),
            "layers": layers.iter().map(|layer| &layer.descriptor).collect::<Vec<_>>(),
            "annotations": labels,
        });
        self.blobs.insert(sha256(config.as_bytes()), config.into());
        self.variants.push(Variant { platform, manifest: manifest.to_string().into() });
    }
}

fn config(platform: Platform, layers: &[&PackedLayer], labels: &Value) -> Value {
    let environment: Vec<String> =
        DEFAULT_ENVIRONMENT.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let seconds = |number: u64| number * 1_000_000_000;
    json!({
        "architecture": platform.architecture(),
        "os": "linux",
        "config": {
            "User": format!("{NONROOT_ID}:{NONROOT_ID}"),
            "ExposedPorts": {"3000/tcp": {}, "3001/tcp": {}},
            "Env": environment,
            "Entrypoint": ["/spotter", "up"],
            "WorkingDir": format!("/{APPLICATION_FOLDER}"),
            "Labels": labels,
            "StopSignal": "SIGTERM",
            // Docker's extension of the format; others ignore it.
            "Healthcheck": {
                "Test": ["CMD", "/spotter", "health"],
                "Interval": seconds(10),
                "Timeout": seconds(3),
                "StartPeriod": seconds(30),
                "Retries": 3,
            },
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>(),
        },
        "history": layers
            .iter()
            .map(|layer| json!({"created_by": "spotter image --standalone", "comment": layer.made_of}))
            .collect::<Vec<_>>(),
    })
}

/// <https://github.com/opencontainers/image-spec/blob/main/annotations.md>.
fn labels(manifest: &Manifest) -> Value {
    let application = &manifest.application;
    let mut labels = json!({"org.opencontainers.image.title": application.name});
    for (key, value) in
        [("version", &application.version), ("description", &application.description)]
    {
        if !value.is_empty() {
            labels[format!("org.opencontainers.image.{key}")] = value.as_str().into();
        }
    }
    labels
}

/// What the application's inventory is with these programs.
fn inventory(application: Inventory, binaries: &[Binary], shims: &[Binary]) -> Inventory {
    let program = |name, binary: &Binary| Program {
        name,
        platform: binary.platform,
        version: binary.is_this_program.then_some(env!("CARGO_PKG_VERSION")),
        digest: sha256(&binary.bytes),
    };
    let shims = shims.iter().map(|shim| program(SHIM_FILE_NAME, shim));
    let mut programs: Vec<Program> =
        binaries.iter().map(|binary| program("spotter", binary)).chain(shims).collect();
    programs.sort_by_key(|program| program.platform);
    let platforms = binaries.iter().map(|binary| binary.platform.to_string()).collect();
    Inventory { platforms, programs, ..application }
}

/// The binary, an empty `/tmp`, which a runtime can mount over, and the folder of the state. Docker and Podman give a new
/// volume the owner of the folder that it is mounted over.
fn program(binary: &Binary) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar_header(0o755, binary.bytes.len());
    tar.append_data(&mut header, "spotter", binary.bytes.as_slice())?;
    append_folder(&mut tar, Path::new("tmp"), 0o1777)?;
    for folder in ["var", "var/lib"] {
        append_folder(&mut tar, Path::new(folder), 0o755)?;
    }
    let mut header = folder_header(0o755);
    header.set_uid(NONROOT_ID);
    header.set_gid(NONROOT_ID);
    tar.append_data(&mut header, STATE_FOLDER, std::io::empty())?;
    Ok(tar.into_inner()?)
}

/// The shim next to the binary, where `spotter node install` looks for it.
fn packed_shim(shim: &Binary) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar_header(0o755, shim.bytes.len());
    tar.append_data(&mut header, SHIM_FILE_NAME, shim.bytes.as_slice())?;
    Ok(tar.into_inner()?)
}

/// Appends a folder, which a runtime would otherwise create with a mode of its own choice.
fn append_folder(tar: &mut tar::Builder<Vec<u8>>, path: &Path, mode: u32) -> anyhow::Result<()> {
    tar.append_data(&mut folder_header(mode), path, std::io::empty())?;
    Ok(())
}

fn folder_header(mode: u32) -> tar::Header {
    let mut header = tar_header(mode, 0);
    header.set_entry_type(tar::EntryType::Directory);
    header
}

/// A header without an owner or a time, so that the archive depends only on the content.
fn tar_header(mode: u32, length: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(length as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header
}

/// The application as `spotter pull` writes it, and how its components are interrupted: whoever writes an image with
/// its own runtime also operates it.
fn application(package: &Package, app: &App) -> anyhow::Result<Vec<u8>> {
    let folder = folder(package)?;
    let mut tar = tar::Builder::new(Vec::new());
    for entry in WalkDir::new(folder.path()).sort_by_file_name() {
        let entry = entry?;
        let inside = Path::new(APPLICATION_FOLDER).join(entry.path().strip_prefix(folder.path())?);
        if entry.file_type().is_dir() {
            append_folder(&mut tar, &inside, 0o755)?;
            continue;
        }
        let mut bytes = std::fs::read(entry.path())?;
        if inside == Path::new(APPLICATION_FOLDER).join("spin.toml") {
            bytes = with_interruption(&String::from_utf8(bytes)?, app)?.into_bytes();
        }
        append(&mut tar, &inside.to_string_lossy(), &bytes)?;
    }
    Ok(tar.into_inner()?)
}

fn with_interruption(manifest: &str, app: &App) -> anyhow::Result<String> {
    let mut manifest: toml_edit::DocumentMut = manifest.parse()?;
    for (id, component) in &app.components {
        if component.interruption == Interruption::Watchdog {
            manifest["component"][id]["tool"]["spotter"]["interruption"] =
                toml_edit::value("watchdog");
        }
    }
    Ok(manifest.to_string())
}

/// The compiled code of every component for this machine's architecture; `None` if no binary is for it.
fn compiled(app: &App, binaries: &[Binary], level: CpuLevel) -> anyhow::Result<Option<Vec<u8>>> {
    if !binaries.iter().any(|binary| binary.platform.is_this_machines()) {
        return Ok(None);
    }
    let mut tar = tar::Builder::new(Vec::new());
    append_folder(&mut tar, Path::new(COMPILED_CODE_FOLDER), 0o755)?;
    for (id, component) in &app.components {
        let step = ProgressStep::start(format!("Compiling `{id}` for the image"));
        let code = precompile::compile(component, level)?;
        let name =
            code_cache::file_name(&shipped_file(component)?).with_context(|| format!("`{id}`"))?;
        append(&mut tar, &format!("{COMPILED_CODE_FOLDER}/{name}"), &code)?;
        step.done(format!("Compiled `{id}` for the image"));
    }
    Ok(Some(tar.into_inner()?))
}
