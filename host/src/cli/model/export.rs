//! Makes a model's folder from an ONNX file: a guessed `model.toml`, and labels from the file's metadata.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};

use crate::onnx::{Network, guess};

/// Writes `model.onnx`, `model.toml` and `labels.txt` into a folder.
///
/// # Errors
/// If the file is not an ONNX file, its head cannot be guessed, or there are no labels.
pub(super) fn unpack(network: &Path, labels: Option<Vec<u8>>, folder: &Path) -> anyhow::Result<()> {
    let path = network.display();
    let bytes = std::fs::read(network).with_context(|| format!("cannot read {path}"))?;
    let read = Network::read(&bytes).with_context(|| path.to_string())?;
    let guess = guess::head(&read).with_context(|| {
        format!("the outputs of {path} match no head that `spotter` knows; docs/models.md lists the heads")
    })?;
    let name = network.file_stem().unwrap_or_default().to_string_lossy();
    let manifest = guess::manifest(&read, &name, &guess).with_context(|| {
        format!("{path} does not take a picture: its first input has no axis of three channels")
    })?;
    let labels = match (labels, named_classes(&read.metadata)) {
        (Some(labels), _) => labels,
        (None, Some(names)) => names.into_bytes(),
        (None, None) => match guess.labels {
            Some(count) => bail!(
                "{path} does not name its {count} classes; name a file with one on each line with --labels"
            ),
            None => bail!(
                "{path} does not name its classes; name a file with one on each line with --labels"
            ),
        },
    };
    for (file, content) in
        [("model.onnx", bytes), ("model.toml", manifest.into_bytes()), ("labels.txt", labels)]
    {
        std::fs::write(folder.join(file), content)
            .with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}

/// The classes in `names`, which Ultralytics' exports have: a Python dictionary, `{0: 'person', 1: 'bicycle'}`.
fn named_classes(metadata: &BTreeMap<String, String>) -> Option<String> {
    let mut rest = metadata.get("names")?.trim().strip_prefix('{')?;
    let mut names = String::new();
    for index in 0_usize.. {
        let (key, after) = rest.split_once(':')?;
        if key.trim().parse() != Ok(index) {
            return None;
        }
        // Python quotes with `"` where the name has an apostrophe.
        let after = after.trim_start();
        let quote = after.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let (name, after) = after[1..].split_once(quote)?;
        names.push_str(name);
        names.push('\n');
        rest = match after.trim_start().strip_prefix(',') {
            Some(after) => after,
            None => break,
        };
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::named_classes;

    fn classes_in(names: &str) -> Option<String> {
        named_classes(&[("names".to_owned(), names.to_owned())].into())
    }

    #[test]
    fn ultralytics_names_are_read() {
        let names = classes_in("{0: 'person', 1: \"driver's cab\", 2: 'car, parked'}");
        assert_eq!(names.as_deref(), Some("person\ndriver's cab\ncar, parked\n"));
        for other in ["", "[]", "{1: 'a'}", "{0: 'a", "{0: a}", "{}"] {
            assert_eq!(classes_in(other), None, "{other}");
        }
    }
}
