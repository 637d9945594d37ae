//! `spotter detect`: the application's detector on local pictures, in process, with no server.

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
use crate::progress::say;
use crate::runtime::Limits;
use crate::server::{Connection, Scheme, Server};

/// Detect objects in pictures
#[derive(Args)]
pub(super) struct Detect {
    /// Pictures: JPEG, PNG, WebP, GIF or BMP
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    app: AppArguments,
    /// Write the picture with its detections drawn on it; with several pictures, a folder
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print what POST /detect answers rather than a table
    #[arg(long)]
    json: bool,
    /// Leave out detections below this, 0 to 1
    #[arg(long, value_name = "NUMBER")]
    min_confidence: Option<f32>,
    /// Only these classes, with commas between
    #[arg(long, value_name = "NAMES")]
    classes: Option<String>,
}

/// What the table shows of a reply.
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
        let server = Server::new(self.app.load()?, Limits::default(), None)
            .context("the application is not ready; has `spotter build` run?")?;
        let threads = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
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
        ensure!(refused == 0, "{refused} of {} pictures gave nothing", self.pictures.len());
        Ok(())
    }

    async fn detect(&self, server: &Arc<Server>, picture: &Path) -> anyhow::Result<Value> {
        let bytes = Bytes::from(std::fs::read(picture).context("cannot read it")?);
        if let Some(output) = &self.output {
            let target = self.target(output, picture)?;
            let accept = drawn_as(&target).with_context(|| {
                format!("{} is neither .png nor .jpg: no other format is written", target.display())
            })?;
            let drawn = self.ask(server, bytes.clone(), accept).await?;
            std::fs::write(&target, drawn)
                .with_context(|| format!("cannot write {}", target.display()))?;
        }
        let reply = self.ask(server, bytes, "application/json").await?;
        serde_json::from_slice(&reply).context("the reply is not JSON")
    }

    /// Where a picture's annotated copy goes; never where the picture itself is.
    fn target(&self, output: &Path, picture: &Path) -> anyhow::Result<PathBuf> {
        let target = if self.pictures.len() == 1 && !output.is_dir() {
            output.to_owned()
        } else {
            std::fs::create_dir_all(output)
                .with_context(|| format!("cannot make the folder {}", output.display()))?;
            let name = picture.file_name().context("the picture has no name")?;
            let target = output.join(name);
            // What comes back is a JPEG, whatever the picture was, unless it was a PNG.
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

/// The media type that a file's name asks for.
fn drawn_as(target: &Path) -> Option<&'static str> {
    match target.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        _ => None,
    }
}

#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
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

/// One picture's reply as it is; several as a list, each with its file.
#[allow(clippy::print_stdout, reason = "the JSON is what was asked for")]
fn print_json(mut replies: Vec<Value>) -> anyhow::Result<()> {
    let value = match replies.as_mut_slice() {
        [only] if only["reply"].is_object() => only["reply"].take(),
        _ => Value::Array(replies),
    };
    println!("{}", serde_json::to_string_pretty(&value)?);
    Ok(())
}
