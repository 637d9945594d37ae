//! MQTT for components: `fermyon:spin/mqtt@2` and `spin:mqtt@3`.

mod client;
mod session;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Login;
use wasmtime::component::{Accessor, HasData, Linker, Resource, ResourceTable};

use crate::outbound_tcp::OutboundTcp;
use client::{ClientError, OpenMqtt};

mod v2 {
    wasmtime::component::bindgen!({
        inline: "
            package fermyon:spin@2.0.0;
            interface mqtt {
                variant error {
                    invalid-address,
                    too-many-connections,
                    connection-failed(string),
                    other(string),
                }
                enum qos { at-most-once, at-least-once, exactly-once }
                resource connection {
                    open: static func(
                        address: string,
                        username: string,
                        password: string,
                        keep-alive-interval-in-secs: u64,
                    ) -> result<connection, error>;
                    publish: func(topic: string, payload: payload, qos: qos) -> result<_, error>;
                }
                type payload = list<u8>;
            }
            world imports { import mqtt; }
        ",
        with: { "fermyon:spin/mqtt.connection": crate::mqtt::client::OpenMqtt },
        imports: { default: async | trappable },
    });
}

/// The interface of Spin 4, as in the WIT of its Rust SDK 7.0.0.
mod v3 {
    wasmtime::component::bindgen!({
        inline: "
            package spin:mqtt@3.0.0;
            interface mqtt {
                variant error {
                    invalid-address,
                    too-many-connections,
                    connection-failed(string),
                    other(string),
                }
                enum qos { at-most-once, at-least-once, exactly-once }
                resource connection {
                    open: static async func(
                        address: string,
                        username: string,
                        password: string,
                        keep-alive-interval-in-secs: u64,
                    ) -> result<connection, error>;
                    publish: async func(topic: string, payload: payload, qos: qos)
                        -> result<_, error>;
                }
                type payload = list<u8>;
            }
            world imports { import mqtt; }
        ",
        with: { "spin:mqtt/mqtt.connection": crate::mqtt::client::OpenMqtt },
        imports: { default: trappable },
    });
}

use v2::fermyon::spin::mqtt as v2_mqtt;
use v3::spin::mqtt::mqtt as v3_mqtt;

/// What the interfaces need of an instance's state.
pub struct MqttView<'a> {
    pub table: &'a mut ResourceTable,
    pub outbound: &'a OutboundTcp,
}

struct Mqtt;

impl HasData for Mqtt {
    type Data<'a> = MqttView<'a>;
}

/// Adds the interfaces to the linker. `host_getter` finds what they need in an instance's state.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host_getter: fn(&mut T) -> MqttView<'_>,
) -> anyhow::Result<()> {
    v2_mqtt::add_to_linker::<T, Mqtt>(linker, host_getter)?;
    v3_mqtt::add_to_linker::<T, Mqtt>(linker, host_getter)?;
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
                    ClientError::ConnectionFailed(text) => Self::ConnectionFailed(text),
                    ClientError::Other(text) => Self::Other(text),
                }
            }
        }

        impl From<$interface::Qos> for QoS {
            fn from(qos: $interface::Qos) -> Self {
                match qos {
                    $interface::Qos::AtMostOnce => Self::AtMostOnce,
                    $interface::Qos::AtLeastOnce => Self::AtLeastOnce,
                    $interface::Qos::ExactlyOnce => Self::ExactlyOnce,
                }
            }
        }
    };
}

conversions!(v2_mqtt);
conversions!(v3_mqtt);

impl v2_mqtt::Host for MqttView<'_> {}

impl v2_mqtt::HostConnection for MqttView<'_> {
    async fn open(
        &mut self,
        address: String,
        username: String,
        password: String,
        keep_alive_seconds: u64,
    ) -> wasmtime::Result<Result<Resource<OpenMqtt>, v2_mqtt::Error>> {
        let login = Login::new(username, password);
        match OpenMqtt::open(self.outbound, &address, login, keep_alive_seconds).await {
            Ok(opened) => Ok(Ok(self.table.push(opened)?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn publish(
        &mut self,
        connection: Resource<OpenMqtt>,
        topic: String,
        payload: Vec<u8>,
        qos: v2_mqtt::Qos,
    ) -> wasmtime::Result<Result<(), v2_mqtt::Error>> {
        let connection = self.table.get(&connection)?.clone();
        Ok(connection.publish(topic, payload, qos.into()).await.map_err(Into::into))
    }

    async fn drop(&mut self, connection: Resource<OpenMqtt>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl v3_mqtt::Host for MqttView<'_> {}

impl v3_mqtt::HostConnection for MqttView<'_> {
    fn drop(&mut self, connection: Resource<OpenMqtt>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

/// The functions of version 3. The instance goes on while they run.
impl<T: Send> v3_mqtt::HostConnectionWithStore<T> for Mqtt {
    async fn open(
        accessor: &Accessor<T, Self>,
        address: String,
        username: String,
        password: String,
        keep_alive_seconds: u64,
    ) -> wasmtime::Result<Result<Resource<OpenMqtt>, v3_mqtt::Error>> {
        let outbound = accessor.with(|mut view| view.get().outbound.clone());
        let login = Login::new(username, password);
        match OpenMqtt::open(&outbound, &address, login, keep_alive_seconds).await {
            Ok(opened) => Ok(Ok(accessor.with(|mut view| view.get().table.push(opened))?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn publish(
        accessor: &Accessor<T, Self>,
        connection: Resource<OpenMqtt>,
        topic: String,
        payload: Vec<u8>,
        qos: v3_mqtt::Qos,
    ) -> wasmtime::Result<Result<(), v3_mqtt::Error>> {
        let connection: OpenMqtt =
            accessor.with(|mut view| view.get().table.get(&connection).cloned())?;
        Ok(connection.publish(topic, payload, qos.into()).await.map_err(Into::into))
    }
}
