//! Any text as a `spin.toml` gives an application or an error, without a panic. Every route of an application can be
//! found.

#![no_main]

use std::path::Path;

use app::{App, Choices};
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "only the parsing is called")]
#[path = "../../src/app/mod.rs"]
mod app;
#[path = "../../src/suggest.rs"]
mod suggest;

fuzz_target!(|text: &str| {
    if let Ok(app) = App::parse(text, Path::new("/nowhere"), &Choices::default()) {
        for (pattern, _) in app.routes.entries() {
            app.routes.find(&pattern.base());
        }
        app.routes.find(text);
    }
});
