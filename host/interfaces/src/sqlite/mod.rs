//! SQLite databases for components: `fermyon:spin/sqlite@2` and `spin:sqlite@3`.

mod database;
mod rules;

use rusqlite::types::Value as SqlValue;
use wasmtime::component::{
    Accessor, FutureReader, HasData, Linker, Resource, ResourceTable, StreamReader,
};

pub use database::{NO_DEFAULT_DATABASE, SqliteDatabases, SqliteGrant};
use database::{OpenDatabase, Rows, SqliteError};

mod v2 {
    wasmtime::component::bindgen!({
        inline: "
            package fermyon:spin@2.0.0;
            interface sqlite {
                resource connection {
                    open: static func(database: string) -> result<connection, error>;
                    execute: func(statement: string, parameters: list<value>) -> result<query-result, error>;
                }
                variant error {
                    no-such-database,
                    access-denied,
                    invalid-connection,
                    database-full,
                    io(string),
                }
                record query-result { columns: list<string>, rows: list<row-result> }
                record row-result { values: list<value> }
                variant value { integer(s64), real(f64), text(string), blob(list<u8>), null }
            }
            world imports { import sqlite; }
        ",
        with: { "fermyon:spin/sqlite.connection": crate::sqlite::database::OpenDatabase },
        imports: { default: async | trappable },
    });
}

/// The interface of Spin 4, as in the WIT of its Rust SDK 7.0.0. It contains that of version 3.0.
mod v3 {
    wasmtime::component::bindgen!({
        inline: "
            package spin:sqlite@3.1.0;
            interface sqlite {
                resource connection {
                    open: static func(database: string) -> result<connection, error>;
                    open-async: static async func(database: string) -> result<connection, error>;
                    execute: func(statement: string, parameters: list<value>) -> result<query-result, error>;
                    execute-async: async func(statement: string, parameters: list<value>)
                        -> result<tuple<list<string>, stream<row-result>, future<result<_, error>>>, error>;
                    last-insert-rowid: func() -> s64;
                    last-insert-rowid-async: async func() -> s64;
                    changes: func() -> u64;
                    changes-async: async func() -> u64;
                }
                variant error {
                    no-such-database,
                    access-denied,
                    invalid-connection,
                    database-full,
                    io(string),
                }
                record query-result { columns: list<string>, rows: list<row-result> }
                record row-result { values: list<value> }
                variant value { integer(s64), real(f64), text(string), blob(list<u8>), null }
            }
            world imports { import sqlite; }
        ",
        with: { "spin:sqlite/sqlite.connection": crate::sqlite::database::OpenDatabase },
        imports: { default: async | trappable },
    });
}

use v2::fermyon::spin::sqlite as v2_sqlite;
use v3::spin::sqlite::sqlite as v3_sqlite;

/// What the interfaces need of an instance's state.
pub struct SqliteView<'a> {
    pub table: &'a mut ResourceTable,
    pub grant: &'a SqliteGrant,
}

struct Sqlite;

impl HasData for Sqlite {
    type Data<'a> = SqliteView<'a>;
}

/// Adds the interfaces to the linker. `host_getter` finds what they need in an instance's state.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host_getter: fn(&mut T) -> SqliteView<'_>,
) -> anyhow::Result<()> {
    v2_sqlite::add_to_linker::<T, Sqlite>(linker, host_getter)?;
    v3_sqlite::add_to_linker::<T, Sqlite>(linker, host_getter)?;
    Ok(())
}

/// Converts the types of an interface, which are the same in each version.
macro_rules! conversions {
    ($interface:ident) => {
        impl From<SqliteError> for $interface::Error {
            fn from(error: SqliteError) -> Self {
                match error {
                    SqliteError::NotGranted => Self::AccessDenied,
                    SqliteError::Full => Self::DatabaseFull,
                    SqliteError::Other(text) => Self::Io(text),
                }
            }
        }

        impl From<$interface::Value> for SqlValue {
            fn from(value: $interface::Value) -> Self {
                match value {
                    $interface::Value::Integer(number) => Self::Integer(number),
                    $interface::Value::Real(number) => Self::Real(number),
                    $interface::Value::Text(text) => Self::Text(text),
                    $interface::Value::Blob(bytes) => Self::Blob(bytes),
                    $interface::Value::Null => Self::Null,
                }
            }
        }

        impl From<SqlValue> for $interface::Value {
            fn from(value: SqlValue) -> Self {
                match value {
                    SqlValue::Integer(number) => Self::Integer(number),
                    SqlValue::Real(number) => Self::Real(number),
                    SqlValue::Text(text) => Self::Text(text),
                    SqlValue::Blob(bytes) => Self::Blob(bytes),
                    SqlValue::Null => Self::Null,
                }
            }
        }

        impl From<Vec<SqlValue>> for $interface::RowResult {
            fn from(row: Vec<SqlValue>) -> Self {
                Self { values: row.into_iter().map(Into::into).collect() }
            }
        }

        impl From<Rows> for $interface::QueryResult {
            fn from(found: Rows) -> Self {
                let rows = found.rows.into_iter().map(Into::into).collect();
                Self { columns: found.columns, rows }
            }
        }
    };
}

conversions!(v2_sqlite);
conversions!(v3_sqlite);

impl SqliteView<'_> {
    async fn open<E: From<SqliteError>>(
        &mut self,
        label: &str,
    ) -> wasmtime::Result<Result<Resource<OpenDatabase>, E>> {
        match self.grant.open(label).await {
            Ok(opened) => Ok(Ok(self.table.push(opened)?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn execute<V: Into<SqlValue>, R: From<Rows>, E: From<SqliteError>>(
        &mut self,
        connection: &Resource<OpenDatabase>,
        statement: String,
        parameters: Vec<V>,
    ) -> wasmtime::Result<Result<R, E>> {
        let connection = self.table.get(connection)?.clone();
        let parameters = parameters.into_iter().map(Into::into).collect();
        let found = connection.execute(statement, parameters).await;
        Ok(found.map(Into::into).map_err(Into::into))
    }

    fn close(&mut self, connection: Resource<OpenDatabase>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl v2_sqlite::Host for SqliteView<'_> {}

impl v2_sqlite::HostConnection for SqliteView<'_> {
    async fn open(
        &mut self,
        database: String,
    ) -> wasmtime::Result<Result<Resource<OpenDatabase>, v2_sqlite::Error>> {
        SqliteView::open(self, &database).await
    }

    async fn execute(
        &mut self,
        connection: Resource<OpenDatabase>,
        statement: String,
        parameters: Vec<v2_sqlite::Value>,
    ) -> wasmtime::Result<Result<v2_sqlite::QueryResult, v2_sqlite::Error>> {
        SqliteView::execute(self, &connection, statement, parameters).await
    }

    async fn drop(&mut self, connection: Resource<OpenDatabase>) -> wasmtime::Result<()> {
        self.close(connection)
    }
}

impl v3_sqlite::Host for SqliteView<'_> {}

impl v3_sqlite::HostConnection for SqliteView<'_> {
    async fn open(
        &mut self,
        database: String,
    ) -> wasmtime::Result<Result<Resource<OpenDatabase>, v3_sqlite::Error>> {
        SqliteView::open(self, &database).await
    }

    async fn execute(
        &mut self,
        connection: Resource<OpenDatabase>,
        statement: String,
        parameters: Vec<v3_sqlite::Value>,
    ) -> wasmtime::Result<Result<v3_sqlite::QueryResult, v3_sqlite::Error>> {
        SqliteView::execute(self, &connection, statement, parameters).await
    }

    async fn last_insert_rowid(
        &mut self,
        connection: Resource<OpenDatabase>,
    ) -> wasmtime::Result<i64> {
        let connection = self.table.get(&connection)?.clone();
        number(connection.last_insert_rowid().await)
    }

    async fn changes(&mut self, connection: Resource<OpenDatabase>) -> wasmtime::Result<u64> {
        let connection = self.table.get(&connection)?.clone();
        number(connection.changes().await)
    }

    async fn drop(&mut self, connection: Resource<OpenDatabase>) -> wasmtime::Result<()> {
        self.close(connection)
    }
}

/// The result of a function whose interface declares no error.
fn number<N>(result: Result<N, SqliteError>) -> wasmtime::Result<N> {
    result.map_err(|error| wasmtime::format_err!("{error:?}"))
}

/// The connection that a handle stands for.
fn opened<T>(
    accessor: &Accessor<T, Sqlite>,
    connection: &Resource<OpenDatabase>,
) -> wasmtime::Result<OpenDatabase> {
    accessor.with(|mut view| Ok(view.get().table.get(connection)?.clone()))
}

/// A result's columns, its rows, and whether all of these could be read.
type RowStream =
    (Vec<String>, StreamReader<v3_sqlite::RowResult>, FutureReader<Result<(), v3_sqlite::Error>>);

impl<T: Send> v3_sqlite::HostConnectionWithStore<T> for Sqlite {
    async fn open_async(
        accessor: &Accessor<T, Self>,
        database: String,
    ) -> wasmtime::Result<Result<Resource<OpenDatabase>, v3_sqlite::Error>> {
        let grant = accessor.with(|mut view| view.get().grant.clone());
        match grant.open(&database).await {
            Ok(opened) => Ok(Ok(accessor.with(|mut view| view.get().table.push(opened))?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<OpenDatabase>,
        statement: String,
        parameters: Vec<v3_sqlite::Value>,
    ) -> wasmtime::Result<Result<RowStream, v3_sqlite::Error>> {
        let connection = opened(accessor, &connection)?;
        let parameters = parameters.into_iter().map(Into::into).collect();
        let found = match connection.execute(statement, parameters).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error.into())),
        };
        let rows: Vec<v3_sqlite::RowResult> = found.rows.into_iter().map(Into::into).collect();
        accessor.with(|mut view| {
            let rows = StreamReader::new(&mut view, rows)?;
            let complete = async { wasmtime::error::Ok(Ok(())) };
            Ok(Ok((found.columns, rows, FutureReader::new(&mut view, complete)?)))
        })
    }

    async fn last_insert_rowid_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<OpenDatabase>,
    ) -> wasmtime::Result<i64> {
        number(opened(accessor, &connection)?.last_insert_rowid().await)
    }

    async fn changes_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<OpenDatabase>,
    ) -> wasmtime::Result<u64> {
        number(opened(accessor, &connection)?.changes().await)
    }
}
