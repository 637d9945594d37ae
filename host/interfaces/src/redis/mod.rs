//! Redis for components: `fermyon:spin/redis@2` and `spin:redis@3`.

pub(crate) mod client;

use redis::{Cmd, cmd};
use wasmtime::component::{Accessor, HasData, Linker, Resource, ResourceTable};

use crate::outbound_tcp::OutboundTcp;
use client::{ClientError, Item, OpenRedis};

mod v2 {
    wasmtime::component::bindgen!({
        inline: "
            package fermyon:spin@2.0.0;
            interface redis {
                variant error { invalid-address, too-many-connections, type-error, other(string) }
                resource connection {
                    open: static func(address: string) -> result<connection, error>;
                    publish: func(channel: string, payload: payload) -> result<_, error>;
                    get: func(key: string) -> result<option<payload>, error>;
                    set: func(key: string, value: payload) -> result<_, error>;
                    incr: func(key: string) -> result<s64, error>;
                    del: func(keys: list<string>) -> result<u32, error>;
                    sadd: func(key: string, values: list<string>) -> result<u32, error>;
                    smembers: func(key: string) -> result<list<string>, error>;
                    srem: func(key: string, values: list<string>) -> result<u32, error>;
                    execute: func(command: string, arguments: list<redis-parameter>)
                        -> result<list<redis-result>, error>;
                }
                type payload = list<u8>;
                variant redis-parameter { int64(s64), binary(payload) }
                variant redis-result { nil, status(string), int64(s64), binary(payload) }
            }
            world imports { import redis; }
        ",
        with: { "fermyon:spin/redis.connection": crate::redis::client::OpenRedis },
        imports: { default: async | trappable },
    });
}

/// The interface of Spin 4, as in the WIT of its Rust SDK 7.0.0.
mod v3 {
    wasmtime::component::bindgen!({
        inline: "
            package spin:redis@3.0.0;
            interface redis {
                variant error { invalid-address, too-many-connections, type-error, other(string) }
                resource connection {
                    open: static async func(address: string) -> result<connection, error>;
                    publish: async func(channel: string, payload: payload) -> result<_, error>;
                    get: async func(key: string) -> result<option<payload>, error>;
                    set: async func(key: string, value: payload) -> result<_, error>;
                    incr: async func(key: string) -> result<s64, error>;
                    del: async func(keys: list<string>) -> result<u32, error>;
                    sadd: async func(key: string, values: list<string>) -> result<u32, error>;
                    smembers: async func(key: string) -> result<list<string>, error>;
                    srem: async func(key: string, values: list<string>) -> result<u32, error>;
                    execute: async func(command: string, arguments: list<redis-parameter>)
                        -> result<list<redis-result>, error>;
                }
                type payload = list<u8>;
                variant redis-parameter { int64(s64), binary(payload) }
                variant redis-result { nil, status(string), int64(s64), binary(payload) }
            }
            world imports { import redis; }
        ",
        with: { "spin:redis/redis.connection": crate::redis::client::OpenRedis },
        imports: { default: trappable },
    });
}

use v2::fermyon::spin::redis as v2_redis;
use v3::spin::redis::redis as v3_redis;

/// What the interfaces need of an instance's state.
pub struct RedisView<'a> {
    pub table: &'a mut ResourceTable,
    pub outbound: &'a OutboundTcp,
}

struct Redis;

impl HasData for Redis {
    type Data<'a> = RedisView<'a>;
}

/// Adds the interfaces to the linker. `host_getter` finds what they need in an instance's state.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host_getter: fn(&mut T) -> RedisView<'_>,
) -> anyhow::Result<()> {
    v2_redis::add_to_linker::<T, Redis>(linker, host_getter)?;
    v3_redis::add_to_linker::<T, Redis>(linker, host_getter)?;
    Ok(())
}

/// Converts the types of an interface, which are the same in each version.
macro_rules! conversions {
    ($interface:ident) => {
        impl From<ClientError> for $interface::Error {
            fn from(error: ClientError) -> Self {
                match error {
                    ClientError::InvalidAddress => Self::InvalidAddress,
                    ClientError::TooManyConnections => Self::TooManyConnections,
                    ClientError::WrongType => Self::TypeError,
                    ClientError::Other(text) => Self::Other(text),
                }
            }
        }

        impl From<Item> for $interface::RedisResult {
            fn from(item: Item) -> Self {
                match item {
                    Item::Nil => Self::Nil,
                    Item::Status(text) => Self::Status(text),
                    Item::Int64(number) => Self::Int64(number),
                    Item::Binary(bytes) => Self::Binary(bytes),
                }
            }
        }

        impl $interface::RedisParameter {
            fn add_to(self, command: &mut Cmd) {
                match self {
                    Self::Int64(number) => command.arg(number),
                    Self::Binary(bytes) => command.arg(bytes),
                };
            }
        }
    };
}

conversions!(v2_redis);
conversions!(v3_redis);

/// A command with a key and further arguments.
fn with_key(name: &str, key: String) -> Cmd {
    let mut command = cmd(name);
    command.arg(key);
    command
}

/// Declares the functions of a connection that run a command: their names, arguments, command and result.
macro_rules! commands {
    ($each:ident) => {
        $each!(publish(channel: String, payload: Vec<u8>) -> (), {
            let mut command = with_key("PUBLISH", channel);
            command.arg(payload);
            command
        });
        $each!(get(key: String) -> Option<Vec<u8>>, with_key("GET", key));
        $each!(set(key: String, value: Vec<u8>) -> (), {
            let mut command = with_key("SET", key);
            command.arg(value);
            command
        });
        $each!(incr(key: String) -> i64, with_key("INCR", key));
        $each!(del(keys: Vec<String>) -> u32, {
            let mut command = cmd("DEL");
            command.arg(keys);
            command
        });
        $each!(sadd(key: String, values: Vec<String>) -> u32, {
            let mut command = with_key("SADD", key);
            command.arg(values);
            command
        });
        $each!(smembers(key: String) -> Vec<String>, with_key("SMEMBERS", key));
        $each!(srem(key: String, values: Vec<String>) -> u32, {
            let mut command = with_key("SREM", key);
            command.arg(values);
            command
        });
    };
}

impl v2_redis::Host for RedisView<'_> {}

/// A function of version 2, which has the instance's state to itself while it runs.
macro_rules! v2_command {
    ($name:ident($($argument:ident: $type:ty),*) -> $result:ty, $command:expr) => {
        async fn $name(
            &mut self,
            connection: Resource<OpenRedis>,
            $($argument: $type,)*
        ) -> wasmtime::Result<Result<$result, v2_redis::Error>> {
            let connection = self.table.get(&connection)?.clone();
            Ok(connection.run(&$command).await.map_err(Into::into))
        }
    };
}

impl v2_redis::HostConnection for RedisView<'_> {
    async fn open(
        &mut self,
        address: String,
    ) -> wasmtime::Result<Result<Resource<OpenRedis>, v2_redis::Error>> {
        match OpenRedis::open(self.outbound, &address).await {
            Ok(opened) => Ok(Ok(self.table.push(opened)?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    commands!(v2_command);

    async fn execute(
        &mut self,
        connection: Resource<OpenRedis>,
        command: String,
        arguments: Vec<v2_redis::RedisParameter>,
    ) -> wasmtime::Result<Result<Vec<v2_redis::RedisResult>, v2_redis::Error>> {
        let connection = self.table.get(&connection)?.clone();
        let mut command = cmd(&command);
        arguments.into_iter().for_each(|argument| argument.add_to(&mut command));
        let items = connection.execute(&command).await;
        Ok(items.map(|items| items.into_iter().map(Into::into).collect()).map_err(Into::into))
    }

    async fn drop(&mut self, connection: Resource<OpenRedis>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl v3_redis::Host for RedisView<'_> {}

impl v3_redis::HostConnection for RedisView<'_> {
    fn drop(&mut self, connection: Resource<OpenRedis>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

/// The connection that a handle stands for.
fn opened<T>(
    accessor: &Accessor<T, Redis>,
    connection: &Resource<OpenRedis>,
) -> wasmtime::Result<OpenRedis> {
    accessor.with(|mut view| Ok(view.get().table.get(connection)?.clone()))
}

/// A function of version 3. The instance goes on while it runs.
macro_rules! v3_command {
    ($name:ident($($argument:ident: $type:ty),*) -> $result:ty, $command:expr) => {
        async fn $name(
            accessor: &Accessor<T, Self>,
            connection: Resource<OpenRedis>,
            $($argument: $type,)*
        ) -> wasmtime::Result<Result<$result, v3_redis::Error>> {
            let connection = opened(accessor, &connection)?;
            Ok(connection.run(&$command).await.map_err(Into::into))
        }
    };
}

impl<T: Send> v3_redis::HostConnectionWithStore<T> for Redis {
    async fn open(
        accessor: &Accessor<T, Self>,
        address: String,
    ) -> wasmtime::Result<Result<Resource<OpenRedis>, v3_redis::Error>> {
        let outbound = accessor.with(|mut view| view.get().outbound.clone());
        match OpenRedis::open(&outbound, &address).await {
            Ok(opened) => Ok(Ok(accessor.with(|mut view| view.get().table.push(opened))?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    commands!(v3_command);

    async fn execute(
        accessor: &Accessor<T, Self>,
        connection: Resource<OpenRedis>,
        command: String,
        arguments: Vec<v3_redis::RedisParameter>,
    ) -> wasmtime::Result<Result<Vec<v3_redis::RedisResult>, v3_redis::Error>> {
        let connection = opened(accessor, &connection)?;
        let mut command = cmd(&command);
        arguments.into_iter().for_each(|argument| argument.add_to(&mut command));
        let items = connection.execute(&command).await;
        Ok(items.map(|items| items.into_iter().map(Into::into).collect()).map_err(Into::into))
    }
}
