//! Connections of components to MQTT brokers.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::mqttbytes::v4::{Connect, Login, Publish};
use rumqttc::mqttbytes::{QoS, valid_topic};
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::task::AbortHandle;
use url::{Host, Url};

use super::session::Session;
use crate::outbound_tcp::{ConnectError, OutboundTcp};
use crate::waiting_bytes::WaitingBytes;

/// The longest topic, client identifier, user name or password, in bytes, because MQTT sends its length in two.
const MAX_STRING_BYTES: usize = u16::MAX as usize;
/// The scheme of brokers in `allowed_outbound_hosts`.
const MQTT_SCHEME: &str = "mqtt";
const DEFAULT_PORT: u16 = 1883;

/// Why a connection cannot be opened, or a message is not published.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientError {
    /// The address is malformed.
    InvalidAddress,
    TooManyConnections,
    /// The manifest does not allow the broker, or the broker cannot be reached or does not reply as it should.
    ConnectionFailed(String),
    Other(String),
}

/// A connection that an instance has opened.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct OpenMqtt(Arc<OpenMqttInner>);

struct OpenMqttInner {
    session: SharedSession,
    /// `None` if the guest does not want the connection to be kept alive.
    pings: Option<AbortHandle>,
    /// How many more bytes may wait.
    waiting: WaitingBytes,
    _permits: [OwnedSemaphorePermit; 2],
}

/// Runs one exchange with the broker at a time. `None` once an exchange has failed, or the guest has abandoned it.
type SharedSession = Arc<Mutex<Option<Session>>>;

impl Drop for OpenMqttInner {
    fn drop(&mut self) {
        if let Some(pings) = &self.pings {
            pings.abort();
        }
        if let Ok(session) = self.session.try_lock()
            && let Some(session) = session.as_ref()
        {
            session.disconnect();
        }
    }
}

impl OpenMqtt {
    /// Connects to the broker at an address such as `mqtt://host:1883?client_id=name`. Logs in unless the user name is
    /// empty. The broker may give up a client that it has not heard of for `keep_alive_seconds`; 0 stands for no limit.
    pub(crate) async fn open(
        outbound: &OutboundTcp,
        address: &str,
        login: Login,
        keep_alive_seconds: u64,
    ) -> Result<Self, ClientError> {
        let Address { host, port, client_id } = Address::parse(address)?;
        let keep_alive = u16::try_from(keep_alive_seconds).unwrap_or(u16::MAX);
        let connect = connect_packet(client_id, login, keep_alive)?;
        let connecting = outbound.connect(MQTT_SCHEME, &host, port).await;
        let connected = connecting.map_err(|error| match error {
            // The words that Spin's conformance case expects.
            ConnectError::Denied => {
                ClientError::ConnectionFailed(format!("address {address} is not permitted"))
            }
            ConnectError::TooMany => ClientError::TooManyConnections,
            ConnectError::Failed(text) => ClientError::ConnectionFailed(text),
        })?;
        let session = Session::open(connected.stream, connect).await;
        let session = session.map_err(ClientError::ConnectionFailed)?;
        let session = Arc::new(Mutex::new(Some(session)));
        let pings = (keep_alive > 0).then(|| {
            let interval = Duration::from_secs(keep_alive.into()) / 2;
            tokio::spawn(ping(Arc::clone(&session), interval)).abort_handle()
        });
        let waiting = WaitingBytes::new();
        let opened = OpenMqttInner { session, pings, waiting, _permits: connected.permits };
        Ok(Self(Arc::new(opened)))
    }

    /// Publishes a message. Returns when the broker has acknowledged it, as the quality of service demands.
    pub(crate) async fn publish(
        &self,
        topic: String,
        payload: Vec<u8>,
        qos: QoS,
    ) -> Result<(), ClientError> {
        check_length("topic", &topic)?;
        if topic.is_empty() || !valid_topic(&topic) {
            return Err(ClientError::Other(format!(
                "the topic {topic:?} is empty or has a wildcard: publish to one topic"
            )));
        }
        let waiting = self.0.waiting.add(topic.len() + payload.len());
        let _waiting = waiting.map_err(|error| ClientError::Other(error.to_string()))?;
        let mut open = self.0.session.lock().await;
        let mut session = open.take().ok_or_else(|| {
            let text = "the connection was closed after an error: open another";
            ClientError::ConnectionFailed(text.to_owned())
        })?;
        let message = Publish::from_bytes(topic, qos, payload.into());
        session.publish(message).await.map_err(ClientError::ConnectionFailed)?;
        *open = Some(session);
        Ok(())
    }
}

/// Keeps the broker from giving up a client that publishes nothing.
async fn ping(session: SharedSession, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let mut open = session.lock().await;
        let Some(mut session) = open.take() else { return };
        match session.ping().await {
            Ok(()) => *open = Some(session),
            Err(error) => tracing::debug!(error, "a connection to an MQTT broker was closed"),
        }
    }
}

fn connect_packet(
    client_id: String,
    login: Login,
    keep_alive: u16,
) -> Result<Connect, ClientError> {
    check_length("client_id", &client_id)?;
    check_length("user name", &login.username)?;
    check_length("password", &login.password)?;
    let mut connect = Connect::new(client_id);
    connect.keep_alive = keep_alive;
    connect.login = (!login.username.is_empty()).then_some(login);
    Ok(connect)
}

fn check_length(what: &str, text: &str) -> Result<(), ClientError> {
    let length = text.len();
    if length > MAX_STRING_BYTES {
        return Err(ClientError::Other(format!(
            "the {what} has {length} bytes: MQTT allows {MAX_STRING_BYTES}"
        )));
    }
    Ok(())
}

/// What a URL says about a broker and its client.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    host: String,
    port: u16,
    client_id: String,
}

impl Address {
    fn parse(address: &str) -> Result<Self, ClientError> {
        let url = Url::parse(address).map_err(|_| ClientError::InvalidAddress)?;
        if url.scheme() == "mqtts" {
            return Err(ClientError::ConnectionFailed(
                "MQTT over TLS (mqtts) is not supported: use mqtt".to_owned(),
            ));
        }
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        let client_id = url.query_pairs().find(|(name, _)| name == "client_id");
        let client_id = client_id.map(|(_, value)| value.into_owned()).unwrap_or_default();
        if url.scheme() != MQTT_SCHEME || host.is_empty() || client_id.is_empty() {
            return Err(ClientError::InvalidAddress);
        }
        Ok(Self { host, port: url.port().unwrap_or(DEFAULT_PORT), client_id })
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, ClientError};

    #[test]
    fn an_address_names_the_broker_and_the_client() {
        for (address, host, port, client_id) in [
            ("mqtt://localhost?client_id=one", "localhost", 1883, "one"),
            ("mqtt://user:word@localhost:1884/?client_id=a%20b", "localhost", 1884, "a b"),
            ("mqtt://[::1]:7?other=x&client_id=c", "::1", 7, "c"),
        ] {
            let (host, client_id) = (host.to_owned(), client_id.to_owned());
            assert_eq!(Address::parse(address), Ok(Address { host, port, client_id }), "{address}");
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for address in [
            "",
            "localhost:1883",
            "tcp://localhost?client_id=one",
            "mqtt:?client_id=one",
            "mqtt://?client_id=one",
            "mqtt://localhost",
            "mqtt://localhost?client_id=",
            "mqtt://localhost:99999?client_id=one",
        ] {
            assert_eq!(Address::parse(address), Err(ClientError::InvalidAddress), "{address}");
        }
        let tls = Address::parse("mqtts://localhost?client_id=one");
        assert!(matches!(tls, Err(ClientError::ConnectionFailed(text)) if text.contains("TLS")));
    }
}
