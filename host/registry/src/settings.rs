//! The settings of `tool.spotter` that an image keeps, in its components' metadata, which Spin ignores.

use serde_json::{Map, Value};

use spotter_app::component_manifest::SpotterTool;

/// What precedes a setting's name in the metadata.
const PREFIX: &str = "spotter_";

const NAMES: [&str; 2] = ["page", "cross_origin"];

/// The metadata of a component's settings, which are templates.
pub(crate) fn locked(tool: SpotterTool) -> Map<String, Value> {
    let values = NAMES.into_iter().zip([tool.page, tool.cross_origin]);
    values.filter_map(|(name, value)| Some((format!("{PREFIX}{name}"), value?.into()))).collect()
}

/// The settings in a component's metadata.
pub(crate) fn of(metadata: &Map<String, Value>) -> Map<String, Value> {
    let of =
        |name: &str| Some((name.to_owned(), metadata.get(&format!("{PREFIX}{name}"))?.clone()));
    NAMES.into_iter().filter_map(of).collect()
}
