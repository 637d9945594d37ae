//! PostgreSQL for components: `fermyon:spin/postgres@2`, `spin:postgres@3` and `spin:postgres@4`.

mod address;
mod bindings;
mod budget;
mod client;
mod date_time;
mod error;
mod login;
mod numeric;
mod older_versions;
mod parameters;
mod reply;
mod rows;
mod session;
mod values;

use wasmtime::component::{
    Accessor, FutureReader, HasData, Linker, Resource, ResourceTable, StreamReader,
};

use crate::outbound_tcp::OutboundTcp;
use bindings::v2::fermyon::spin::{postgres as v2, rdbms_types};
use bindings::v3::spin::postgres::postgres as v3;
use bindings::v4::spin::postgres::postgres as v4;
use client::OpenPostgres;
use error::ClientError;
use rows::UnreadRows;

/// What the interfaces need of an instance's state.
pub struct PostgresView<'a> {
    pub table: &'a mut ResourceTable,
    pub outbound: &'a OutboundTcp,
}

struct Postgres;

impl HasData for Postgres {
    type Data<'a> = PostgresView<'a>;
}

/// What version 4 calls a connection's builder: without TLS, there is only an address to set.
pub struct ConnectionAddress(String);

/// Adds the interfaces to the linker. `host_getter` finds what they need in an instance's state.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host_getter: fn(&mut T) -> PostgresView<'_>,
) -> anyhow::Result<()> {
    rdbms_types::add_to_linker::<T, Postgres>(linker, host_getter)?;
    v2::add_to_linker::<T, Postgres>(linker, host_getter)?;
    v3::add_to_linker::<T, Postgres>(linker, host_getter)?;
    v4::add_to_linker::<T, Postgres>(linker, host_getter)?;
    Ok(())
}

impl PostgresView<'_> {
    async fn open<E: From<ClientError>>(
        &mut self,
        address: &str,
    ) -> wasmtime::Result<Result<Resource<OpenPostgres>, E>> {
        match OpenPostgres::open(self.outbound, address).await {
            Ok(opened) => Ok(Ok(self.table.push(opened)?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn query<P, R: From<v4::RowSet>, E: From<ClientError>>(
        &mut self,
        connection: &Resource<OpenPostgres>,
        statement: &str,
        parameters: Vec<P>,
    ) -> wasmtime::Result<Result<R, E>>
    where
        P: TryInto<v4::ParameterValue, Error: Into<ClientError>>,
    {
        let connection = self.table.get(connection)?.clone();
        let found = match newest(parameters) {
            Ok(parameters) => connection.query(statement, parameters).await,
            Err(error) => Err(error),
        };
        let rows = |found: client::QueryResult| {
            v4::RowSet { columns: found.columns, rows: found.rows }.into()
        };
        Ok(found.map(rows).map_err(Into::into))
    }

    async fn execute<P, E: From<ClientError>>(
        &mut self,
        connection: &Resource<OpenPostgres>,
        statement: &str,
        parameters: Vec<P>,
    ) -> wasmtime::Result<Result<u64, E>>
    where
        P: TryInto<v4::ParameterValue, Error: Into<ClientError>>,
    {
        let connection = self.table.get(connection)?.clone();
        let affected = match newest(parameters) {
            Ok(parameters) => connection.execute(statement, parameters).await,
            Err(error) => Err(error),
        };
        Ok(affected.map_err(Into::into))
    }
}

/// Converts parameters to the newest interface's.
fn newest<P>(parameters: Vec<P>) -> Result<Vec<v4::ParameterValue>, ClientError>
where
    P: TryInto<v4::ParameterValue, Error: Into<ClientError>>,
{
    parameters.into_iter().map(|parameter| parameter.try_into().map_err(Into::into)).collect()
}

/// Implements a version's connection: the functions that have the instance's state to themselves while they run.
macro_rules! host_connection {
    ($version:ident) => {
        impl $version::HostConnection for PostgresView<'_> {
            async fn open(
                &mut self,
                address: String,
            ) -> wasmtime::Result<Result<Resource<OpenPostgres>, $version::Error>> {
                PostgresView::open(self, &address).await
            }

            async fn query(
                &mut self,
                connection: Resource<OpenPostgres>,
                statement: String,
                parameters: Vec<$version::ParameterValue>,
            ) -> wasmtime::Result<Result<$version::RowSet, $version::Error>> {
                PostgresView::query(self, &connection, &statement, parameters).await
            }

            async fn execute(
                &mut self,
                connection: Resource<OpenPostgres>,
                statement: String,
                parameters: Vec<$version::ParameterValue>,
            ) -> wasmtime::Result<Result<u64, $version::Error>> {
                PostgresView::execute(self, &connection, &statement, parameters).await
            }

            async fn drop(&mut self, connection: Resource<OpenPostgres>) -> wasmtime::Result<()> {
                self.table.delete(connection)?;
                Ok(())
            }
        }
    };
}

impl rdbms_types::Host for PostgresView<'_> {}
impl v2::Host for PostgresView<'_> {}
impl v3::Host for PostgresView<'_> {}
impl v4::Host for PostgresView<'_> {}
host_connection!(v2);
host_connection!(v3);
host_connection!(v4);

impl v4::HostConnectionBuilder for PostgresView<'_> {
    async fn new(&mut self, address: String) -> wasmtime::Result<Resource<ConnectionAddress>> {
        Ok(self.table.push(ConnectionAddress(address))?)
    }

    async fn set_ca_root(
        &mut self,
        _: Resource<ConnectionAddress>,
        _certificate: String,
    ) -> wasmtime::Result<Result<(), v4::Error>> {
        let text =
            "TLS is not supported: connect without a certificate, on a network that you trust";
        Ok(Err(v4::Error::Other(text.to_owned())))
    }

    async fn build(
        &mut self,
        builder: Resource<ConnectionAddress>,
    ) -> wasmtime::Result<Result<Resource<OpenPostgres>, v4::Error>> {
        let ConnectionAddress(address) = self.table.get(&builder)?;
        let address = address.clone();
        PostgresView::open(self, &address).await
    }

    async fn drop(&mut self, builder: Resource<ConnectionAddress>) -> wasmtime::Result<()> {
        self.table.delete(builder)?;
        Ok(())
    }
}

/// Connects to a server. The instance goes on while it waits.
async fn open<T: Send>(
    accessor: &Accessor<T, Postgres>,
    address: &str,
) -> wasmtime::Result<Result<Resource<OpenPostgres>, v4::Error>> {
    let outbound = accessor.with(|mut view| view.get().outbound.clone());
    match OpenPostgres::open(&outbound, address).await {
        Ok(opened) => Ok(Ok(accessor.with(|mut view| view.get().table.push(opened))?)),
        Err(error) => Ok(Err(error.into())),
    }
}

/// The connection that a handle stands for.
fn opened<T>(
    accessor: &Accessor<T, Postgres>,
    connection: &Resource<OpenPostgres>,
) -> wasmtime::Result<OpenPostgres> {
    accessor.with(|mut view| Ok(view.get().table.get(connection)?.clone()))
}

impl<T: Send> v4::HostConnectionBuilderWithStore<T> for Postgres {
    async fn build_async(
        accessor: &Accessor<T, Self>,
        builder: Resource<ConnectionAddress>,
    ) -> wasmtime::Result<Result<Resource<OpenPostgres>, v4::Error>> {
        let address = accessor.with(|mut view| {
            let ConnectionAddress(address) = view.get().table.get(&builder)?;
            wasmtime::error::Ok(address.clone())
        })?;
        open(accessor, &address).await
    }
}

/// A result's columns, its rows, and whether all of these could be read.
type RowStream = (Vec<v4::Column>, StreamReader<v4::Row>, FutureReader<Result<(), v4::Error>>);

impl<T: Send> v4::HostConnectionWithStore<T> for Postgres {
    async fn open_async(
        accessor: &Accessor<T, Self>,
        address: String,
    ) -> wasmtime::Result<Result<Resource<OpenPostgres>, v4::Error>> {
        open(accessor, &address).await
    }

    async fn query_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<OpenPostgres>,
        statement: String,
        parameters: Vec<v4::ParameterValue>,
    ) -> wasmtime::Result<Result<RowStream, v4::Error>> {
        let connection = opened(accessor, &connection)?;
        let found = match connection.query(&statement, parameters).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error.into())),
        };
        accessor.with(|mut view| {
            let rows = UnreadRows::new(found.rows, found.permit);
            let rows = StreamReader::new(&mut view, rows)?;
            let complete = async { wasmtime::error::Ok(Ok(())) };
            Ok(Ok((found.columns, rows, FutureReader::new(&mut view, complete)?)))
        })
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<OpenPostgres>,
        statement: String,
        parameters: Vec<v4::ParameterValue>,
    ) -> wasmtime::Result<Result<u64, v4::Error>> {
        let connection = opened(accessor, &connection)?;
        Ok(connection.execute(&statement, parameters).await.map_err(Into::into))
    }
}
