//! Credentials for registries: those of `spotter login`, or else Docker's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;
use serde::{Deserialize, Serialize};

use spotter_cache::write_atomically;
use spotter_progress::print_message;

/// The name of Docker Hub's registry.
const DOCKER_HUB: &str = "index.docker.io";

/// The name under which Docker keeps the login for Docker Hub in credential stores
/// (<https://docs.docker.com/reference/cli/docker/login/>).
const DOCKER_HUB_IN_STORES: &str = "https://index.docker.io/v1/";

/// What a credential helper prints if it has no login for a registry
/// (<https://github.com/docker/docker-credential-helpers/blob/master/credentials/error.go>).
const NOT_IN_STORE: &str = "credentials not found";

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
    dockers(registry, docker_credential::get_credential)
}

/// Docker's credentials for a registry.
fn dockers(
    registry: &str,
    get: impl Fn(&str) -> Result<DockerCredential, CredentialRetrievalError>,
) -> anyhow::Result<RegistryAuth> {
    let mut found = get(registry);
    if found.is_err() && lookup_key(registry) == DOCKER_HUB {
        found = get(DOCKER_HUB_IN_STORES);
    }
    match found {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(RegistryAuth::Basic(user, password))
        }
        Ok(DockerCredential::IdentityToken(_)) => bail!(
            "Docker has an identity token for {registry}, which is not supported: log in with \
             `spotter login {registry} --username NAME`"
        ),
        Err(CredentialRetrievalError::HelperFailure { helper, stdout, stderr })
            if !stdout.contains(NOT_IN_STORE) && !stderr.contains(NOT_IN_STORE) =>
        {
            let said = if stderr.trim().is_empty() { stdout } else { stderr };
            print_message(&format!(
                "warning: continuing without a login for {registry}, because Docker's credential helper `{helper}` failed: {}; \
                 fix it, or log in with `spotter login {registry} --username NAME`",
                said.trim()
            ));
            Ok(RegistryAuth::Anonymous)
        }
        Err(_) => Ok(RegistryAuth::Anonymous),
    }
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
    if registry == "docker.io" { DOCKER_HUB } else { registry }
}

fn path() -> anyhow::Result<PathBuf> {
    let folder = dirs::config_dir().context("there is no configuration folder: set HOME")?;
    Ok(folder.join("spotter/logins.json"))
}

#[cfg(test)]
mod tests {
    use docker_credential::{CredentialRetrievalError, DockerCredential};
    use oci_client::secrets::RegistryAuth;

    use super::dockers;

    fn failure(stdout: &str) -> CredentialRetrievalError {
        CredentialRetrievalError::HelperFailure {
            helper: "docker-credential-pass".to_owned(),
            stdout: stdout.to_owned(),
            stderr: String::new(),
        }
    }

    #[test]
    fn dockers_login_for_docker_hub_is_found_in_a_store() {
        let store = |name: &str| match name {
            "https://index.docker.io/v1/" => {
                Ok(DockerCredential::UsernamePassword("me".to_owned(), "secret".to_owned()))
            }
            _ => Err(failure("credentials not found in native keychain")),
        };
        for registry in ["docker.io", "index.docker.io"] {
            let RegistryAuth::Basic(user, _) = dockers(registry, store).unwrap() else { panic!() };
            assert_eq!(user, "me");
        }
        assert!(matches!(dockers("ghcr.io", store).unwrap(), RegistryAuth::Anonymous));
        let fails = |_: &str| Err(failure("gpg: decryption failed"));
        assert!(matches!(dockers("docker.io", fails).unwrap(), RegistryAuth::Anonymous));
    }
}
