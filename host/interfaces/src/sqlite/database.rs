//! The application's SQLite databases: one file each, with limits on what a statement may use and access.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rusqlite::config::DbConfig;
use rusqlite::hooks::AuthContext;
use rusqlite::limits::Limit;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, spawn_blocking};

use super::rules::authorize;

/// Why statements cannot run at the start.
pub const NO_DEFAULT_DATABASE: &str =
    "--sqlite: no component has the database \"default\" in its `sqlite_databases`";

/// How many connections all instances together may have. Each is up to three open files.
const MAX_CONNECTIONS: usize = 32;
/// How many of them one instance may have.
const MAX_CONNECTIONS_PER_INSTANCE: usize = 4;
/// How long a statement waits for another's transaction, and an instance for a connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What SQLite may allocate for all statements together, in bytes.
const MAX_HEAP_BYTES: i64 = 64 << 20;
/// The size of a connection's page cache, in KiB.
const CACHE_KIB: i64 = 512;
/// The longest text, blob or row, in bytes.
const MAX_VALUE_BYTES: i32 = 8 << 20;
const MAX_STATEMENT_BYTES: i32 = 1 << 20;
/// What a statement may return, in bytes.
const MAX_RESULT_BYTES: usize = 16 << 20;
/// How many instructions SQLite's virtual machine runs between checks whether it must stop.
const OPERATIONS_PER_CHECK: i32 = 10_000;

/// Why a database cannot be opened, or a statement fails.
#[derive(Debug)]
pub(crate) enum SqliteError {
    /// The component's manifest does not grant it.
    NotGranted,
    /// It has reached its limit on size.
    Full,
    Other(String),
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        let text = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => return Self::Full,
            Some(ErrorCode::OutOfMemory) => {
                format!(
                    "the statement needs more memory than SQLite may use: {MAX_HEAP_BYTES} bytes"
                )
            }
            Some(ErrorCode::AuthorizationForStatementDenied) => format!(
                "{error}: statements that reach other files, and most pragmas, are not allowed"
            ),
            _ => error.to_string(),
        };
        Self::Other(text)
    }
}

impl From<JoinError> for SqliteError {
    fn from(error: JoinError) -> Self {
        Self::Other(error.to_string())
    }
}

/// What a statement returns: the names of its columns, and its rows.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
}

/// The databases of an application.
#[derive(Clone)]
pub struct SqliteDatabases(Arc<SqliteDatabasesInner>);

struct SqliteDatabasesInner {
    /// By the names of the databases.
    files: BTreeMap<String, PathBuf>,
    max_bytes: u64,
    /// How long a statement may run.
    statement_time: Duration,
    connections: Arc<Semaphore>,
}

impl SqliteDatabases {
    /// The databases in these files, by name. Their folders are created. Each can hold up to `max_bytes`.
    ///
    /// # Errors
    /// If a folder cannot be created.
    pub fn new(
        files: BTreeMap<String, PathBuf>,
        max_bytes: u64,
        statement_time: Duration,
    ) -> anyhow::Result<Self> {
        for folder in files.values().filter_map(|file| file.parent()) {
            std::fs::create_dir_all(folder).with_context(|| {
                format!("cannot create the folder of SQLite databases {}", folder.display())
            })?;
        }
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Ok(Self(Arc::new(SqliteDatabasesInner { files, max_bytes, statement_time, connections })))
    }

    /// Runs statements on the database `default`, on behalf of whoever starts the application. Blocks.
    pub fn run_at_start(&self, statements: &str) -> anyhow::Result<()> {
        let run = || -> Result<(), SqliteError> {
            Ok(self.connect("default")?.execute_batch(statements)?)
        };
        run().map_err(|failure| match failure {
            SqliteError::Other(text) => anyhow!("SQLite: {text}"),
            SqliteError::Full => anyhow!("the default database is full: raise `sqlite_size`"),
            SqliteError::NotGranted => anyhow!(NO_DEFAULT_DATABASE),
        })
    }

    fn connect(&self, label: &str) -> Result<Connection, SqliteError> {
        let SqliteDatabasesInner { files, max_bytes, .. } = &*self.0;
        let file = files.get(label).ok_or(SqliteError::NotGranted)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)?;
        connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_STATEMENT_BYTES)?;
        // `VACUUM` attaches one.
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 1)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        // What does not fit into the database is kept in memory, which is limited, rather than in files, which are not.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "hard_heap_limit", MAX_HEAP_BYTES)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        let page_bytes: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages = *max_bytes / page_bytes.unsigned_abs().max(1);
        let pages = i64::try_from(pages.clamp(1, u64::from(u32::MAX - 2))).unwrap_or(1);
        connection.pragma_update(None, "max_page_count", pages)?;
        Ok(connection)
    }
}

/// The databases that one component may open.
#[derive(Clone)]
pub struct SqliteGrant {
    databases: Option<SqliteDatabases>,
    labels: Arc<[String]>,
    /// The connections that an instance may still open.
    connections: Arc<Semaphore>,
}

impl SqliteGrant {
    pub fn new(databases: Option<SqliteDatabases>, labels: &[String]) -> Self {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS_PER_INSTANCE));
        Self { databases, labels: labels.into(), connections }
    }

    /// The same for a new instance, which has no connections yet.
    pub fn for_instance(&self) -> Self {
        Self::new(self.databases.clone(), &self.labels)
    }

    /// Opens a connection to the database that the manifest calls `label`.
    pub(crate) async fn open(&self, label: &str) -> Result<OpenDatabase, SqliteError> {
        let Some(databases) =
            self.databases.as_ref().filter(|_| self.labels.iter().any(|own| own == label))
        else {
            return Err(SqliteError::NotGranted);
        };
        let own = Arc::clone(&self.connections).try_acquire_owned().map_err(|_| {
            SqliteError::Other(format!(
                "an instance can have {MAX_CONNECTIONS_PER_INSTANCE} connections to databases; close one"
            ))
        })?;
        let waits = Arc::clone(&databases.0.connections).acquire_owned();
        let Ok(Ok(shared)) = tokio::time::timeout(BUSY_TIMEOUT, waits).await else {
            return Err(SqliteError::Other(format!(
                "all {MAX_CONNECTIONS} connections to databases are in use; try again"
            )));
        };
        let (databases, label) = (databases.clone(), label.to_owned());
        let statement_time = databases.0.statement_time;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopped);
        let connection = spawn_blocking(move || {
            let mut connection = databases.connect(&label)?;
            connection.authorizer(Some(|context: AuthContext<'_>| authorize(&context)))?;
            let check = move || stop.load(Ordering::Relaxed);
            connection.progress_handler(OPERATIONS_PER_CHECK, Some(check))?;
            Ok::<_, SqliteError>(connection)
        });
        let connection = Some(Arc::new(Mutex::new(connection.await??)));
        let opened =
            OpenDatabaseInner { connection, is_stopped, statement_time, _permits: [own, shared] };
        Ok(OpenDatabase(Arc::new(opened)))
    }
}

/// A connection that an instance has opened.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct OpenDatabase(Arc<OpenDatabaseInner>);

struct OpenDatabaseInner {
    /// `None` only while it is being dropped.
    connection: Option<Arc<Mutex<Connection>>>,
    /// Whether the running statement must stop.
    is_stopped: Arc<AtomicBool>,
    statement_time: Duration,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Drop for OpenDatabaseInner {
    /// Closes the connection in another thread, since that may wait for the disk.
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let connection = self.connection.take();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(connection));
        }
    }
}

/// Stops a statement that nobody waits for any longer.
struct StopOnDrop<'a>(Option<&'a AtomicBool>);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(is_stopped) = self.0 {
            is_stopped.store(true, Ordering::Relaxed);
        }
    }
}

impl OpenDatabase {
    /// Runs one statement with these parameters.
    pub(crate) async fn execute(
        &self,
        statement: String,
        parameters: Vec<Value>,
    ) -> Result<Rows, SqliteError> {
        self.run(move |connection| query(connection, &statement, parameters)).await
    }

    pub(crate) async fn last_insert_rowid(&self) -> Result<i64, SqliteError> {
        self.run(|connection| Ok(connection.last_insert_rowid())).await
    }

    /// How many rows the last statement that changed any has changed.
    pub(crate) async fn changes(&self) -> Result<u64, SqliteError> {
        self.run(|connection| Ok(connection.changes())).await
    }

    /// Runs an operation in another thread, once those before it have ended.
    async fn run<R: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> Result<R, SqliteError> + Send + 'static,
    ) -> Result<R, SqliteError> {
        let OpenDatabaseInner { connection, is_stopped, statement_time, .. } = &*self.0;
        let Some(connection) = connection else {
            return Err(SqliteError::Other("the connection is closed".to_owned()));
        };
        let connection = Arc::clone(connection).lock_owned().await;
        is_stopped.store(false, Ordering::Relaxed);
        let mut stop = StopOnDrop(Some(&**is_stopped));
        let mut running = spawn_blocking(move || operation(&connection));
        let result = match tokio::time::timeout(*statement_time, &mut running).await {
            Ok(result) => result?,
            Err(_) => {
                is_stopped.store(true, Ordering::Relaxed);
                let _interrupted = running.await?;
                Err(SqliteError::Other(format!(
                    "the statement takes longer than {statement_time:?} (`request_cpu`)"
                )))
            }
        };
        stop.0 = None;
        result
    }
}

fn query(
    connection: &Connection,
    statement: &str,
    parameters: Vec<Value>,
) -> Result<Rows, SqliteError> {
    let mut prepared = connection.prepare(statement)?;
    let columns = prepared.column_names().map(str::to_owned).collect();
    let width = prepared.column_count();
    let mut found = prepared.query(rusqlite::params_from_iter(parameters))?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let values = (0..width).map(|index| row.get(index)).collect::<Result<Vec<Value>, _>>()?;
        bytes += size_of::<Vec<Value>>() + values.iter().map(size).sum::<usize>();
        if bytes > MAX_RESULT_BYTES {
            return Err(SqliteError::Other(format!(
                "the result has more than {MAX_RESULT_BYTES} bytes; read it in steps, with LIMIT"
            )));
        }
        rows.push(values);
    }
    Ok(Rows { columns, rows })
}

/// What a value takes in memory, in bytes.
fn size(value: &Value) -> usize {
    let content = match value {
        Value::Text(text) => text.len(),
        Value::Blob(blob) => blob.len(),
        Value::Null | Value::Integer(_) | Value::Real(_) => 0,
    };
    size_of::<Value>() + content
}
