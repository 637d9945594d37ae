//! The packets that a client exchanges with an MQTT broker: MQTT 3.1.1, without subscriptions.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, Packet, PubAck, PubComp, PubRec, PubRel, Publish,
};
use rumqttc::mqttbytes::{Error, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a broker may take to accept a client, or to receive and acknowledge a message.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest packet that a broker may send, in bytes. An acknowledgement has four.
const MAX_REPLY_BYTES: usize = 64;
/// The identifier of each message: a connection has one on its way at a time.
const PACKET_IDENTIFIER: u16 = 1;

/// A stream to a broker. After an error or an exchange that was not awaited to its end, it must not be used again: what
/// the broker sends next could belong to that exchange.
pub(crate) struct Session {
    stream: TcpStream,
    /// What has been received, but not read as a packet.
    received: BytesMut,
}

impl Session {
    /// Introduces the client to the broker. An error says what has failed, as each of a session's does.
    pub(crate) async fn open(stream: TcpStream, connect: Connect) -> Result<Self, String> {
        let mut session = Self { stream, received: BytesMut::new() };
        in_time(session.connect(connect)).await?;
        Ok(session)
    }

    /// Sends a message. Returns when the broker has acknowledged it, as its quality of service demands.
    pub(crate) async fn publish(&mut self, message: Publish) -> Result<(), String> {
        in_time(self.send_message(message)).await
    }

    /// Shows the broker that the client is there.
    pub(crate) async fn ping(&mut self) -> Result<(), String> {
        in_time(async {
            self.send(&Packet::PingReq).await?;
            self.expect(&Packet::PingResp).await
        })
        .await
    }

    /// Says goodbye, if that is possible without waiting.
    pub(crate) fn disconnect(&self) {
        let mut bytes = BytesMut::new();
        if Packet::Disconnect.write(&mut bytes, usize::MAX).is_ok() {
            let _ = self.stream.try_write(&bytes);
        }
    }

    async fn connect(&mut self, connect: Connect) -> Result<(), String> {
        self.send(&Packet::Connect(connect)).await?;
        let reply = match self.receive().await? {
            Packet::ConnAck(reply) => reply,
            other => return Err(format!("the broker sent {other:?} instead of ConnAck")),
        };
        let reason = match reply.code {
            ConnectReturnCode::Success => return Ok(()),
            ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
            ConnectReturnCode::BadClientId => "it does not accept the client_id",
            ConnectReturnCode::ServiceUnavailable => "it is not available",
            ConnectReturnCode::BadUserNamePassword => "the user name or the password is wrong",
            ConnectReturnCode::NotAuthorized => "the user is not authorized",
        };
        Err(format!("the broker refuses the connection: {reason}"))
    }

    async fn send_message(&mut self, mut message: Publish) -> Result<(), String> {
        self.check_silence()?;
        let (qos, pkid) = (message.qos, PACKET_IDENTIFIER);
        message.pkid = pkid;
        self.send(&Packet::Publish(message)).await?;
        match qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => self.expect(&Packet::PubAck(PubAck { pkid })).await,
            QoS::ExactlyOnce => {
                self.expect(&Packet::PubRec(PubRec { pkid })).await?;
                self.send(&Packet::PubRel(PubRel { pkid })).await?;
                self.expect(&Packet::PubComp(PubComp { pkid })).await
            }
        }
    }

    /// Fails if the broker has closed the connection, which would else lose a message without acknowledgement, or has
    /// sent anything that no packet asked for.
    fn check_silence(&self) -> Result<(), String> {
        match self.stream.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.received.is_empty() => {
                Ok(())
            }
            Ok(0) => Err(closed()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(failed(&error)),
            _ => Err("the broker sent an unexpected packet".to_owned()),
        }
    }

    async fn send(&mut self, packet: &Packet) -> Result<(), String> {
        let mut bytes = BytesMut::with_capacity(packet.size());
        // The host limits what a guest may pass in one call.
        packet.write(&mut bytes, usize::MAX).map_err(|error| error.to_string())?;
        self.stream.write_all(&bytes).await.map_err(|error| failed(&error))
    }

    async fn receive(&mut self) -> Result<Packet, String> {
        loop {
            match Packet::read(&mut self.received, MAX_REPLY_BYTES) {
                Ok(packet) => return Ok(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => {
                    return Err(format!("the broker's reply is not valid MQTT: {error}"));
                }
            }
            let read = self.stream.read_buf(&mut self.received).await;
            if read.map_err(|error| failed(&error))? == 0 {
                return Err(closed());
            }
        }
    }

    async fn expect(&mut self, expected: &Packet) -> Result<(), String> {
        let received = self.receive().await?;
        if received != *expected {
            return Err(format!("the broker sent {received:?} instead of {expected:?}"));
        }
        Ok(())
    }
}

async fn in_time(exchange: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    timeout(RESPONSE_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(format!("the broker did not reply within {RESPONSE_TIMEOUT:?}")))
}

fn closed() -> String {
    "the broker closed the connection".to_owned()
}

fn failed(error: &io::Error) -> String {
    format!("the connection to the broker failed: {error}")
}
