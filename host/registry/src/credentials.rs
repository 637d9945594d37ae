//! Credentials for registries: those of `spotter login`, or else Docker's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use docker_credential::DockerCredential;
use oci_client::secrets::RegistryAuth;
use serde::{Deserialize, Serialize};

use spotter_cache::write_atomically;

/// The file in which `spotter login` stores credentials, readable by its owner only.
#[derive(Default, Deserialize, Serialize)]
struct Logins {
    registries: BTreeMap<String, Login>,
}

#[derive(Deserialize, Serialize)]
struct Login {
    user: String,
    password: String,
}

/// The credentials for a registry; anonymous if there are none.
///
/// # Errors
/// If the file of logins exists but cannot be read, or Docker's credentials are of an unsupported kind.
pub fn find(registry: &str) -> anyhow::Result<RegistryAuth> {
    let mut logins = read(&path()?)?;
    if let Some(Login { user, password }) = logins.registries.remove(lookup_key(registry)) {
        return Ok(RegistryAuth::Basic(user, password));
    }
    Ok(match docker_credential::get_credential(registry) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            RegistryAuth::Basic(user, password)
        }
        Ok(DockerCredential::IdentityToken(_)) => bail!(
            "Docker has an identity token for {registry}, which is not supported: log in with \
             `spotter login {registry} --username NAME`"
        ),
        _ => RegistryAuth::Anonymous,
    })
}

/// Stores credentials, and returns the path of their file.
///
/// # Errors
/// If the file cannot be read or written.
pub fn store(registry: &str, user: &str, password: &str) -> anyhow::Result<PathBuf> {
    let path = path()?;
    let mut logins = read(&path)?;
    let login = Login { user: user.to_owned(), password: password.to_owned() };
    logins.registries.insert(lookup_key(registry).to_owned(), login);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    write_atomically(&path, &serde_json::to_vec_pretty(&logins)?)?;
    Ok(path)
}

fn read(path: &Path) -> anyhow::Result<Logins> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} was not written by `spotter login`; remove it, and log in again",
                path.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Logins::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Docker Hub has two names.
fn lookup_key(registry: &str) -> &str {
    if registry == "docker.io" { "index.docker.io" } else { registry }
}

fn path() -> anyhow::Result<PathBuf> {
    let folder = dirs::config_dir().context("there is no configuration folder: set HOME")?;
    Ok(folder.join("spotter/logins.json"))
}
