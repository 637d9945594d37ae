//! `spotter watch`: builds and serves an application, and does both again whenever its sources change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use notify_debouncer_mini::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{DebounceEventResult, Debouncer, new_debouncer};

use super::CACHE_VARIABLE;
use super::build::ToolchainArguments;
use spotter_app::App;
use spotter_app::nn_engine::NnEngine;
use spotter_progress::print_message;
use spotter_server::signals::Signals;
use spotter_up::AppArguments;

/// Build and serve an application, and do so again after every change to its sources
#[derive(Args)]
pub(super) struct Watch {
    #[command(flatten)]
    app: AppArguments,
    #[command(flatten)]
    toolchain: ToolchainArguments,
    /// How long the sources must stay unchanged before they are built again, in milliseconds
    #[arg(long, default_value_t = 100, value_name = "MILLISECONDS")]
    debounce: u64,
    /// Further arguments for `spotter up`
    #[arg(last = true, value_name = "UP_ARGUMENTS")]
    up: Vec<String>,
}

/// What `spotter watch` waits for.
enum Event {
    Changed(DebounceEventResult),
    /// SIGTERM or SIGINT.
    Stop,
}

impl Watch {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (sender, events) = channel();
        forward_signals(sender.clone())?;
        let mut serving: Option<Serving> = None;
        loop {
            // The manifest itself may have changed, so read the files to watch from it each time.
            let sources = Sources::new(&self.app.source(), self.app.load().ok().as_ref())?;
            let _watcher = sources.watch(Duration::from_millis(self.debounce), sender.clone())?;
            match self
                .app
                .load()
                .and_then(|app| crate::build::build(&app, self.toolchain.options()))
            {
                Ok(()) => {
                    // The port is free only once the previous server has ended.
                    drop(serving.take());
                    serving = Some(Serving::start(self.up_command()?)?);
                }
                // The previous version keeps serving.
                Err(error) => print_message(&format!("error: {error:#}")),
            }
            let Some(changed) = sources.next_change(&events)? else { return Ok(()) };
            print_message(&format!("{} changed: building again", changed.display()));
        }
    }

    fn up_command(&self) -> anyhow::Result<Command> {
        let this = std::env::current_exe().context("cannot find this program itself")?;
        let mut command = Command::new(this);
        command.arg("up").arg("--from").arg(self.app.source());
        command.envs(spotter_cache::chosen_folder().map(|folder| (CACHE_VARIABLE, folder)));
        for variable in &self.app.variable {
            command.arg("--variable").arg(variable);
        }
        for model in &self.app.model {
            command.arg("--model").arg(model);
        }
        if let NnEngine::OnnxRuntime(library) = &self.app.nn_engine {
            command.arg("--nn-engine").arg(format!("onnxruntime={}", library.display()));
        }
        command.arg("--nn-threads").arg(self.app.nn_threads.to_string());
        if let Some(profile) = &self.app.profile {
            command.arg("--profile").arg(profile);
        }
        command.args(&self.up);
        Ok(command)
    }
}

/// A running `spotter up`. Dropping it stops it and waits for its end.
struct Serving(Child);

impl Serving {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        Ok(Self(command.spawn().context("cannot start `spotter up`")?))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // This fails if the process has already ended.
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.0),
            rustix::process::Signal::TERM,
        );
        let _ = self.0.wait();
    }
}

/// The files that are watched for changes.
struct Sources {
    manifest: PathBuf,
    patterns: GlobSet,
    /// The folders before the first wildcard of each pattern. Only these are watched, not a whole target folder.
    folders: BTreeSet<PathBuf>,
    /// The time at which watching began.
    since: SystemTime,
}

impl Sources {
    /// The manifest, and the files that each component's `build.watch` names.
    fn new(from: &Path, app: Option<&App>) -> anyhow::Result<Self> {
        let manifest = if from.is_dir() { from.join("spin.toml") } else { from.to_owned() };
        let manifest = manifest
            .canonicalize()
            .with_context(|| format!("there is no manifest {}", manifest.display()))?;
        let mut patterns = GlobSetBuilder::new();
        let mut folders = BTreeSet::new();
        let components =
            app.iter().flat_map(|app| app.components.values().chain(app.idle.values()));
        for build in components.flat_map(|component| &component.build) {
            let base = build.working_directory.join(".").canonicalize()?;
            for pattern in &build.watch {
                let path = base.join(pattern);
                let path = path.to_string_lossy();
                let glob = GlobBuilder::new(&path).literal_separator(true).build();
                patterns.add(
                    glob.with_context(|| format!("`watch` has the invalid pattern {pattern:?}"))?,
                );
                folders.insert(literal_part(&path));
            }
        }
        Ok(Self { manifest, patterns: patterns.build()?, folders, since: SystemTime::now() })
    }

    fn watch(
        &self,
        quiet: Duration,
        events: Sender<Event>,
    ) -> anyhow::Result<Debouncer<RecommendedWatcher>> {
        let forward = move |result| {
            // The receiver may be gone.
            let _ = events.send(Event::Changed(result));
        };
        let mut debouncer =
            new_debouncer(quiet, forward).context("cannot watch files on this system")?;
        let own = self.manifest.parent().unwrap_or(Path::new("/"));
        debouncer.watcher().watch(own, RecursiveMode::NonRecursive)?;
        for folder in &self.folders {
            let watched = debouncer.watcher().watch(folder, RecursiveMode::Recursive);
            watched.with_context(|| format!("cannot watch {}", folder.display()))?;
        }
        Ok(debouncer)
    }

    /// Waits until a source changes, and returns its path; `None` after a signal to stop.
    fn next_change(&self, events: &Receiver<Event>) -> anyhow::Result<Option<PathBuf>> {
        loop {
            let Event::Changed(changes) = events.recv().context("the file watcher has ended")?
            else {
                return Ok(None);
            };
            let changes = changes.context("the file watcher failed")?;
            let changed = changes.into_iter().find(|change| self.has_changed(&change.path));
            if let Some(change) = changed {
                return Ok(Some(change.path));
            }
        }
    }

    /// Whether a file is a source that was written or removed. Reading a file causes an event too.
    fn has_changed(&self, path: &Path) -> bool {
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        let is_newer = modified.map_or(true, |modified| modified > self.since);
        is_newer && (path == self.manifest || self.patterns.is_match(path))
    }
}

/// Turns SIGTERM, SIGINT and SIGHUP into events, so that the server is stopped before this process ends.
fn forward_signals(events: Sender<Event>) -> anyhow::Result<()> {
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _guard = waiting.enter();
        Signals::new()?
    };
    std::thread::spawn(move || {
        waiting.block_on(signals.next());
        let _ = events.send(Event::Stop);
    });
    Ok(())
}

/// The longest existing folder before the first wildcard of a pattern, or the file it names.
fn literal_part(pattern: &str) -> PathBuf {
    let end = pattern
        .find(['*', '?', '[', '{'])
        .map_or(pattern.len(), |wildcard| pattern[..wildcard].rfind('/').unwrap_or(0));
    let path = Path::new(&pattern[..end]);
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::literal_part;
    use std::path::Path;

    #[test]
    fn only_the_folder_before_a_wildcard_is_watched() {
        let here = env!("CARGO_MANIFEST_DIR");
        let cases = [
            ("src/**/*.rs", "src"),
            ("Cargo.toml", "Cargo.toml"),
            ("src/nothing/*.rs", "src"),
            ("*.toml", ""),
        ];
        for (pattern, folder) in cases {
            let expected = Path::new(here).join(folder);
            assert_eq!(literal_part(&format!("{here}/{pattern}")), expected, "{pattern}");
        }
    }
}
