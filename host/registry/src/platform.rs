//! Chooses an image from an index, by architecture and operating system
//! (<https://github.com/opencontainers/image-spec/blob/main/image-index.md>).

use oci_client::manifest::ImageIndexEntry;

/// The operating systems of images for WebAssembly. The first is Docker's and runwasi's.
const WASM_SYSTEMS: [&str; 4] = ["wasi", "wasip1", "wasip2", "wasip3"];

/// The entry for WebAssembly, or else the one for Linux on this architecture, or else one without a platform.
#[must_use]
pub fn choose(entries: &[ImageIndexEntry]) -> Option<&ImageIndexEntry> {
    let find = |is_wanted: &dyn Fn(&str, &str) -> bool| {
        entries.iter().find(|entry| {
            entry.platform.as_ref().is_some_and(|platform| {
                is_wanted(&platform.architecture.to_string(), &platform.os.to_string())
            })
        })
    };
    let here = architecture();
    find(&|architecture, system| architecture == "wasm" && WASM_SYSTEMS.contains(&system))
        .or_else(|| find(&|architecture, system| architecture == here && system == "linux"))
        .or_else(|| entries.iter().find(|entry| entry.platform.is_none()))
}

/// This machine's architecture in OCI notation. The image itself runs on any.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{ImageIndexEntry, architecture, choose};
    use serde_json::json;

    #[test]
    fn the_operating_system_counts_too() {
        let index = |platforms: &[(&str, &str)]| -> Vec<ImageIndexEntry> {
            let entry = |(architecture, os): &(&str, &str)| {
                serde_json::from_value(json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": format!("{architecture}/{os}"),
                    "size": 1,
                    "platform": {"architecture": architecture, "os": os},
                }))
                .unwrap()
            };
            platforms.iter().map(entry).collect()
        };
        let here = architecture();
        let native = format!("{here}/linux");
        for (platforms, expected) in [
            ([(here, "windows"), (here, "linux")].as_slice(), Some(native.as_str())),
            (&[(here, "linux"), ("wasm", "wasi")], Some("wasm/wasi")),
            (&[("wasm", "js"), (here, "linux")], Some(&native)),
            (&[("wasm", "wasip1")], Some("wasm/wasip1")),
            (&[("wasm", "wasip2")], Some("wasm/wasip2")),
            (&[(here, "windows")], None),
            (&[("s390x", "linux")], None),
            (&[], None),
        ] {
            let index = index(platforms);
            let found = choose(&index).map(|entry| entry.digest.as_str());
            assert_eq!(found, expected, "{platforms:?}");
        }
    }
}
