//! Any text as an image's manifest or index: an image that is accepted has layers of possible sizes, and an index names
//! one of its own entries.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_client::manifest::OciManifest;
use spotter_registry::{MAX_IMAGE_BYTES, blobs, platform, reference};

fuzz_target!(|bytes: &[u8]| {
    match serde_json::from_slice::<OciManifest>(bytes) {
        Ok(OciManifest::Image(manifest)) => {
            let Ok(total) = blobs::check(&manifest.layers) else { return };
            let sizes = manifest.layers.iter().map(|layer| i128::from(layer.size));
            assert!(sizes.clone().all(|size| size >= 0));
            assert_eq!(sizes.sum::<i128>(), i128::from(total));
            assert!(total <= MAX_IMAGE_BYTES);
        }
        Ok(OciManifest::ImageIndex(index)) => {
            let Some(entry) = platform::choose(&index.manifests) else { return };
            let whole = reference("localhost:5000/app:1").expect("a reference");
            let one = whole.clone_with_digest(entry.digest.clone());
            assert_eq!(one.digest(), Some(entry.digest.as_str()));
            let _shown = one.to_string();
        }
        Err(_) => {}
    }
});
