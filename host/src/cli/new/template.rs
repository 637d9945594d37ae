//! The templates of `spotter new`, under the names that Spin's have.

use clap::ValueEnum;

/// What a new application does.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Template {
    /// Detects objects, with a component that needs no build
    Detector,
    /// Answers requests in Rust
    HttpRust,
    /// Serves the files of a folder
    StaticFileserver,
}

/// The component of the template `detector`, which is not one of its texts.
pub(super) const DETECTOR_COMPONENT: &str = "detector.wasm";

/// What the application's name replaces.
const NAME: &str = "NAME";

/// A file of a template: its path, and its content.
macro_rules! file {
    ($template:literal, $path:literal) => {
        ($path, include_str!(concat!("../../../templates/", $template, "/", $path)))
    };
}

/// What cargo builds is not part of the application.
const GITIGNORE: (&str, &str) = (".gitignore", "target/\n");

const DETECTOR: &[(&str, &str)] = &[file!("detector", "spin.toml")];

const HTTP_RUST: &[(&str, &str)] = &[
    GITIGNORE,
    file!("http-rust", "Cargo.toml"),
    file!("http-rust", "spin.toml"),
    file!("http-rust", "src/lib.rs"),
];

const STATIC_FILESERVER: &[(&str, &str)] = &[
    GITIGNORE,
    file!("static-fileserver", "Cargo.toml"),
    file!("static-fileserver", "spin.toml"),
    file!("static-fileserver", "src/lib.rs"),
    file!("static-fileserver", "static/index.html"),
];

impl Template {
    /// The application's texts, each with its path in the folder.
    pub(super) fn files(self, name: &str) -> impl Iterator<Item = (&'static str, String)> {
        let files = match self {
            Self::Detector => DETECTOR,
            Self::HttpRust => HTTP_RUST,
            Self::StaticFileserver => STATIC_FILESERVER,
        };
        files.iter().map(move |(path, content)| (*path, content.replace(NAME, name)))
    }
}
