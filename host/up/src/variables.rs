//! `--variable`: values for an application's variables, on the command line or in files, as `spin up` takes them.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};

/// How flags that name a file are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilePolicy {
    Read,
    /// A pod's flags are read on its node, where the file would be the node's.
    Refused,
}

/// The values that flags give: `NAME=VALUE`, `NAME=@FILE`, `@FILE.json` or `@FILE.toml`. If a name has several values,
/// the last one counts.
///
/// # Errors
/// If a flag has none of these forms, or a file cannot be read. The error names it.
pub(crate) fn read(
    flags: &[String],
    files: FilePolicy,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for flag in flags {
        let given = VariableFlag::parse(flag)?;
        ensure!(
            files == FilePolicy::Read || matches!(given, VariableFlag::Text(..)),
            "--variable {flag:?} names a file, which is not read in a pod; give the value, or set \
             SPIN_VARIABLE_NAME in its environment"
        );
        values.extend(given.values()?);
    }
    Ok(values)
}

/// One flag.
enum VariableFlag<'f> {
    Text(&'f str, &'f str),
    /// The value is the content of this file.
    Content(&'f str, &'f str),
    /// The files' keys are the variables' names.
    Json(&'f str),
    Toml(&'f str),
}

impl<'f> VariableFlag<'f> {
    fn parse(flag: &'f str) -> anyhow::Result<Self> {
        if let Some(path) = flag.strip_prefix('@') {
            return match path.rsplit_once('.') {
                Some((_, "json")) => Ok(Self::Json(path)),
                Some((_, "toml")) => Ok(Self::Toml(path)),
                _ => bail!(
                    "--variable {flag:?}: a file of several values must end in .json or .toml"
                ),
            };
        }
        let (name, value) = flag.split_once('=').with_context(|| {
            format!(
                "--variable {flag:?} is not of the form NAME=VALUE, NAME=@FILE, @FILE.json or @FILE.toml"
            )
        })?;
        Ok(match value.strip_prefix('@') {
            Some(path) => Self::Content(name, path),
            None => Self::Text(name, value),
        })
    }

    fn values(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let no_strings = |path: &str| format!("{path} is not a table of strings");
        Ok(match *self {
            Self::Text(name, value) => [(name.to_owned(), value.to_owned())].into(),
            Self::Content(name, path) => [(name.to_owned(), content(path)?)].into(),
            Self::Json(path) => {
                serde_json::from_str(&content(path)?).with_context(|| no_strings(path))?
            }
            Self::Toml(path) => {
                toml::from_str(&content(path)?).with_context(|| no_strings(path))?
            }
        })
    }
}

fn content(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("--variable: cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::{FilePolicy, read};

    #[test]
    fn no_file_is_read_for_a_pod() {
        let file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
        std::fs::write(file.path(), "{}").unwrap();
        for prefix in ["name=@", "@"] {
            let flag = [format!("{prefix}{}", file.path().display())];
            assert!(read(&flag, FilePolicy::Read).is_ok());
            let refused = read(&flag, FilePolicy::Refused).unwrap_err().to_string();
            assert!(refused.contains("not read in a pod"), "{refused}");
        }
        assert_eq!(read(&["a=b".to_owned()], FilePolicy::Refused).unwrap()["a"], "b");
    }
}
