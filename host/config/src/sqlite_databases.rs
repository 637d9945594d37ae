//! `[sqlite_database.NAME]` of the runtime configuration file: which file a SQLite database is
//! (<https://spinframework.dev/dynamic-configuration#sqlite-storage-runtime-configuration>).

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A database in a file of the user's choice.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawSqliteDatabase")]
pub struct SqliteDatabase {
    pub path: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSqliteDatabase {
    r#type: Option<String>,
    path: Option<PathBuf>,
    /// libSQL's, for a message that says so.
    #[serde(rename = "url")]
    _url: Option<IgnoredAny>,
    #[serde(rename = "token")]
    _token: Option<IgnoredAny>,
}

impl TryFrom<RawSqliteDatabase> for SqliteDatabase {
    type Error = anyhow::Error;

    fn try_from(raw: RawSqliteDatabase) -> anyhow::Result<Self> {
        match raw.r#type.as_deref() {
            Some("spin") => {}
            Some(other) => bail!(
                "the type {other:?} is not supported: use \"spin\" and the `path` of a file on this machine"
            ),
            None => bail!("there is no `type`: write `type = \"spin\"` and the `path` of a file"),
        }
        let path =
            raw.path.filter(|path| !path.as_os_str().is_empty() && path.as_os_str() != ":memory:");
        let path = path.context(
            "there is no `path`: write `path = \"FILE\"`, or remove the table for a file below `state_dir`; databases in \
             memory are not supported",
        )?;
        Ok(Self { path })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::runtime_config::RuntimeConfig;

    fn parse(text: &str) -> anyhow::Result<RuntimeConfig> {
        RuntimeConfig::parse(text, Path::new("config.toml"))
    }

    #[test]
    fn a_database_is_a_file() {
        let config =
            parse("[sqlite_database.default]\ntype = \"spin\"\npath = \"data/a.db\"").unwrap();
        assert_eq!(config.sqlite_database["default"].path, Path::new("data/a.db"));
    }

    #[test]
    fn what_is_wrong_with_a_database_is_said_without_its_token() {
        for (table, reason) in [
            (
                "type = \"libsql\"\nurl = \"http://h\"\ntoken = \"s3cr3t\"",
                "the type \"libsql\" is not",
            ),
            ("path = \"a.db\"", "there is no `type`"),
            ("type = \"spin\"", "there is no `path`"),
            ("type = \"spin\"\npath = \":memory:\"", "databases in memory are not supported"),
            ("type = \"spin\"\npaht = \"a.db\"", "did you mean `path`?"),
        ] {
            let error = parse(&format!("[sqlite_database.a]\n{table}")).err().unwrap();
            let said = format!("{error:#}");
            assert!(said.contains(reason) && !said.contains("s3cr3t"), "{said}");
        }
    }
}
