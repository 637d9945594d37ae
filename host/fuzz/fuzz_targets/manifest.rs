//! Any text as a `spin.toml` gives an application or an error, without a panic. Every route of an application can be
//! found.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use spotter_app::{App, LoadOptions};

fuzz_target!(|text: &str| {
    if let Ok(app) = App::parse(text, Path::new("/nowhere"), &LoadOptions::default()) {
        for (pattern, _) in app.routes.entries() {
            app.routes.find(&pattern.base());
        }
        app.routes.find(text);
    }
});
