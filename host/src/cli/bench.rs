//! `spotter bench`: measures how long this machine takes for each step of a detection.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use super::detect::Detector;
use spotter_app::App;
use spotter_nn as nn;
use spotter_up::AppArguments;

/// Measure how long this machine takes to process a picture
#[derive(Args)]
pub(super) struct Bench {
    /// Pictures to measure one after the other
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    app: AppArguments,
    /// Seconds for each of a picture's two measurements: one request at a time, then one for each core at once
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Also show the time that the host's engine takes for each kind of operator in the network
    #[arg(long)]
    operators: bool,
}

/// The part of a reply that is measured.
#[derive(Deserialize)]
struct Reply {
    timings_ms: Timings,
}

#[derive(Deserialize)]
struct Timings {
    decode: f64,
    resize: f64,
    inference: f64,
    postprocess: f64,
}

/// The milliseconds of each run, by step.
#[derive(Default)]
struct Samples {
    decode: Vec<f64>,
    resize: Vec<f64>,
    inference: Vec<f64>,
    postprocess: Vec<f64>,
    request: Vec<f64>,
}

/// How often a network is run to measure its operators.
const OPERATOR_RUNS: usize = 20;

/// How often each picture is detected before it is measured.
const WARM_UP_RUNS: usize = 3;

impl Bench {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut out = std::io::stdout();
        let app = self.app.load()?;
        let folders = model_folders(&app);
        ensure!(
            !self.operators || !folders.is_empty(),
            "--operators needs the folder of a model, but no component has one: set `tool.spotter.model` in the manifest, or \
             name a model of `ai_models` with --model NAME=FOLDER"
        );
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let detector = Arc::new(Detector::local(app, cores)?);
        let threads = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        writeln!(out, "spotter {}, {}, {cores} cores", env!("CARGO_PKG_VERSION"), processor())?;
        for path in &self.pictures {
            let shown = path.display();
            let picture = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
            let picture = Bytes::from(picture);
            writeln!(out, "\n{shown}, {} kB", picture.len() / 1000)?;
            let duration = Duration::from_secs(self.seconds);
            let alone = threads.block_on(measure_latency(&detector, &picture, duration));
            let (samples, cpu) = alone.with_context(|| shown.to_string())?;
            print_steps(&mut out, samples, cpu)?;
            let rate = threads.block_on(throughput(&detector, &picture, duration, cores))?;
            writeln!(out, "  {cores} at a time: {rate:.1} pictures a second")?;
        }
        if self.operators {
            for folder in folders {
                print_operators(&mut out, &folder)?;
            }
        }
        Ok(())
    }
}

/// Detects in a picture again and again, one run at a time. Returns the times, and the CPU time of one run.
async fn measure_latency(
    detector: &Detector,
    picture: &Bytes,
    duration: Duration,
) -> anyhow::Result<(Samples, f64)> {
    for _ in 0..WARM_UP_RUNS {
        detect(detector, picture).await?;
    }
    let mut samples = Samples::default();
    let (started, cpu) = (Instant::now(), cpu_milliseconds());
    while started.elapsed() < duration {
        let began = Instant::now();
        let Timings { decode, resize, inference, postprocess } = detect(detector, picture).await?;
        samples.request.push(began.elapsed().as_secs_f64() * 1000.0);
        samples.decode.push(decode);
        samples.resize.push(resize);
        samples.inference.push(inference);
        samples.postprocess.push(postprocess);
    }
    #[allow(clippy::cast_precision_loss, reason = "runs are few")]
    let runs = samples.request.len() as f64;
    Ok((samples, (cpu_milliseconds() - cpu) / runs))
}

/// The pictures per second, with `at_a_time` pictures at once.
async fn throughput(
    detector: &Arc<Detector>,
    picture: &Bytes,
    duration: Duration,
    at_a_time: usize,
) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..at_a_time {
        let (detector, picture) = (Arc::clone(detector), picture.clone());
        clients.spawn(async move {
            let mut done = 0_u32;
            while started.elapsed() < duration {
                detect(&detector, &picture).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(client) = clients.join_next().await {
        done += client??;
    }
    Ok(f64::from(done) / started.elapsed().as_secs_f64())
}

async fn detect(detector: &Detector, picture: &Bytes) -> anyhow::Result<Timings> {
    let reply = detector.detect(picture.clone(), "", "application/json").await;
    let reply = reply.map_err(|failure| anyhow::Error::msg(failure.message))?;
    let Reply { timings_ms } =
        serde_json::from_slice(&reply).context("the reply has no timings")?;
    Ok(timings_ms)
}

fn print_steps(out: &mut impl Write, samples: Samples, cpu: f64) -> anyhow::Result<()> {
    let runs = samples.request.len();
    writeln!(out, "  one at a time, {runs} runs   median    10 % to 90 %")?;
    for (step, mut values) in [
        ("decode", samples.decode),
        ("resize", samples.resize),
        ("network", samples.inference),
        ("boxes", samples.postprocess),
        ("whole request", samples.request),
    ] {
        values.sort_by(f64::total_cmp);
        let [low, median, high] = [1, 5, 9].map(|tenths| values[(values.len() - 1) * tenths / 10]);
        writeln!(out, "  {step:<24} {median:>7.1} ms   {low:>6.1} to {high:.1}")?;
    }
    writeln!(out, "  {:<24} {cpu:>7.1} ms", "CPU time")?;
    Ok(())
}

fn print_operators(out: &mut impl Write, folder: &Path) -> anyhow::Result<()> {
    let operators = nn::profile(folder, OPERATOR_RUNS)?;
    let total: f64 = operators.iter().map(|operator| operator.milliseconds).sum();
    writeln!(out, "\n{} in the host, {total:.1} ms", folder.display())?;
    let (operator, count, ms, gmacs) = ("operator", "count", "ms", "GMAC/s");
    writeln!(out, "  {operator:<28} {count:>5}   {ms:>8}   {gmacs:>6}   share")?;
    for operator in operators {
        let nn::OperatorTime { name, count, milliseconds, .. } = &operator;
        let (share, gmacs) = (milliseconds / total * 100.0, gmacs_per_second(&operator));
        writeln!(
            out,
            "  {name:<28} {count:>5}   {milliseconds:>8.2}   {gmacs:>6}   {share:>4.1} %"
        )?;
    }
    Ok(())
}

/// Billions of multiplications with additions in a second; empty for operators that do none.
#[allow(clippy::cast_precision_loss, reason = "a rate of three digits")]
fn gmacs_per_second(operator: &nn::OperatorTime) -> String {
    match operator.multiply_adds {
        0 => String::new(),
        count => format!("{:.1}", count as f64 / (operator.milliseconds * 1e6)),
    }
}

/// The folders of all models of an application, each once.
fn model_folders(app: &App) -> Vec<PathBuf> {
    let components = app.components.values();
    let folders = components.flat_map(|component| {
        let baked = component.bake.iter().filter_map(|bake| bake.model.clone());
        baked.chain(component.models.values().flatten().cloned()).collect::<Vec<_>>()
    });
    let mut folders: Vec<PathBuf> = folders.collect();
    folders.sort();
    folders.dedup();
    folders
}

/// This process's CPU time so far.
#[allow(clippy::cast_precision_loss, reason = "milliseconds are few")]
fn cpu_milliseconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1000.0 + time.tv_nsec as f64 / 1e6
}

/// The processor's name, as far as Linux knows it.
fn processor() -> String {
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}
