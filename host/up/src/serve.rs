//! Serves an application over HTTP, as the flags of `spotter up` say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use prometheus_client::collector::Collector;
use serde::{Deserialize, Serialize};

use crate::application::{AppArguments, pair};
use crate::component_output::OutputArguments;
use crate::log::LogFormat;
use crate::proxies::ProxyArguments;
use crate::runtime_arguments::{RuntimeArguments, RuntimeTables};
use spotter_app::App;
use spotter_app::component_manifest::Interruption;
use spotter_app::variables::MissingVariable;
use spotter_config::cgroup_memory::cgroup_limit;
use spotter_config::limits::LimitSettings;
use spotter_config::runtime_config::RuntimeConfig;
use spotter_node::metrics::BondCollector;
use spotter_progress::print;
use spotter_server::client::connection_info::Scheme;
use spotter_server::connection::listener::{self, Listener, ServeOutcome};
use spotter_server::connection::socket::{Inherited, ListenAddress, Socket};
use spotter_server::connection::tls::{self, Certificate};
use spotter_server::signals::Signals;
use spotter_server::telemetry::traces::Traces;
use spotter_server::{Server, admin};

/// A file of a container, as far as the node can see it.
pub enum FileInContainer {
    Text(String),
    /// It will be there only once the container runs.
    Unseen,
}

/// The flags of `spotter up`.
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    app: AppArguments,
    /// Where to listen: ADDRESS:PORT (port 0 selects any free port), unix:PATH, or fd:// for the socket that systemd
    /// passes
    #[arg(
        long,
        default_value = "127.0.0.1:3000",
        env = "SPIN_HTTP_LISTEN_ADDR",
        value_name = "ADDRESS"
    )]
    listen: ListenAddress,
    /// If the port is in use, try the next nine
    #[arg(long)]
    find_free_port: bool,
    /// Serve HTTPS with this certificate chain, in PEM format
    #[arg(long, env = "SPIN_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM format
    #[arg(long, env = "SPIN_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve only clients whose certificate was issued by one of the CAs in this file, in PEM format
    #[arg(long, env = "SPOTTER_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    #[command(flatten)]
    proxies: ProxyArguments,
    /// The address for /metrics, /healthz and /readyz; off by default
    #[arg(long, env = "SPOTTER_ADMIN", value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,
    /// Serve only the routes of this component; can be repeated
    #[arg(long, short, value_name = "ID")]
    component_id: Vec<String>,
    /// Set an environment variable for every component; can be repeated
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Set a value in the application's default key-value store; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    key_value: Vec<String>,
    /// Before serving, run this SQL statement, or those in a file (@FILE), on the default SQLite database; can be
    /// repeated
    #[arg(long, value_name = "STATEMENT|@FILE")]
    sqlite: Vec<String>,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
    /// The folder of the application's persistent state [default: .spotter next to the manifest]
    #[arg(long, env = "SPOTTER_STATE_DIR", value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// A TOML file with settings of the host, such as [limits] and [[variables_provider]]
    #[arg(long, env = "RUNTIME_CONFIG_FILE", value_name = "FILE")]
    runtime_config_file: Option<PathBuf>,
    /// The format of log lines on standard error; RUST_LOG sets their level, `info` by default
    #[arg(long, env = "SPOTTER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Pretty)]
    log_format: LogFormat,
    /// Send traces to this OpenTelemetry collector, such as http://127.0.0.1:4318
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
    #[command(flatten)]
    limits: LimitSettings,
}

/// A component that the shim has compiled. Its paths are those in the container.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct CompiledComponent {
    /// The component's file.
    pub source: PathBuf,
    /// The file of its compiled code.
    pub code: PathBuf,
}

/// All components of an application by id; empty if they are loaded from the cache.
pub type CompiledComponents = BTreeMap<String, CompiledComponent>;

impl Serve {
    /// Loads the application as a pod with this environment will, and checks what else can be checked before it runs.
    /// `read` finds the container's files.
    ///
    /// # Errors
    /// If the flags, the limits, the runtime configuration file or the manifest are invalid.
    pub(crate) fn check_for(
        &self,
        environment: impl Iterator<Item = (String, String)>,
        read: impl FnOnce(&Path) -> anyhow::Result<FileInContainer>,
    ) -> anyhow::Result<App> {
        let file = match &self.runtime_config_file {
            None => Some(RuntimeConfig::default()),
            Some(path) => match read(path)? {
                FileInContainer::Text(text) => Some(RuntimeConfig::parse(&text, path)?),
                FileInContainer::Unseen => None,
            },
        };
        let limits = file.as_ref().map(|file| file.limits).unwrap_or_default();
        self.limits.resolve(limits, None)?;
        for (flag, entries) in [("--env", &self.env), ("--key-value", &self.key_value)] {
            entries.iter().try_for_each(|entry| pair(flag, entry).map(drop))?;
        }
        let has_providers = file.is_none_or(|file| !file.variables_provider.is_empty());
        // A provider may have the values of variables, but it is asked when the pod runs.
        let missing =
            if has_providers { MissingVariable::Placeholder } else { MissingVariable::Error };
        let mut app = self.app.load_for(environment, &self.component_id, missing)?;
        self.output.check(&app)?;
        app.options.mounts = self.runtime.mounts();
        Ok(app)
    }

    /// Loads the application, prepares it, and serves it until a signal to stop. Signals that arrive before it serves
    /// count only if `signals` is given.
    ///
    /// # Errors
    /// If the flags or the application are invalid, `prepare` fails, or an address cannot be bound.
    pub fn run(
        self,
        compiled: &CompiledComponents,
        signals: Option<Signals>,
        prepare: impl FnOnce(&App) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let is_inherited = self.listen == ListenAddress::Inherited;
        let inherited = is_inherited.then(Inherited::take).transpose()?;
        ensure!(
            !self.find_free_port || matches!(self.listen, ListenAddress::Inet(_)),
            "--find-free-port needs an address with a port, but --listen is {}",
            self.listen
        );
        let log = self.log_format.start(self.output.filter());
        let file = RuntimeConfig::read(self.runtime_config_file.as_deref())?;
        let limits = self.limits.resolve(file.limits, cgroup_limit(Path::new("/")))?;
        let mut app = self.app.load_only(&self.component_id, &file.variables_provider)?;
        if app.components.values().any(|component| !component.models.is_empty()) {
            spotter_nn::heap::limit_arenas();
        }
        self.output.check(&app)?;
        if let Some(files) = self.output.open_files(&app, file.log_dir)? {
            log.output.write_to(files);
        }
        app.notes.iter().for_each(|note| tracing::warn!("{note}"));
        use_compiled(&mut app, compiled)?;
        add_environment(&mut app, &self.env)?;
        self.set_state_folder(&mut app, file.state_dir);
        let RuntimeConfig { key_value_store, sqlite_database, outbound_http, .. } = file;
        let tables = RuntimeTables { key_value_store, sqlite_database, outbound_http };
        app.options = self.runtime.options(&app, tables);
        prepare(&app)?;
        let traces =
            self.otlp_endpoint.as_deref().map(|to| Traces::to(to, &app.name)).transpose()?;
        let bonds = BondCollector::new(Path::new("/"));
        let collectors: Vec<Box<dyn Collector>> = vec![Box::new(bonds), Box::new(log.metric())];
        let server = Server::new(app, limits, traces, collectors)?;
        for entry in &self.sqlite {
            server.runtime().run_sql(&statements(entry)?)?;
        }
        // Guests can occupy one thread per instance. Two more serve the sockets.
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(limits.instances + 2)
            .enable_all()
            .build()
            .context("cannot start the server's threads")?;
        threads.block_on(self.set_key_values(&server))?;
        let served = threads.block_on(self.serve(Arc::clone(&server), inherited, signals));
        // Tasks that are still running after the grace period hold the server. Stop them, so that it is dropped
        // here: it removes its temporary files and closes its database.
        threads.shutdown_timeout(Duration::from_secs(1));
        served
    }

    /// Sets the folder of the application's state: the flag's, or else that of the runtime configuration.
    fn set_state_folder(&self, app: &mut App, configured: Option<PathBuf>) {
        let configured = configured.filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = self.state_dir.clone().or(configured) {
            app.state = folder;
        }
    }

    async fn set_key_values(&self, server: &Server) -> anyhow::Result<()> {
        for entry in &self.key_value {
            let (key, value) = pair("--key-value", entry)?;
            server.runtime().set_key_value(key, value).await?;
        }
        Ok(())
    }

    async fn serve(
        self,
        server: Arc<Server>,
        inherited: Option<Inherited>,
        signals: Option<Signals>,
    ) -> anyhow::Result<()> {
        let signals = signals.map_or_else(Signals::new, Ok)?;
        let certificate = match (&self.tls_cert, &self.tls_key) {
            (Some(chain), Some(key)) => Some(Certificate::load(tls::CertificateFiles {
                chain: chain.clone(),
                key: key.clone(),
                client_ca: self.tls_client_ca.clone(),
            })?),
            _ => None,
        };
        let scheme = if certificate.is_some() { Scheme::Https } else { Scheme::Http };
        let socket = match &self.listen {
            ListenAddress::Inet(address) if self.find_free_port => {
                Socket::Tcp(listener::bind_free(*address).await?)
            }
            ListenAddress::Inet(address) => {
                Socket::Tcp(listener::bind("--listen", *address).await?)
            }
            ListenAddress::Unix(path) => Socket::at(path).await?,
            ListenAddress::Inherited => {
                Socket::from_inherited(inherited.context("--listen fd:// has no socket")?)?
            }
        };
        if let Some(address) = self.admin {
            let socket = listener::bind("--admin", address).await?;
            announce_admin(socket.local_addr()?);
            admin::start(&server, socket.into_std()?)?;
        }
        announce(server.app(), scheme, &socket.address()?);
        let proxies = Arc::new(self.proxies.proxies());
        let listener = Listener { socket, certificate, proxies };
        let end = listener::serve(server, listener, signals).await;
        ensure!(
            end == ServeOutcome::Stopped,
            "as many instances as may run at once exceeded `request_cpu`, and they cannot be interrupted, because components \
             with `interruption = \"watchdog\"` are compiled without checks: remove this key, or report the requests to \
             the component's author"
        );
        Ok(())
    }
}

/// Makes the components use the code that the shim compiled, and no other.
///
/// # Errors
/// If it did not compile one of them: the manifest that the pod sees is not the one that the shim read.
fn use_compiled(app: &mut App, compiled: &CompiledComponents) -> anyhow::Result<()> {
    if compiled.is_empty() {
        return Ok(());
    }
    for (id, component) in &mut app.components {
        let found = compiled.get(id).filter(|found| found.source == component.source);
        let found = found.with_context(|| {
            format!(
                "the component `{id}` ({}) was not compiled for this pod: its manifest has changed since the container \
                 was created; start the pod again",
                component.source.display()
            )
        })?;
        component.compiled = Some(found.code.clone());
        // As the shim compiled it: someone else may have written the image.
        component.interruption = Interruption::Epoch;
    }
    Ok(())
}

/// The SQL statements that a flag gives, or the file that it names.
fn statements(entry: &str) -> anyhow::Result<String> {
    let Some(file) = entry.strip_prefix('@') else { return Ok(entry.to_owned()) };
    std::fs::read_to_string(file).with_context(|| format!("--sqlite {entry}: cannot read {file}"))
}

fn add_environment(app: &mut App, variables: &[String]) -> anyhow::Result<()> {
    for variable in variables {
        let (name, value) = pair("--env", variable)?;
        for component in app.components.values_mut() {
            component.environment.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(())
}

fn announce_admin(address: SocketAddr) {
    print(&format!("Admin on {address}: /metrics, /healthz, /readyz"));
}

/// Prints the application's URLs in the same format as `spin up`.
fn announce(app: &App, scheme: Scheme, address: &ListenAddress) {
    let scheme = scheme.as_str();
    let base = match address {
        ListenAddress::Inet(address) => format!("{scheme}://{address}"),
        // There is no usual form of URL for a Unix socket.
        _ => String::new(),
    };
    match address {
        ListenAddress::Inet(_) => print(&format!("Serving {base}")),
        _ => print(&format!("Serving {scheme} on {address}")),
    }
    print("Available Routes:");
    for (pattern, target) in app.routes.entries() {
        let wildcard = if pattern.is_wildcard() { " (wildcard)" } else { "" };
        print(&format!("  {target}: {base}{}{wildcard}", pattern.base()));
    }
}
