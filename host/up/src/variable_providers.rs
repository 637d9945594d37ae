//! Values of variables from the providers that the runtime configuration file names. They are queried once, before the
//! application starts.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::{Client, Response, StatusCode, redirect};
use serde_json::Value;
use spotter_config::providers::VariablesProvider;

/// How long Vault may take for one value.
const VAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest reply that Vault may send, in bytes.
const MAX_REPLY_BYTES: usize = 1 << 20;
/// The prefix of a variable's name in the environment, without the underscore.
const DEFAULT_PREFIX: &str = "SPIN_VARIABLE";

/// The values that the providers have for the variables `names`. The first provider that has a value wins.
///
/// # Errors
/// If a provider cannot be read. No error holds a value or a token.
pub(crate) async fn values(
    providers: &[VariablesProvider],
    names: &[&str],
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for provider in providers {
        let missing: Vec<&str> =
            names.iter().copied().filter(|name| !values.contains_key(*name)).collect();
        values.extend(provider_values(provider, &missing).await?);
    }
    Ok(values)
}

async fn provider_values(
    provider: &VariablesProvider,
    names: &[&str],
) -> anyhow::Result<BTreeMap<String, String>> {
    match provider {
        VariablesProvider::Env { prefix, dotenv_path } => {
            let file = dotenv_path.as_deref().map(read_dotenv).transpose()?.unwrap_or_default();
            let prefix = prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
            let value = |name: &str| {
                let key = format!("{prefix}_{}", name.to_uppercase());
                std::env::var(&key).ok().or_else(|| file.get(&key).cloned())
            };
            Ok(names.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?))).collect())
        }
        VariablesProvider::Static { values } => {
            let own = values.iter().filter(|(name, _)| names.contains(&name.as_str()));
            Ok(own.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        VariablesProvider::Vault { url, token, mount, prefix } => {
            let client = Client::builder()
                .timeout(VAULT_TIMEOUT)
                // The token is for this server only.
                .redirect(redirect::Policy::none())
                .build()
                .context("cannot start the HTTP client")?;
            let folder = match prefix.as_deref() {
                Some(prefix) => format!("{}/", prefix.trim_matches('/')),
                None => String::new(),
            };
            let (server, mount) = (url.trim_end_matches('/'), mount.trim_matches('/'));
            let mut values = BTreeMap::new();
            for name in names {
                let path = format!("v1/{mount}/data/{folder}{name}");
                let url = format!("{server}/{path}");
                let sent = client.get(url).header("x-vault-token", token).send().await;
                let response =
                    sent.with_context(|| format!("cannot reach Vault for the variable `{name}`"))?;
                let value = secret_value(response).await.with_context(|| {
                    format!("cannot read the variable `{name}` from Vault at {path}")
                })?;
                values.extend(value.map(|value| ((*name).to_owned(), value)));
            }
            Ok(values)
        }
    }
}

/// The value in Vault's reply; `None` if there is no such secret.
async fn secret_value(mut response: Response) -> anyhow::Result<Option<String>> {
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    ensure!(
        response.status() == StatusCode::OK,
        "it replied {}; check the provider's `token`, `mount` and `prefix`",
        response.status()
    );
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        ensure!(body.len() <= MAX_REPLY_BYTES, "its reply has more than {MAX_REPLY_BYTES} bytes");
    }
    let reply: Value = serde_json::from_slice(&body).context("its reply is not JSON")?;
    match &reply["data"]["data"]["value"] {
        Value::String(value) => Ok(Some(value.clone())),
        _ => bail!(
            "its reply has no text in `data.data.value`, as secrets of the KV engine of version 2 have"
        ),
    }
}

/// The lines `NAME=VALUE` of a file.
fn read_dotenv(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the `dotenv_path` {}", path.display()))?;
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.map(|(number, line)| {
        let (name, value) =
            line.strip_prefix("export ").unwrap_or(line).split_once('=').with_context(|| {
                format!("line {} of {} is not of the form NAME=VALUE", number + 1, path.display())
            })?;
        Ok((name.trim().to_owned(), unquoted(value.trim()).to_owned()))
    });
    pairs.collect()
}

fn unquoted(value: &str) -> &str {
    let inside = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}
