//! The pictures that `spotter detect` reads: files, folders, patterns, URLs and standard input.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use globset::{GlobBuilder, GlobMatcher};
use tokio::sync::mpsc::Sender;
use walkdir::WalkDir;

use super::jpeg_stream;
use spotter_progress::print_message;

/// The extensions of files in a folder that count as pictures.
const PICTURE_EXTENSIONS: [&str; 7] = ["bmp", "gif", "jpe", "jpeg", "jpg", "png", "webp"];

/// The most bytes that standard input may have, unless it is a stream of JPEGs.
const MAX_INPUT_BYTES: u64 = 64 << 20;

/// The argument for standard input, and the name of its only picture.
pub(super) const STDIN_ARGUMENT: &str = "-";

/// One argument.
#[derive(Debug, PartialEq)]
pub(super) enum Input {
    File(PathBuf),
    Url(String),
    Stdin,
}

impl Input {
    /// The name under which its result is reported, unless it is a stream.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(url) => url.clone(),
            Self::Stdin => "-".to_owned(),
        }
    }

    /// The path of an existing file, without symbolic links.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => path.canonicalize().ok(),
            _ => None,
        }
    }
}

/// One picture, with the name under which its result is reported.
pub(super) struct Picture {
    pub(super) name: String,
    pub(super) content: Content,
}

/// Where a picture's bytes are.
pub(super) enum Content {
    File(PathBuf),
    Url(String),
    Bytes(Vec<u8>),
    /// The bytes could not be read.
    Unreadable(anyhow::Error),
}

/// How deep folders are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The pictures that lie in the folder itself.
    Folder,
    /// Those of all its folders too.
    Recursive,
}

/// Expands folders and patterns, in the order of their paths.
///
/// # Errors
/// If a folder or a pattern contains no picture, or cannot be read.
pub(super) fn expand(arguments: &[String], depth: Depth) -> anyhow::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for argument in arguments {
        let path = Path::new(argument);
        if argument == STDIN_ARGUMENT {
            ensure!(!inputs.contains(&Input::Stdin), "standard input can be read only once");
            inputs.push(Input::Stdin);
        } else if is_url(argument) {
            inputs.push(Input::Url(argument.clone()));
        } else if path.is_dir() {
            let found = pictures_in(path, depth)?;
            ensure!(!found.is_empty(), "there is no picture in {argument}{}", hint(depth));
            inputs.extend(found.into_iter().map(Input::File));
        } else if !path.exists() && argument.contains(['*', '?', '[']) {
            let found = matching(argument)?;
            ensure!(!found.is_empty(), "no file matches {argument}");
            inputs.extend(found.into_iter().map(Input::File));
        } else {
            // A missing file fails like any other that cannot be read, and the others are still done.
            inputs.push(Input::File(path.to_owned()));
        }
    }
    Ok(inputs)
}

/// The pictures that the lines of a file name.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn listed(list: &Path) -> anyhow::Result<Vec<Input>> {
    let text = std::fs::read_to_string(list)
        .with_context(|| format!("cannot read the list {}", list.display()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    Ok(lines
        .map(|line| if is_url(line) { Input::Url(line.into()) } else { Input::File(line.into()) })
        .collect())
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

fn hint(depth: Depth) -> &'static str {
    match depth {
        Depth::Folder => "; add --recursive to read its folders too",
        Depth::Recursive => "",
    }
}

fn pictures_in(folder: &Path, depth: Depth) -> anyhow::Result<Vec<PathBuf>> {
    let walk = WalkDir::new(folder).min_depth(1).sort_by_file_name();
    let walk = if depth == Depth::Folder { walk.max_depth(1) } else { walk };
    let mut found = Vec::new();
    for entry in walk {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.into_path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let extension = extension.map(str::to_ascii_lowercase).unwrap_or_default();
        if PICTURE_EXTENSIONS.contains(&extension.as_str()) && path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

/// The files that match a pattern that the shell did not expand. Reads from the folder before the first wildcard.
fn matching(pattern: &str) -> anyhow::Result<Vec<PathBuf>> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    let glob = glob.with_context(|| format!("{pattern} is not a valid pattern"))?.compile_matcher();
    let wild = pattern.find(['*', '?', '[', '{']).unwrap_or(pattern.len());
    let folder = pattern[..wild].rfind('/').map_or("", |slash| &pattern[..=slash]);
    let start = if folder.is_empty() { "." } else { folder };
    // Only `**` matches at any depth.
    let wild = &pattern[folder.len()..];
    let levels = if wild.contains("**") { usize::MAX } else { wild.split('/').count() };
    let folders = folder_patterns(pattern, folder.len());
    let named = |path: &Path| {
        if folder.is_empty() { path.strip_prefix(".").unwrap_or(path) } else { path }.to_owned()
    };
    let walk = WalkDir::new(start).max_depth(levels).sort_by_file_name().into_iter();
    let walk = walk.filter_entry(|entry| {
        let level = entry.depth().checked_sub(1).filter(|_| entry.file_type().is_dir());
        let folder = level.and_then(|level| folders.get(level));
        folder.is_none_or(|folder| folder.is_match(named(entry.path())))
    });
    let mut found = Vec::new();
    for entry in walk {
        let path = named(entry.with_context(|| format!("cannot read {start}"))?.path());
        if glob.is_match(&path) && path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

/// What the folders at each level must match to be read, up to a `**`. The first `fixed` bytes have no wildcard.
fn folder_patterns(pattern: &str, fixed: usize) -> Vec<GlobMatcher> {
    let ends = pattern.match_indices('/').map(|(end, _)| end).filter(|end| *end > fixed);
    let folders = ends.map(|end| &pattern[..end]).take_while(|folder| !folder.contains("**"));
    // Part of an alternative such as `{a/b,c}` is not a valid pattern, and ends the list.
    let globs =
        folders.map_while(|folder| GlobBuilder::new(folder).literal_separator(true).build().ok());
    globs.map(|glob| glob.compile_matcher()).collect()
}

/// Sends each picture, in order. Standard input can be one picture in any format, or a stream of JPEGs.
pub(super) fn send(inputs: Vec<Input>, pictures: &Sender<Picture>) {
    for input in inputs {
        let (name, content) = match input {
            Input::File(path) => (path.display().to_string(), Content::File(path)),
            Input::Url(url) => (url.clone(), Content::Url(url)),
            Input::Stdin => {
                let input = BufReader::new(std::io::stdin());
                if let Err(error) = send_stream(input, pictures) {
                    let content = Content::Unreadable(error.context("standard input"));
                    let _ = pictures
                        .blocking_send(Picture { name: STDIN_ARGUMENT.to_owned(), content });
                }
                continue;
            }
        };
        if pictures.blocking_send(Picture { name, content }).is_err() {
            return;
        }
    }
}

fn send_stream(mut input: impl BufRead, pictures: &Sender<Picture>) -> anyhow::Result<()> {
    let send = |name: String, bytes: Vec<u8>| {
        pictures.blocking_send(Picture { name, content: Content::Bytes(bytes) })
    };
    if !jpeg_stream::is_jpeg(input.fill_buf()?) {
        let mut bytes = Vec::new();
        input.take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            bail!("it is empty");
        }
        ensure!(bytes.len() as u64 <= MAX_INPUT_BYTES, "it has more than {MAX_INPUT_BYTES} bytes");
        let _ = send(STDIN_ARGUMENT.to_owned(), bytes);
        return Ok(());
    }
    let mut number = 0;
    while let Some(bytes) = jpeg_stream::next(&mut input)? {
        number += 1;
        // Cameras and editors append data of their own to a picture.
        let is_only = number == 1 && !jpeg_stream::may_be_jpeg(input.fill_buf()?);
        if is_only {
            if !input.fill_buf()?.is_empty() {
                print_message("-: ignoring what follows the picture: it is not another JPEG");
            }
            let _ = send(STDIN_ARGUMENT.to_owned(), bytes);
            break;
        }
        let name = format!("frame-{number:06}");
        if send(name, bytes).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Depth, Input, expand};

    #[test]
    fn folders_and_patterns_are_expanded_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("deep")).unwrap();
        for name in ["b.JPG", "a.png", "notes.txt", "deep/c.webp"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        let names = |argument: &str, depth: Depth| -> Vec<String> {
            let inputs = expand(&[argument.to_owned()], depth).unwrap();
            let name = |input: Input| match input {
                Input::File(path) => path.strip_prefix(root).unwrap().display().to_string(),
                other => panic!("{other:?}"),
            };
            inputs.into_iter().map(name).collect()
        };
        let path = root.display().to_string();
        assert_eq!(names(&path, Depth::Folder), ["a.png", "b.JPG"]);
        assert_eq!(names(&path, Depth::Recursive), ["a.png", "b.JPG", "deep/c.webp"]);
        assert_eq!(names(&format!("{path}/*.png"), Depth::Folder), ["a.png"]);
        assert_eq!(names(&format!("{path}/**/*.webp"), Depth::Folder), ["deep/c.webp"]);
        assert_eq!(names(&format!("{path}/d*/?.webp"), Depth::Folder), ["deep/c.webp"]);
        assert_eq!(
            names(&format!("{path}/{{deep/c,a}}.*"), Depth::Folder),
            ["a.png", "deep/c.webp"]
        );
        for (argument, words) in [("*.heic", "no file matches"), ("deep/../empty", "no picture")] {
            std::fs::create_dir_all(root.join("empty")).unwrap();
            let error = expand(&[format!("{path}/{argument}")], Depth::Folder).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        let both = ["-".to_owned(), "-".to_owned()];
        assert!(expand(&both, Depth::Folder).unwrap_err().to_string().contains("only once"));
    }
}
