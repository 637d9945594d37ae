//! `[key_value_store.NAME]` of the runtime configuration file: where a key-value store is kept
//! (<https://spinframework.dev/dynamic-configuration#key-value-store-runtime-configuration>).

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::redis_server::RedisServer;
use super::suggest;

/// Where a store is kept.
#[derive(Debug, PartialEq, Eq)]
pub enum KeyValueStore {
    /// Below the folder of the application's state, like a store that the file does not name.
    File,
    Redis(RedisServer),
}

/// The stores that the file names.
#[derive(Debug, Default)]
pub struct KeyValueStores(BTreeMap<String, KeyValueStore>);

impl KeyValueStores {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Those that are in Redis, by name.
    pub fn into_redis(self) -> BTreeMap<String, RedisServer> {
        let stores = self.0.into_iter();
        let in_redis = stores.filter_map(|(name, store)| match store {
            KeyValueStore::Redis(server) => Some((name, server)),
            KeyValueStore::File => None,
        });
        in_redis.collect()
    }
}

impl<'de> Deserialize<'de> for KeyValueStores {
    /// Reads any value, and checks it here: serde's own errors would repeat a URL, which may have a password.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stores = parse(Value::deserialize(deserializer)?);
        stores.map(Self).map_err(|error| D::Error::custom(format!("{error:#}")))
    }
}

fn parse(stores: Value) -> anyhow::Result<BTreeMap<String, KeyValueStore>> {
    let Value::Table(stores) = stores else {
        bail!("`key_value_store` is not a table: write [key_value_store.default]");
    };
    let stores = stores.into_iter().map(|(name, store)| {
        let Value::Table(store) = store else {
            bail!(
                "`key_value_store.{name}` is not a table: write [key_value_store.NAME] with the store's name, such \
                 as `default`"
            );
        };
        ensure!(
            !name.is_empty(),
            "[key_value_store.\"\"] has no name: use a name from a component's `key_value_stores`"
        );
        let store = parse_store(store).with_context(|| format!("[key_value_store.{name}]"))?;
        Ok((name, store))
    });
    stores.collect()
}

fn parse_store(mut store: Table) -> anyhow::Result<KeyValueStore> {
    let kind = text(&mut store, "type")?.context(
        "there is no `type`: write `type = \"redis\"` and a `url`, or `type = \"spin\"` for a file below `state_dir`",
    )?;
    match kind.as_str() {
        "spin" => {
            ensure!(
                store.remove("path").is_none(),
                "`path` is not supported: all stores are in one file below `state_dir`, which is not in Spin's \
                 format; remove `path`"
            );
            finish(&store, &["type"])?;
            Ok(KeyValueStore::File)
        }
        "redis" => {
            let url = text(&mut store, "url")?.context(
                "there is no `url`: write `url = \"redis://USER:PASSWORD@HOST:PORT/DATABASE\"`",
            )?;
            finish(&store, &["type", "url"])?;
            Ok(KeyValueStore::Redis(RedisServer::parse(&url)?))
        }
        _ => bail!(
            "the type {kind:?} is not supported: use \"redis\", or \"spin\" for a file below `state_dir`"
        ),
    }
}

fn text(store: &mut Table, key: &str) -> anyhow::Result<Option<String>> {
    match store.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => bail!("`{key}` must be a string, not {}", other.type_str()),
    }
}

/// Makes sure that no key remains.
fn finish(store: &Table, known: &[&str]) -> anyhow::Result<()> {
    let Some(unknown) = store.keys().next() else { return Ok(()) };
    match suggest::nearest(unknown, known.iter().copied()) {
        Some(near) => bail!("unknown key `{unknown}`; did you mean `{near}`?"),
        None => bail!("unknown key `{unknown}`: this type of store has {}", known.join(" and ")),
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
    fn a_store_is_in_redis_or_in_a_file() {
        let config = parse(
            "[key_value_store.default]\ntype = \"redis\"\nurl = \"redis://cache:6380/3\"\n\
             [key_value_store.\"local one\"]\ntype = \"spin\"\n",
        );
        let stores = config.unwrap().key_value_store;
        assert_eq!(stores.names().collect::<Vec<_>>(), ["default", "local one"]);
        let in_redis = stores.into_redis();
        assert_eq!(in_redis.keys().collect::<Vec<_>>(), ["default"]);
        assert_eq!(in_redis["default"].to_string(), "cache:6380/3");
    }

    #[test]
    fn what_is_wrong_with_a_store_is_said_without_its_url() {
        for (text, reason) in [
            ("key_value_store = \"redis://u:s3cr3t@h\"", "`key_value_store` is not a table"),
            (
                "[key_value_store]\ntype = \"redis\"\nurl = \"redis://u:s3cr3t@h\"",
                "`key_value_store.type` is not a table: write [key_value_store.NAME]",
            ),
            ("[key_value_store.\"\"]\ntype = \"spin\"", "has no name"),
            ("[key_value_store.a]\nurl = \"redis://u:s3cr3t@h\"", "there is no `type`"),
            ("[key_value_store.a]\ntype = 7", "`type` must be a string, not integer"),
            (
                "[key_value_store.a]\ntype = \"azure_cosmos\"\nkey = \"s3cr3t\"",
                "[key_value_store.a]: the type \"azure_cosmos\" is not supported: use \"redis\"",
            ),
            ("[key_value_store.a]\ntype = \"spin\"\npath = \"a.db\"", "`path` is not supported"),
            ("[key_value_store.a]\ntype = \"spin\"\nurl = \"u\"", "unknown key `url`: this type"),
            ("[key_value_store.a]\ntype = \"redis\"", "there is no `url`"),
            ("[key_value_store.a]\ntype = \"redis\"\nurl = [\"s3cr3t\"]", "`url` must be a string"),
            (
                "key_value_store.a = { type = \"redis\", url = \"redis://s3cr3t@h\", urls = 1 }",
                "line 1: [key_value_store.a]: unknown key `urls`; did you mean `url`?",
            ),
            (
                "[key_value_store.a]\ntype = \"redis\"\nurl = \"rediss://u:s3cr3t@h\"",
                "[key_value_store.a]: `url`: TLS (rediss) is not supported",
            ),
            // What is not TOML is not repeated either.
            ("[key_value_store.a]\ntype = \"redis\"\nurl = \"redis://s3cr3t", "line 3: "),
        ] {
            let said = format!("{:#}", parse(text).err().unwrap());
            assert!(said.contains(reason), "{said} lacks {reason}");
            assert!(
                said.starts_with("in config.toml: line ") && !said.contains("s3cr3t"),
                "{said}"
            );
        }
    }
}
