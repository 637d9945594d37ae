//! `spotter detect`: runs the application's detector on local pictures, in process and without a socket.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use clap::Args;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AppArguments;
use crate::config::Limits;
use crate::progress::say;
use crate::server::{Connection, Scheme, Server};

/// Detect objects in pictures
#[derive(Args)]
pub(super) struct Detect {
    /// Pictures: JPEG, PNG, WebP, GIF or BMP
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    app: AppArguments,
    /// Draw the detections and write the picture to this file, or to this folder if there are several pictures
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the reply of POST /detect instead of a table
    #[arg(long)]
    json: bool,
    /// Omit detections below this confidence, 0 to 1
    #[arg(long, value_name = "NUMBER")]
    min_confidence: Option<f32>,
    /// Detect only these classes, separated by commas
    #[arg(long, value_name = "NAMES")]
    classes: Option<String>,
}

/// The part of a reply that the table shows.
#[derive(Deserialize)]
struct Report {
    detections: Vec<Detection>,
}

#[derive(Deserialize)]
struct Detection {
    label: String,
    confidence: f64,
    #[serde(rename = "box")]
    bounding_box: BoundingBox,
}

#[derive(Deserialize)]
struct BoundingBox {
    x_min: f64,
    y_min: f64,
    x_max: f64,
    y_max: f64,
}

impl Detect {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let server = Server::new(self.app.load()?, Limits::default(), None, Vec::new())
            .context("cannot load the application; have you run `spotter build`?")?;
        let threads = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let mut refused = 0;
        let mut replies = Vec::new();
        for picture in &self.pictures {
            match threads.block_on(self.detect(&server, picture)) {
                Ok(reply) if self.json => replies.push(json!({"file": picture, "reply": reply})),
                Ok(reply) => print_table(picture, serde_json::from_value(reply)?),
                Err(error) => {
                    refused += 1;
                    if self.json {
                        replies.push(json!({"file": picture, "error": format!("{error:#}")}));
                    }
                    say(&format!("{}: {error:#}", picture.display()));
                }
            }
        }
        if self.json {
            print_json(replies)?;
        }
        ensure!(refused == 0, "{refused} of {} pictures failed", self.pictures.len());
        Ok(())
    }

    async fn detect(&self, server: &Arc<Server>, picture: &Path) -> anyhow::Result<Value> {
        let bytes = Bytes::from(std::fs::read(picture).context("cannot read the file")?);
        if let Some(output) = &self.output {
            let target = self.target(output, picture)?;
            let accept = drawn_as(&target).with_context(|| {
                format!(
                    "{} is neither .png nor .jpg, the only formats for output",
                    target.display()
                )
            })?;
            let drawn = self.ask(server, bytes.clone(), accept).await?;
            std::fs::write(&target, drawn)
                .with_context(|| format!("cannot write {}", target.display()))?;
        }
        let reply = self.ask(server, bytes, "application/json").await?;
        serde_json::from_slice(&reply).context("the reply is not JSON")
    }

    /// The path of a picture's annotated copy, which must not be the picture itself.
    fn target(&self, output: &Path, picture: &Path) -> anyhow::Result<PathBuf> {
        let target = if self.pictures.len() == 1 && !output.is_dir() {
            output.to_owned()
        } else {
            std::fs::create_dir_all(output)
                .with_context(|| format!("cannot create the folder {}", output.display()))?;
            let name = picture.file_name().context("the picture has no name")?;
            let target = output.join(name);
            // The copy of anything but a PNG is a JPEG.
            if drawn_as(&target).is_some() { target } else { target.with_extension("jpg") }
        };
        if target.exists() && target.canonicalize().ok() == picture.canonicalize().ok() {
            bail!("{} would be overwritten; name another file", picture.display());
        }
        Ok(target)
    }

    async fn ask(
        &self,
        server: &Arc<Server>,
        picture: Bytes,
        accept: &str,
    ) -> anyhow::Result<Bytes> {
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let request = Request::post(self.uri())
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::ACCEPT, accept)
            .body(Full::new(picture).map_err(|never| match never {}).boxed_unsync())?;
        let connection = Connection { client: here, local: here, scheme: Scheme::Http };
        let response = server.handle(request, connection).await;
        let is_success = response.status().is_success();
        let body = response.into_body().collect().await.map_err(|error| anyhow!("{error:?}"))?;
        let body = body.to_bytes();
        if is_success {
            return Ok(body);
        }
        let error: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = error["error"]["message"].as_str().unwrap_or("the detector failed");
        bail!("{message}")
    }

    fn uri(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(min_confidence) = self.min_confidence {
            query.append_pair("min_confidence", &min_confidence.to_string());
        }
        if let Some(classes) = &self.classes {
            query.append_pair("classes", classes);
        }
        format!("/detect?{}", query.finish())
    }
}

/// The media type for a file name's extension.
fn drawn_as(target: &Path) -> Option<&'static str> {
    match target.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        _ => None,
    }
}

#[allow(clippy::print_stdout, reason = "the output of the command")]
fn print_table(picture: &Path, report: Report) {
    println!("{}", picture.display());
    if report.detections.is_empty() {
        println!("  nothing found");
    }
    for Detection { label, confidence, bounding_box: frame } in report.detections {
        println!(
            "  {label:<16} {:>5.1} %   x {:>6.1} to {:>6.1}   y {:>6.1} to {:>6.1}",
            confidence * 100.0,
            frame.x_min,
            frame.x_max,
            frame.y_min,
            frame.y_max
        );
    }
}

/// Prints the reply for one picture as it is, and those for several as a list with their files.
#[allow(clippy::print_stdout, reason = "the output of the command")]
fn print_json(mut replies: Vec<Value>) -> anyhow::Result<()> {
    let value = match replies.as_mut_slice() {
        [only] if only["reply"].is_object() => only["reply"].take(),
        _ => Value::Array(replies),
    };
    println!("{}", serde_json::to_string_pretty(&value)?);
    Ok(())
}
