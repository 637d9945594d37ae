//! The settings of `tool.spotter` that an image keeps in its components' metadata, where Spin ignores them.

use serde_json::{Map, Value};

use spotter_app::component_manifest::SpotterTool;

/// The prefix of a setting's name in the metadata.
const METADATA_PREFIX: &str = "spotter_";

const SETTING_NAMES: [&str; 2] = ["page", "cross_origin"];

/// The metadata of a component's settings, which are templates.
pub(crate) fn to_metadata(tool: SpotterTool) -> Map<String, Value> {
    let values = SETTING_NAMES.into_iter().zip([tool.page, tool.cross_origin]);
    values
        .filter_map(|(name, value)| Some((format!("{METADATA_PREFIX}{name}"), value?.into())))
        .collect()
}

/// The settings in a component's metadata.
pub(crate) fn from_metadata(metadata: &Map<String, Value>) -> Map<String, Value> {
    let setting = |name: &str| {
        Some((name.to_owned(), metadata.get(&format!("{METADATA_PREFIX}{name}"))?.clone()))
    };
    SETTING_NAMES.into_iter().filter_map(setting).collect()
}
