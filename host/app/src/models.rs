//! The folders of the models that a component may use through `wasi:nn`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::component_manifest::SpotterTool;

/// Folders of models by name.
pub type ModelFolders = BTreeMap<String, PathBuf>;

/// The folder of each granted model. The command line's come first, then `tool.spotter.models`, then
/// `tool.spotter.model` if its folder has the model's name. `None` if there is no folder: the component may not need
/// it.
pub(super) fn resolve(
    granted: &[String],
    named: &ModelFolders,
    tool: &SpotterTool,
    root: &Path,
) -> BTreeMap<String, Option<PathBuf>> {
    let folder = |name: &String| {
        let baked = tool.model.iter().find(|folder| kebab_case(folder).as_ref() == Some(name));
        let in_manifest = tool.models.get(name).or(baked).map(|folder| root.join(folder));
        named.get(name).cloned().or(in_manifest)
    };
    granted.iter().map(|name| (name.clone(), folder(name))).collect()
}

/// A folder's name in the spelling that Spin asks of `ai_models`.
fn kebab_case(folder: &Path) -> Option<String> {
    Some(folder.file_name()?.to_str()?.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{ModelFolders, resolve};
    use crate::component_manifest::SpotterTool;

    #[test]
    fn the_nearest_folder_of_a_granted_name_is_used() {
        let tool = SpotterTool {
            model: Some("models/ssd_v2".into()),
            models: ModelFolders::from([("yolo".to_owned(), "yolo".into())]),
            ..SpotterTool::default()
        };
        let named = ModelFolders::from([("yolo".to_owned(), "/elsewhere".into())]);
        let granted = ["ssd-v2", "yolo", "other"].map(str::to_owned);
        let root = Path::new("/app");
        let folder = |named: &ModelFolders, name: &str| {
            resolve(&granted, named, &tool, root).remove(name).unwrap()
        };
        let none = ModelFolders::new();
        assert_eq!(folder(&none, "ssd-v2"), Some(PathBuf::from("/app/models/ssd_v2")));
        assert_eq!(folder(&none, "yolo"), Some(PathBuf::from("/app/yolo")));
        assert_eq!(folder(&named, "yolo"), Some(PathBuf::from("/elsewhere")));
        assert_eq!(folder(&none, "other"), None);
    }
}
