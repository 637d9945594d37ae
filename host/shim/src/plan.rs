//! Decides, before a container is created, what it will run, so that errors in an image are reported at creation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use oci_spec::runtime::{Mount, MountBuilder, Process, Spec};
use serde::{Deserialize, Serialize};

use super::cgroups::{self, CgroupDriver};
use super::compile::{Code, PodResources};
use super::container_files::ContainerFiles;
use super::container_log::ContainerLog;
use super::pending_code::PendingCode;
use super::pod_cgroup::PodCgroup;
use super::request::ContainerRequest;
use super::{STATE_ROOT, image};
use spotter_app::component_manifest::Interruption;
use spotter_app::{App, Component, mounts};
use spotter_up::{CompiledComponent, CompiledComponents, PodConfiguration};

/// What the process that creates a container needs to know.
#[derive(Deserialize, Serialize)]
pub struct Plan {
    pub request: ContainerRequest,
    /// The folder of containers' states.
    pub state_root: PathBuf,
    pub cgroup_driver: CgroupDriver,
    pub program: Program,
}

/// What a container runs.
#[derive(Clone, Deserialize, Serialize)]
pub enum Program {
    /// A Linux program: the pod's sandbox, or a sidecar.
    Linux,
    Application(ServedApplication),
}

/// An application to serve. All paths are those in the container.
#[derive(Clone, Deserialize, Serialize)]
pub struct ServedApplication {
    pub manifest: PathBuf,
    /// The flags of `spotter up`, resolved from the container's arguments and environment.
    pub configuration: PodConfiguration,
    /// The compiled code of each component: a file on the node, whose pages all pods share.
    pub compiled: CompiledComponents,
}

/// Where an application from an image's layers is mounted in its container.
const APPLICATION_MOUNT: &str = "/.spotter/application";
/// Written to the log of a container with a Linux image. For a sidecar this is intended, but an image that should
/// hold an application would otherwise run unnoticed.
const NO_APPLICATION_MESSAGE: &str = "This image contains no Spotter application (no spin.toml, no component), so it \
     runs as an ordinary Linux container. If this is intended for the whole pod, leave out runtimeClassName: spotter";
/// The folder of the node's cgroups.
pub(super) const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// Where compiled code is mounted.
const COMPILED_CODE_MOUNT: &str = "/.spotter/compiled";
/// Where code that is still to be compiled appears.
const PENDING_CODE_MOUNT: &str = "/.spotter/awaited";

impl Program {
    /// The address of the admin listener, if the program has one.
    ///
    /// # Errors
    /// If the application's configuration is invalid.
    pub(super) fn admin(&self) -> anyhow::Result<Option<SocketAddr>> {
        match self {
            Self::Linux => Ok(None),
            Self::Application(served) => served.configuration.admin(),
        }
    }
}

impl Plan {
    /// Plans the container for a request, and what is still to be compiled for it.
    ///
    /// # Errors
    /// If the image's application is invalid or cannot be served.
    pub(super) async fn for_request(
        request: &ContainerRequest,
        log: &mut ContainerLog,
    ) -> anyhow::Result<(Self, Option<PendingCode>)> {
        let layers = image::application(request).await?;
        Self::for_bundle(request, layers, Path::new(CGROUP_ROOT), log)
    }

    /// Plans the container for a request whose image has this application in its layers, if it has one. `cgroup_root`
    /// is the folder of the node's cgroups.
    ///
    /// # Errors
    /// If the bundle cannot be read, or the image's application is invalid or cannot be served.
    pub fn for_bundle(
        request: &ContainerRequest,
        layers: Option<PathBuf>,
        cgroup_root: &Path,
        log: &mut ContainerLog,
    ) -> anyhow::Result<(Self, Option<PendingCode>)> {
        let path = request.bundle.join("config.json");
        let mut spec = Spec::load(&path).context("cannot read the container's configuration")?;
        let mut changed = cgroups::expand_mounts(&mut spec, cgroup_root)?;
        let found = match layers {
            Some(folder) => {
                let mounted = Path::new(APPLICATION_MOUNT);
                Some((folder, PathBuf::from("spin.toml"), mounted))
            }
            None => named_manifest(&spec)
                .map(|manifest| (rootfs(&spec, &request.bundle), manifest, Path::new("/"))),
        };
        let mut pending = None;
        let program = match found {
            None => {
                if !is_sandbox(&spec) {
                    log.write_line(NO_APPLICATION_MESSAGE);
                }
                Program::Linux
            }
            Some((folder, manifest, inside)) => {
                let mut mounts = spec.mounts().clone().unwrap_or_default();
                if inside == Path::new(APPLICATION_MOUNT) {
                    mounts.push(bind(&folder, inside, &["noexec"])?);
                }
                let root = rootfs(&spec, &request.bundle);
                let application =
                    ImageApplication { folder: &folder, manifest: &manifest, inside, root: &root };
                let cgroup = PodCgroup::for_compiler(&spec, &request.id, cgroup_root);
                let oom_score_adj = spec.process().as_ref().and_then(Process::oom_score_adj);
                let pod = PodResources { cgroup, oom_score_adj };
                let code = |component: &Component| Code::find(component, &pod);
                let served;
                (served, pending) =
                    application.serve(&spec, &mut mounts, code, &request.unique_name())?;
                spec.set_mounts(Some(mounts));
                changed = true;
                Program::Application(served)
            }
        };
        if changed {
            spec.save(&path).context("cannot write the container's configuration")?;
        }
        let state_root = Path::new(STATE_ROOT).join(&request.namespace);
        let plan = Self {
            request: request.clone(),
            state_root,
            cgroup_driver: CgroupDriver::from_spec(&spec),
            program,
        };
        Ok((plan, pending))
    }
}

/// An application that was found in an image.
struct ImageApplication<'a> {
    folder: &'a Path,
    /// Its manifest, or its only component, in the folder.
    manifest: &'a Path,
    /// Where the container sees the folder.
    inside: &'a Path,
    /// The container's root file system.
    root: &'a Path,
}

impl ImageApplication<'_> {
    /// Checks the application, and adds the mounts that it needs. Code that is not compiled yet will be in the folder
    /// `name`.
    fn serve(
        &self,
        spec: &Spec,
        mounts: &mut Vec<Mount>,
        code: impl Fn(&Component) -> anyhow::Result<Code>,
        name: &str,
    ) -> anyhow::Result<(ServedApplication, Option<PendingCode>)> {
        // An image of layers need not name a program, so its first argument may already be a flag.
        let mut arguments = arguments(spec).to_vec();
        if arguments.first().is_some_and(|first| !first.starts_with('-')) {
            arguments.remove(0);
        }
        let folder = self
            .folder
            .canonicalize()
            .with_context(|| format!("there is no folder {}", self.folder.display()))?;
        let is_component = self.manifest.extension().is_some_and(|extension| extension == "wasm");
        let max_bytes = if is_component { MAX_COMPONENT_BYTES } else { MAX_MANIFEST_BYTES };
        let manifest = resolve_within(&folder, &folder.join(self.manifest), max_bytes)?;
        let environment: BTreeMap<String, String> = environment(spec).collect();
        let configuration = PodConfiguration::resolve(&arguments, &environment)?;
        let container = ContainerFiles::new(spec, self.root, mounts);
        let mut app = configuration.check(&manifest, &environment, |path| container.read(path))?;
        for component in app.components.values_mut() {
            // Its author must not decide whether the node can stop it.
            component.interruption = Interruption::Epoch;
        }
        let seen = SeenFiles { folder: &folder, inside: self.inside, container: &container };
        let manifest = seen.at(&manifest)?;
        let (mut compiled, mut pending) = (CompiledComponents::new(), None::<PendingCode>);
        let mut further = Vec::new();
        for (number, (id, component)) in app.components.iter().enumerate() {
            let source = seen.component(component).with_context(|| format!("component `{id}`"))?;
            let file = format!("{number}.cwasm");
            let code = code(component).with_context(|| format!("component `{id}`"))?;
            // Mounted executable, since its pages are mapped as code.
            let mounted = match code {
                Code::Cached(code) => {
                    let mounted = Path::new(COMPILED_CODE_MOUNT).join(file);
                    further.push(bind(&code, &mounted, &[])?);
                    mounted
                }
                Code::Missing(compilation) => {
                    let mounted = Path::new(PENDING_CODE_MOUNT).join(&file);
                    let waiting = pending.take().map_or_else(|| PendingCode::create(name), Ok)?;
                    pending = Some(waiting.with(file, compilation));
                    mounted
                }
            };
            compiled.insert(id.clone(), CompiledComponent { source, code: mounted });
        }
        if let Some(pending) = &pending {
            further.push(bind(pending.folder(), Path::new(PENDING_CODE_MOUNT), &[])?);
        }
        if !mounts.iter().any(|mount| mount.destination() == Path::new("/tmp")) {
            further.push(temporary_folder(&app)?);
        }
        mounts.extend(further);
        Ok((ServedApplication { manifest, configuration, compiled }, pending))
    }
}

/// The files of an application in an image, on the node and as its container sees them.
struct SeenFiles<'a> {
    /// Without symbolic links.
    folder: &'a Path,
    inside: &'a Path,
    container: &'a ContainerFiles<'a>,
}

impl SeenFiles<'_> {
    /// Where the container sees a file of the folder. Fails if a volume would hide it.
    fn at(&self, path: &Path) -> anyhow::Result<PathBuf> {
        let seen = self.inside.join(path.strip_prefix(self.folder)?);
        // An application from layers is mounted over the volumes.
        if self.inside != Path::new(APPLICATION_MOUNT) {
            self.container.ensure_not_hidden(&seen)?;
        }
        Ok(seen)
    }

    /// Checks the files that a component is compiled from, and returns the container's path of its own.
    fn component(&self, component: &Component) -> anyhow::Result<PathBuf> {
        let dependencies = component.dependencies.iter().map(|dependency| &dependency.source);
        for path in std::iter::once(&component.source).chain(dependencies) {
            self.at(&resolve_within(self.folder, path, MAX_COMPONENT_BYTES)?)?;
        }
        self.at(&component.source)
    }
}

/// The manifest or component in the root file system that a container's arguments name; `None` if they name a
/// program.
fn named_manifest(spec: &Spec) -> Option<PathBuf> {
    let named = Path::new(arguments(spec).first()?);
    let extension = named.extension()?;
    let relative = named.strip_prefix("/").unwrap_or(named);
    (extension == "toml" || extension == "wasm").then(|| relative.to_owned())
}

/// Whether the container is a pod's sandbox, in containerd's annotation.
fn is_sandbox(spec: &Spec) -> bool {
    let annotations = spec.annotations().as_ref();
    let kind = annotations.and_then(|all| all.get("io.kubernetes.cri.container-type"));
    kind.is_some_and(|kind| kind == "sandbox")
}

fn rootfs(spec: &Spec, bundle: &Path) -> PathBuf {
    let root = spec.root().as_ref().map_or(Path::new("rootfs"), |root| root.path().as_path());
    bundle.join(root)
}

/// The largest component that is read, in bytes.
const MAX_COMPONENT_BYTES: u64 = 512 << 20;
/// The largest manifest, in bytes.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Resolves a path. Rejects one that leads out of `root`, even through symbolic links, or that is not a regular
/// file of at most `max_bytes`: an image must not name the node's files or devices, or make the shim wait for a pipe.
fn resolve_within(root: &Path, path: &Path, max_bytes: u64) -> anyhow::Result<PathBuf> {
    let root =
        root.canonicalize().with_context(|| format!("there is no folder {}", root.display()))?;
    let shown = path.strip_prefix(&root).unwrap_or(path);
    let shown = Path::new("/").join(shown.file_name().unwrap_or_default());
    let found = path
        .canonicalize()
        .with_context(|| format!("the image does not contain {}", shown.display()))?;
    ensure!(found.starts_with(&root), "{} leads outside the image", shown.display());
    let metadata = found.metadata()?;
    ensure!(metadata.is_file(), "{} is not a file", shown.display());
    let length = metadata.len();
    ensure!(
        length <= max_bytes,
        "{} has {length} bytes; the maximum is {max_bytes}",
        shown.display()
    );
    Ok(found)
}

fn arguments(spec: &Spec) -> &[String] {
    let process = spec.process().as_ref();
    process.and_then(|process| process.args().as_deref()).unwrap_or_default()
}

fn environment(spec: &Spec) -> impl Iterator<Item = (String, String)> {
    let process = spec.process().as_ref();
    let entries = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
    entries.iter().filter_map(|entry| {
        entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
    })
}

/// A tmpfs at `/tmp`, where files are copied to: an empty root file system has no such folder. Its content counts
/// towards the container's memory.
fn temporary_folder(app: &App) -> anyhow::Result<Mount> {
    const MIN_FOLDER_BYTES: u64 = 64 << 20;
    let copied = app.components.values().map(|component| {
        let Component { root, files, exclude_files, .. } = component;
        let bytes = mounts::copied_bytes(root, files, exclude_files, &app.options.mounts);
        // The pod reports errors, and finds the files that are in volumes.
        bytes.unwrap_or_default()
    });
    let size = format!("size={}", MIN_FOLDER_BYTES.saturating_add(copied.sum()));
    let options = ["nosuid", "nodev", "noexec", "mode=1777", &size];
    mount(Path::new("/tmp"), "tmpfs", Path::new("tmpfs"), &options)
}

fn bind(source: &Path, at: &Path, options: &[&str]) -> anyhow::Result<Mount> {
    mount(at, "bind", source, &[&["rbind", "ro", "nosuid", "nodev"], options].concat())
}

fn mount(at: &Path, kind: &str, source: &Path, options: &[&str]) -> anyhow::Result<Mount> {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    let mount = MountBuilder::default().destination(at).typ(kind).source(source);
    Ok(mount.options(options).build()?)
}

#[cfg(test)]
mod tests {
    use super::{named_manifest, resolve_within};
    use oci_spec::runtime::{ProcessBuilder, Spec};

    #[test]
    fn a_function_is_told_from_a_program() {
        for (argument, expected) in [
            ("/spin.toml", Some("spin.toml")),
            ("app/detect.wasm", Some("app/detect.wasm")),
            ("/pause", None),
            ("sh", None),
        ] {
            let mut spec = Spec::default();
            let process = ProcessBuilder::default().args([argument.to_owned()]).cwd("/");
            spec.set_process(Some(process.build().unwrap()));
            assert_eq!(named_manifest(&spec).as_deref(), expected.map(std::path::Path::new));
        }
    }

    #[test]
    fn no_link_of_an_image_leads_to_the_nodes_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("rootfs");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(folder.path().join("secret"), "of the node").unwrap();
        std::fs::write(root.join("good.wasm"), "\0asm").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("spin.toml")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("a.wasm")).unwrap();
        assert!(resolve_within(&root, &root.join("good.wasm"), 16).is_ok());
        let pipe = std::process::Command::new("mkfifo").arg(root.join("pipe.wasm")).status();
        assert!(pipe.is_ok_and(|status| status.success()));
        for name in ["spin.toml", "a.wasm", "../secret", "nothing", "pipe.wasm", "."] {
            let refused = resolve_within(&root, &root.join(name), 16).unwrap_err().to_string();
            assert!(!refused.contains("of the node"), "{refused}");
        }
    }
}
