//! `spotter detect`: detects objects in pictures, in process and without a socket, or through a running server.

mod batch;
mod detector;
mod export;
mod inputs;
mod jpeg_stream;
mod output;
mod summary;

use std::collections::BTreeSet;
use std::io::{IsTerminal, stdout};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use futures_util::{Stream, StreamExt, stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use batch::{Results, Shard};
pub(super) use detector::Detector;
use export::{Coco, Csv, Yolo};
use inputs::{Content, Depth, Input, Picture};
use output::{DetectReply, Json, JsonLines, Outcome, Table, Writer, is_broken_pipe};
use spotter_progress::{ProgressStep, print_message};
use spotter_up::AppArguments;
use summary::Summary;

/// Detect objects in pictures
#[derive(Args)]
pub(super) struct Detect {
    #[command(flatten)]
    pictures: Pictures,
    #[command(flatten)]
    app: AppArguments,
    /// Send the pictures to this server instead of running the application here
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

/// The pictures, and where the results go.
#[derive(Args)]
pub(in crate::cli) struct Pictures {
    /// Pictures (JPEG, PNG, WebP, GIF, BMP), folders, patterns, URLs, or - for standard input
    #[arg(required_unless_present = "list", value_name = "PICTURE")]
    pictures: Vec<String>,
    /// A file that lists pictures, one path or URL per line
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Also read subfolders
    #[arg(long, short)]
    recursive: bool,
    /// How to print the results
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write the annotated picture to this file (.png, .jpg), or the pictures into this folder if there are several
    #[arg(long, short, value_name = "FILE | FOLDER")]
    output: Option<PathBuf>,
    /// The folder for the files of --format yolo
    #[arg(long, value_name = "FOLDER", required_if_eq("format", "yolo"))]
    labels: Option<PathBuf>,
    /// Omit detections below this confidence, from 0 to 1 [default: the model's own]
    #[arg(long, value_name = "NUMBER")]
    min_confidence: Option<f32>,
    /// Detect only these classes, separated by commas
    #[arg(long, value_name = "NAMES")]
    classes: Option<String>,
    /// How many pictures to process at once [default: one for each core]
    #[arg(long, short, value_name = "NUMBER")]
    jobs: Option<NonZeroUsize>,
    /// Process only one of N parts of the pictures: I/N, from 0/N to N-1/N
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Append the results to this file as JSON lines, and skip pictures that already have a result in it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["format", "json"])]
    resume: Option<PathBuf>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table for people to read
    Table,
    /// The API's reply, or a list of replies with their files
    Json,
    /// One line of JSON for each picture, as soon as it and all earlier ones are done
    Jsonl,
    /// One line for each detection
    Csv,
    /// The results format of COCO
    Coco,
    /// A file of labels for each picture, in the folder of --labels
    Yolo,
}

impl Detect {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self { pictures, app, server } = self;
        pictures.run(|client, jobs| match &server {
            Some(url) => Detector::remote(client.clone(), url),
            None => Detector::local(app.load()?, jobs),
        })
    }
}

impl Pictures {
    /// Detects objects in all pictures. `detector` creates the detector from an HTTP client and the number of jobs.
    pub(in crate::cli) fn run(
        self,
        detector: impl FnOnce(&reqwest::Client, usize) -> anyhow::Result<Detector>,
    ) -> anyhow::Result<()> {
        let depth = if self.recursive { Depth::Recursive } else { Depth::Folder };
        let mut inputs = inputs::expand(&self.pictures, depth)?;
        if let Some(list) = &self.list {
            inputs.extend(inputs::listed(list)?);
        }
        let results = self.resume.as_deref().map(Results::open).transpose()?;
        let remaining = self.remaining(inputs, results.as_ref())?;
        let Some(inputs) = remaining else { return Ok(()) };
        let mut writer = self.writer(results.as_ref())?;
        let threads = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let client = client()?;
        let run = Arc::new(Run {
            detector: detector(&client, self.jobs())?,
            client,
            query: self.query(),
            output: self.output.clone(),
            read: self.output.iter().flat_map(|_| inputs.iter().filter_map(Input::file)).collect(),
            written: Mutex::default(),
            inputs: match inputs.as_slice() {
                [Input::Stdin] => Inputs::Stdin,
                [_] => Inputs::OnePicture,
                _ => Inputs::Several,
            },
        });
        let summary = match threads.block_on(self.detect_all(run, inputs, writer.as_mut())) {
            // The reader of the results has closed the pipe.
            Err(error) if is_broken_pipe(&error) => return Ok(()),
            summary => summary?,
        };
        match results {
            Some(results) => results.sync().and_then(|()| summary.batch_result()),
            None => summary.command_result(),
        }
    }

    /// The pictures that this process still has to do; `None` if all are done.
    fn remaining(
        &self,
        mut inputs: Vec<Input>,
        results: Option<&Results>,
    ) -> anyhow::Result<Option<Vec<Input>>> {
        if self.shard.is_none() && results.is_none() {
            return Ok(Some(inputs));
        }
        ensure!(
            !inputs.contains(&Input::Stdin),
            "--shard and --resume do not work with standard input: name files or URLs"
        );
        inputs.retain(|input| self.shard.is_none_or(|shard| shard.has(&input.name())));
        let all = inputs.len();
        inputs.retain(|input| results.is_none_or(|results| !results.has(&input.name())));
        let done = all - inputs.len();
        let part = self.shard.map(|shard| format!("Shard {shard}: ")).unwrap_or_default();
        print_message(&format!(
            "{part}{} of {all} pictures left to do, {done} already done",
            inputs.len()
        ));
        Ok((!inputs.is_empty()).then_some(inputs))
    }

    fn writer(&self, results: Option<&Results>) -> anyhow::Result<Box<dyn Writer>> {
        if let Some(results) = results {
            return Ok(Box::new(JsonLines(results.writer()?)));
        }
        let format = if self.json { Format::Json } else { self.format };
        Ok(match format {
            Format::Table => Box::new(Table(anstream::stdout())),
            Format::Json => Box::new(Json { out: stdout(), results: Vec::new() }),
            Format::Jsonl => Box::new(JsonLines(stdout())),
            Format::Csv => Box::new(Csv::new(stdout())?),
            Format::Coco => Box::new(Coco { out: stdout(), results: Vec::new() }),
            Format::Yolo => {
                let folder = self.labels.clone().context("--format yolo needs --labels")?;
                std::fs::create_dir_all(&folder)
                    .with_context(|| format!("cannot create the folder {}", folder.display()))?;
                Box::new(Yolo { folder })
            }
        })
    }

    fn jobs(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.jobs.map_or(cores, NonZeroUsize::get)
    }

    /// Detects objects in all pictures, several at once. If one fails, the others are done all the same.
    async fn detect_all(
        &self,
        run: Arc<Run>,
        inputs: Vec<Input>,
        writer: &mut dyn Writer,
    ) -> anyhow::Result<Summary> {
        let progress = self.progress(&inputs);
        let mut summary = Summary::default();
        let mut stopped = std::pin::pin!(self.stopped());
        let results = pictures(inputs, self.jobs()).map(|picture| {
            let run = Arc::clone(&run);
            tokio::spawn(async move { run.picture(picture).await })
        });
        let mut results = std::pin::pin!(results.buffered(self.jobs()));
        loop {
            let result = tokio::select! {
                result = results.next() => result,
                stopped = &mut stopped => return stopped.and(Err(anyhow!(
                    "stopped by a signal after {} pictures; run the same command again to continue", summary.done
                ))),
            };
            let Some(result) = result else { break };
            let (name, outcome) = result?;
            summary.done += 1;
            if let Err(failure) = &outcome {
                summary.failed += 1;
                summary.to_retry += usize::from(failure.retry);
                print_message(&format!("{name}: {}", failure.message));
            }
            writer.write(&name, outcome)?;
            if let Some(step) = &progress {
                step.advance(1);
            }
        }
        writer.finish()?;
        if let Some(step) = progress {
            step.done(format!("{} pictures", summary.done));
        }
        Ok(summary)
    }

    /// Waits for SIGTERM, which the first process of a container ignores unless it handles it. Only a batch handles it:
    /// all its results so far are written.
    async fn stopped(&self) -> anyhow::Result<()> {
        if self.resume.is_none() {
            std::future::pending::<()>().await;
        }
        let mut signal = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        signal.recv().await;
        Ok(())
    }

    /// A progress bar, if there are several pictures of a known number, and the results do not go to the terminal too.
    fn progress(&self, inputs: &[Input]) -> Option<ProgressStep> {
        let is_counted = inputs.len() > 1 && !inputs.contains(&Input::Stdin);
        (is_counted && !stdout().is_terminal() && std::io::stderr().is_terminal())
            .then(|| ProgressStep::for_items("Detecting", inputs.len() as u64))
    }

    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(min_confidence) = self.min_confidence {
            query.append_pair("min_confidence", &min_confidence.to_string());
        }
        if let Some(classes) = &self.classes {
            query.append_pair("classes", classes);
        }
        query.finish()
    }
}

/// What the pictures of one run are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inputs {
    OnePicture,
    /// One picture, or a stream.
    Stdin,
    Several,
}

/// What all pictures of one run share.
struct Run {
    detector: Detector,
    client: reqwest::Client,
    query: String,
    /// Where annotated pictures go.
    output: Option<PathBuf>,
    inputs: Inputs,
    /// The pictures themselves, which no copy may overwrite.
    read: BTreeSet<PathBuf>,
    /// The copies in a folder so far.
    written: Mutex<BTreeSet<PathBuf>>,
}

impl Run {
    /// The result for one picture, with the picture's name.
    async fn picture(&self, picture: Picture) -> (String, Outcome) {
        let Picture { name, content } = picture;
        let outcome = self.detect(&name, content).await;
        (name, outcome)
    }

    async fn detect(&self, name: &str, content: Content) -> Outcome {
        let bytes = detector::read(content, &self.client).await?;
        if let Some(output) = &self.output {
            let target = self.target(output, Path::new(name))?;
            let accept = output_media_type(&target).with_context(|| {
                format!(
                    "{} does not end in .png, .jpg or .jpeg, the formats for output",
                    target.display()
                )
            })?;
            let drawn = self.detector.detect(bytes.clone(), &self.query, accept).await?;
            std::fs::write(&target, drawn)
                .with_context(|| format!("cannot write {}", target.display()))?;
        }
        let reply = self.detector.detect(bytes, &self.query, "application/json").await?;
        let reply = DetectReply::parse(&reply)
            .context("the reply does not have the form of a reply to POST /detect")?;
        Ok(reply)
    }

    /// The path of a picture's annotated copy, which must not be the picture itself.
    fn target(&self, output: &Path, picture: &Path) -> anyhow::Result<PathBuf> {
        let is_only = match self.inputs {
            Inputs::OnePicture => true,
            // The pictures of a stream are numbered.
            Inputs::Stdin => picture.as_os_str() == inputs::STDIN_ARGUMENT,
            Inputs::Several => false,
        };
        let target = if is_only && !output.is_dir() {
            output.to_owned()
        } else {
            ensure!(
                output_media_type(output).is_none() || output.is_dir(),
                "-o {} names one file, but there are several pictures; name a folder",
                output.display()
            );
            std::fs::create_dir_all(output)
                .with_context(|| format!("cannot create the folder {}", output.display()))?;
            let name = picture.file_name().context("the picture has no name")?;
            let target = output.join(name);
            // The copy of anything but a PNG is a JPEG.
            let target = if output_media_type(&target).is_some() {
                target
            } else {
                target.with_extension("jpg")
            };
            let is_new =
                self.written.lock().is_ok_and(|mut written| written.insert(target.clone()));
            let shown = target.display();
            ensure!(
                is_new,
                "{shown} already shows another picture of the same name: run the command for each folder of pictures, with \
                 a folder of its own for the results"
            );
            target
        };
        if target.canonicalize().is_ok_and(|target| self.read.contains(&target)) {
            bail!("{} would be overwritten; name another file", target.display());
        }
        Ok(target)
    }
}

/// An HTTP client. An image without a Linux system has no certificates, so it trusts none there: only plain HTTP and
/// files work.
fn client() -> anyhow::Result<reqwest::Client> {
    let without_certificates = |_| reqwest::Client::builder().tls_certs_only([]).build();
    let client = reqwest::Client::builder().build().or_else(without_certificates);
    client.context("cannot start the HTTP client")
}

/// The pictures of all inputs. As many are read ahead as are worked on at once.
fn pictures(inputs: Vec<Input>, ahead: usize) -> impl Stream<Item = Picture> {
    let (sender, receiver) = mpsc::channel(ahead);
    // A thread of its own, because reading standard input can block for ever.
    std::thread::spawn(move || inputs::send(inputs, &sender));
    stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
}

/// The media type for a file name's extension.
fn output_media_type(target: &Path) -> Option<&'static str> {
    match target.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        _ => None,
    }
}
