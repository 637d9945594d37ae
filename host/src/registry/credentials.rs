//! Who we are to a registry: what `spotter login` kept, or else what Docker has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use docker_credential::DockerCredential;
use oci_client::secrets::RegistryAuth;
use serde::{Deserialize, Serialize};

use crate::runtime::cache::write_whole;

/// The file of logins, readable by its owner only.
#[derive(Default, Deserialize, Serialize)]
struct Logins {
    registries: BTreeMap<String, Login>,
}

#[derive(Deserialize, Serialize)]
struct Login {
    user: String,
    password: String,
}

/// What to show a registry; nothing where nothing is known.
///
/// # Errors
/// Where the file of logins is there and cannot be read; a login of Docker's that is of no use here.
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
            "Docker keeps an identity token for {registry}, which is of no use here: log in with \
             `spotter login {registry}`"
        ),
        _ => RegistryAuth::Anonymous,
    })
}

/// Keeps a login; gives the file it is in.
///
/// # Errors
/// Where the file cannot be read or written.
pub fn store(registry: &str, user: &str, password: &str) -> anyhow::Result<PathBuf> {
    let path = path()?;
    let mut logins = read(&path)?;
    let login = Login { user: user.to_owned(), password: password.to_owned() };
    logins.registries.insert(lookup_key(registry).to_owned(), login);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    write_whole(&path, &serde_json::to_vec_pretty(&logins)?)?;
    Ok(path)
}

fn read(path: &Path) -> anyhow::Result<Logins> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not what `spotter login` writes", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Logins::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Docker's registry goes by two names.
fn lookup_key(registry: &str) -> &str {
    if registry == "docker.io" { "index.docker.io" } else { registry }
}

fn path() -> anyhow::Result<PathBuf> {
    let folder = dirs::config_dir().context("there is no folder for configuration: set HOME")?;
    Ok(folder.join("spotter/logins.json"))
}
