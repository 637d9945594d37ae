//! A container's configuration: its arguments and its environment, resolved once, by the shim. The pod's process gets
//! the result and reads no flag from its environment again, so it serves what the shim has checked and compiled.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::anyhow;
use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser};
use serde::{Deserialize, Serialize};

use crate::serve::{FileInContainer, Serve};
use spotter_app::App;

/// Defaults in a pod, unless its arguments or environment set something else.
const POD_FLAG_DEFAULTS: [(&str, &str); 5] = [
    ("listen", "[::]:80"),
    ("admin", "[::]:3001"),
    ("log-format", "json"),
    // Less than the 30 s after which Kubernetes kills the pod.
    ("grace", "25s"),
    ("state-dir", "/var/lib/spotter"),
];

/// A container's command line, without the program.
#[derive(Parser)]
#[command(name = "spotter up", no_binary_name = true)]
struct PodArguments {
    #[command(flatten)]
    up: Serve,
}

/// The flags that a container sets by its arguments and its environment, and the defaults of a pod.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PodConfiguration {
    flags: Vec<String>,
}

impl PodConfiguration {
    /// Resolves a container's arguments, without the program, and its environment.
    ///
    /// # Errors
    /// If the arguments cannot be read at all. [`PodConfiguration::check`] reports whatever else is wrong with
    /// them.
    pub fn resolve(
        arguments: &[String],
        environment: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let command = PodArguments::command();
        let given = without_environment(command.clone())
            .ignore_errors(true)
            .try_get_matches_from(arguments)
            .map_err(|error| anyhow!("{error}"))?;
        let is_given = |flag: &&Arg| {
            given.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine)
        };
        let mut flags: Vec<String> = command
            .get_arguments()
            .filter(|flag| !is_given(flag))
            .filter_map(|flag| unless_given(flag, environment))
            .collect();
        flags.extend_from_slice(arguments);
        Ok(Self { flags })
    }

    /// Loads the application at `manifest` as the pod will, and checks the rest of the configuration. `read` finds the
    /// container's files.
    ///
    /// # Errors
    /// If anything is invalid.
    pub fn check(
        &self,
        manifest: &Path,
        environment: &BTreeMap<String, String>,
        read: impl FnOnce(&Path) -> anyhow::Result<FileInContainer>,
    ) -> anyhow::Result<App> {
        let environment = environment.iter().map(|(name, value)| (name.clone(), value.clone()));
        self.flags(manifest)?.check_for(environment, read)
    }

    /// The address of the admin listener, if there is one.
    ///
    /// # Errors
    /// If the flags are invalid.
    pub fn admin(&self) -> anyhow::Result<Option<SocketAddr>> {
        Ok(self.flags(Path::new("/"))?.admin)
    }

    /// The flags, with the application at `manifest`.
    pub(crate) fn flags(&self, manifest: &Path) -> anyhow::Result<Serve> {
        let from = ["--from".to_owned(), manifest.display().to_string()];
        let line = from.iter().chain(&self.flags);
        let parsed = without_environment(PodArguments::command())
            .try_get_matches_from(line)
            .and_then(|matches| PodArguments::from_arg_matches(&matches));
        Ok(parsed.map_err(|error| anyhow!("{error}"))?.up)
    }
}

/// The command with flags that do not read this process's environment.
fn without_environment(command: Command) -> Command {
    command.mut_args(|flag| flag.env(Resettable::Reset))
}

/// A flag with the value that the container's environment or a pod's defaults have for it.
fn unless_given(flag: &Arg, environment: &BTreeMap<String, String>) -> Option<String> {
    let name = flag.get_long()?;
    let variable = flag.get_env().and_then(|variable| variable.to_str());
    let set = variable.and_then(|variable| environment.get(variable)).map(String::as_str);
    let default = POD_FLAG_DEFAULTS.iter().find(|(flag, _)| *flag == name).map(|(_, value)| *value);
    match (set.or(default)?, flag.get_action().takes_values()) {
        ("true", false) => Some(format!("--{name}")),
        ("false", false) => None,
        (value, _) => Some(format!("--{name}={value}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{FileInContainer, POD_FLAG_DEFAULTS, PodConfiguration};

    fn resolve(arguments: &[&str], environment: &[(&str, &str)]) -> PodConfiguration {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let environment: BTreeMap<String, String> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        PodConfiguration::resolve(&arguments, &environment).unwrap()
    }

    #[test]
    fn a_pods_own_arguments_go_before_its_environment_and_that_before_the_defaults() {
        let usual = resolve(&[], &[]).flags;
        for (flag, value) in POD_FLAG_DEFAULTS {
            assert!(usual.contains(&format!("--{flag}={value}")), "{usual:?}");
        }
        let environment =
            [("SPOTTER_ADMIN", "0.0.0.0:4000"), ("SPIN_PROFILE", "fast"), ("SPOTTER_GRACE", "1s")];
        let own = resolve(&["--listen=0.0.0.0:8080", "--profile", "small"], &environment).flags;
        let flags = |name: &str| {
            let flags = own.iter().filter(|flag| flag.starts_with(name));
            flags.map(String::as_str).collect::<Vec<_>>()
        };
        assert_eq!(flags("--listen"), ["--listen=0.0.0.0:8080"]);
        assert_eq!(flags("--profile"), ["--profile"]);
        assert_eq!(flags("--admin"), ["--admin=0.0.0.0:4000"]);
        assert_eq!(flags("--grace"), ["--grace=1s"]);
        let environment = [("SPOTTER_PROXY_PROTOCOL", "true"), ("SPOTTER_TRUSTED_PROXY", "::1")];
        assert!(resolve(&[], &environment).flags.contains(&"--proxy-protocol".to_owned()));
    }

    #[test]
    fn what_is_wrong_is_said_whether_an_argument_or_the_environment_sets_it() {
        let manifest = std::path::Path::new("/spin.toml");
        for (arguments, environment, reason) in [
            (&["--instances", "none"][..], &[][..], "invalid value 'none' for '--instances"),
            (&[], &[("SPOTTER_INSTANCES", "none")], "invalid value 'none' for '--instances"),
            (&[], &[("SPOTTER_PROXY_PROTOCOL", "true")], "--trusted-proxy"),
            (&["--from", "/etc"], &[], "cannot be used multiple times"),
            (&["--unknown"], &[], "--unknown"),
        ] {
            let configuration = resolve(arguments, environment);
            let refused = configuration.flags(manifest).err().unwrap().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn an_image_whose_component_would_be_downloaded_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        let manifest = format!(
            "spin_manifest_version = 2\n[application]\nname = \"a\"\n[[trigger.http]]\nroute = \"/...\"\n\
             component = \"a\"\n[component.a]\nsource = {{ url = \"http://127.0.0.1:1/a\", digest = {digest:?} }}\n"
        );
        std::fs::write(folder.path().join("spin.toml"), manifest).unwrap();
        let unseen = |_: &std::path::Path| Ok(FileInContainer::Unseen);
        let checked = resolve(&[], &[]).check(folder.path(), &BTreeMap::new(), unseen);
        let refused = format!("{:#}", checked.err().unwrap());
        assert!(refused.contains("http://127.0.0.1:1/a is a URL"), "{refused}");
    }
}
