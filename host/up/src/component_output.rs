//! What components write to their standard streams: which of it the log shows, and the files that it is also written
//! to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, bail};
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use spotter_app::App;
use spotter_config::suggest;
use spotter_runtime::guest_log::LOG_TARGET;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter, Layer};

/// The flags for what components write.
#[derive(Args)]
pub(crate) struct OutputArguments {
    /// Do not log what components write to their standard streams
    #[arg(long, short)]
    quiet: bool,
    /// Log only what this component writes to its standard streams, not what others write; can be repeated
    #[arg(long, value_name = "ID", conflicts_with = "quiet")]
    follow: Vec<String>,
    /// Also write components' standard streams to ID_stdout.txt and ID_stderr.txt in this folder; an empty name turns
    /// this off
    #[arg(
        long,
        short = 'L',
        env = "SPIN_LOG_DIR",
        value_name = "FOLDER",
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    log_dir: Option<PathBuf>,
    /// Empty the files of --log-dir first
    #[arg(long)]
    truncate_logs: bool,
}

impl OutputArguments {
    /// The filter for the log.
    pub(crate) fn filter(&self) -> OutputFilter {
        match self.follow.is_empty() {
            true if self.quiet => OutputFilter::Only(BTreeSet::new()),
            true => OutputFilter::All,
            false => OutputFilter::Only(self.follow.iter().cloned().collect()),
        }
    }

    /// Checks the components to follow.
    ///
    /// # Errors
    /// If the application does not serve one of them.
    pub(crate) fn check(&self, app: &App) -> anyhow::Result<()> {
        let ids = || app.components.keys().map(String::as_str);
        let Some(id) = self.follow.iter().find(|id| !app.components.contains_key(*id)) else {
            return Ok(());
        };
        match suggest::nearest(id, ids()) {
            Some(near) => bail!("--follow {id}: no such component; did you mean `{near}`?"),
            None => bail!(
                "--follow {id}: no such component; those that are served are {}",
                ids().collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// Opens the files, if there is a folder for them: that of the flag, or else that of the runtime configuration.
    ///
    /// # Errors
    /// If a file cannot be opened.
    pub(crate) fn open_files(
        &self,
        app: &App,
        configured: Option<PathBuf>,
    ) -> anyhow::Result<Option<OutputFiles>> {
        let folder = self.log_dir.clone().or(configured);
        let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) else {
            return Ok(None);
        };
        let files = OutputFiles::open(&folder, app)?;
        if self.truncate_logs {
            files.truncate().with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        tracing::info!("what components write is also written to files in {}", folder.display());
        Ok(Some(files))
    }
}

/// Which components' output is shown. Everything else is.
#[derive(Clone, Debug)]
pub(crate) enum OutputFilter {
    All,
    /// That of the components with these ids.
    Only(BTreeSet<String>),
}

impl<S: Subscriber> Filter<S> for OutputFilter {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    /// Without it, the hint of the filter that this one is combined with would be lost.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        match self {
            Self::Only(ids) if event.metadata().target() == LOG_TARGET => {
                ids.contains(&Line::of(event).component)
            }
            _ => true,
        }
    }
}

/// One line of a component's output.
#[derive(Default)]
struct Line {
    component: String,
    stream: String,
    text: String,
}

impl Line {
    fn of(event: &Event<'_>) -> Self {
        let mut line = Self::default();
        event.record(&mut line);
        line
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "component" => value.clone_into(&mut self.component),
            "stream" => value.clone_into(&mut self.stream),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a string cannot fail.
            let _ = write!(self.text, "{value:?}");
        }
    }
}

/// The files with components' output, by component and stream.
pub(crate) struct OutputFiles(BTreeMap<(String, String), File>);

impl OutputFiles {
    fn open(folder: &Path, app: &App) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder of logs {}", folder.display()))?;
        let mut files = BTreeMap::new();
        for (id, stream) in app.components.keys().flat_map(|id| [(id, "stdout"), (id, "stderr")]) {
            let path = folder.join(format!("{}_{stream}.txt", file_name(id)));
            // Each line goes to the end, wherever it is, so that other programs can truncate the file.
            let file = File::options().create(true).append(true).open(&path);
            let file = file.with_context(|| format!("cannot write {}", path.display()))?;
            files.insert((id.clone(), stream.to_owned()), file);
        }
        Ok(Self(files))
    }

    fn truncate(&self) -> std::io::Result<()> {
        let files = self.0.values();
        // A link may lead to a device, which has no length.
        files
            .filter(|file| file.metadata().is_ok_and(|it| it.is_file()))
            .try_for_each(|file| file.set_len(0))
    }

    fn write(&self, line: Line) -> std::io::Result<()> {
        let Line { component, stream, mut text } = line;
        let Some(mut file) = self.0.get(&(component, stream)) else { return Ok(()) };
        text.push('\n');
        file.write_all(text.as_bytes())
    }
}

/// A component's id without characters that have a meaning in a path.
fn file_name(id: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    id.chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}

/// Writes lines to the files, as soon as they are open.
#[derive(Clone, Default)]
pub(crate) struct OutputLayer {
    files: Arc<OnceLock<OutputFiles>>,
    /// How many lines could not be written.
    pub(crate) lost: Arc<AtomicU64>,
}

impl OutputLayer {
    /// Writes lines to these files from now on. Only the first call has an effect.
    pub(crate) fn write_to(&self, files: OutputFiles) {
        let _ = self.files.set(files);
    }
}

impl<S: Subscriber> Layer<S> for OutputLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(files) = self.files.get() else { return };
        if files.write(Line::of(event)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
