//! Serves the files of the folder `static`, which the manifest mounts at `/`.

use std::fs;
use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;
use spin_sdk::http::{Method, Request, Response};
use spin_sdk::http_component;

/// Extensions, and the types of their files.
const CONTENT_TYPES: [(&str, &str); 11] = [
    ("css", "text/css"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webp", "image/webp"),
];

#[http_component]
fn serve(request: Request) -> Response {
    if !matches!(request.method(), Method::Get | Method::Head) {
        return Response::builder().status(405).header("allow", "GET, HEAD").build();
    }
    let path = request.header("spin-path-info").and_then(|path| path.as_str());
    let file = file(path.unwrap_or_default());
    let content = file.as_ref().and_then(|file| fs::read(file).ok());
    match (file, content) {
        (Some(file), Some(content)) => Response::builder()
            .status(200)
            .header("content-type", content_type(&file))
            .body(content)
            .build(),
        _ => Response::new(404, "There is no such file.\n"),
    }
}

/// The file for a path; `None` if the path leads out of the folder. A folder stands for its `index.html`.
fn file(path: &str) -> Option<PathBuf> {
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let mut file = PathBuf::from("/");
    for part in Path::new(path.as_ref()).components() {
        match part {
            Component::Normal(name) => file.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    if file.is_dir() {
        file.push("index.html");
    }
    Some(file)
}

fn content_type(file: &Path) -> &'static str {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let known = CONTENT_TYPES.iter().find(|(own, _)| own.eq_ignore_ascii_case(extension));
    known.map_or("application/octet-stream", |(_, content_type)| content_type)
}
