//! `[[variables_provider]]` of the runtime configuration file: where the values of variables come from
//! (<https://spinframework.dev/dynamic-configuration#application-variables-runtime-configuration>).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// One source of values. It has no `Debug`, so that no secret is printed.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum VariablesProvider {
    /// The environment of this process, and a file of `NAME=VALUE` lines.
    Env { prefix: Option<String>, dotenv_path: Option<PathBuf> },
    /// The file itself.
    Static { values: BTreeMap<String, String> },
    /// A server of HashiCorp Vault or OpenBao, with the KV secrets engine, version 2.
    #[serde(alias = "open_bao")]
    Vault { url: String, token: String, mount: String, prefix: Option<String> },
}
