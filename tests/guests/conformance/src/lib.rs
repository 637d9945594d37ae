//! Does what the components of Spin's conformance tests do (<https://github.com/fermyon/conformance-tests>), written
//! anew. The path names the component; the reply is `ok`, or status 500 with what failed.

#![cfg(target_arch = "wasm32")]

mod postgres;

use anyhow::{Context, anyhow, bail, ensure};
use spin_sdk::http::{IncomingRequest, Method, Request, Response, Scheme};
use spin_sdk::{http_component, key_value, mqtt, redis, sqlite, variables};
use wasi::sockets::instance_network::instance_network;
use wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasi::sockets::tcp_create_socket::create_tcp_socket;

#[http_component]
async fn handle(request: IncomingRequest) -> Response {
    let path = request.path_with_query().unwrap_or_default();
    let address = header(&request, "address").unwrap_or_default();
    let result = match path.as_str() {
        "/key-value" => use_key_value(),
        "/variables" => read_variables(),
        "/sqlite" => use_sqlite(),
        "/outbound-http" => post(&address).await,
        "/outbound-http-get" => get(&address).await,
        "/outbound-redis" => use_redis(&address),
        "/outbound-mqtt" => use_mqtt(&address),
        "/postgres" => postgres::use_postgres(&address),
        "/tcp-sockets" => echo_over_tcp(&address),
        _ => check_shape(&request),
    };
    match result {
        Ok(()) => Response::new(200, "ok"),
        Err(error) => Response::new(500, format!("{error:#}")),
    }
}

fn header(request: &IncomingRequest, name: &str) -> Option<String> {
    let mut values = request.headers().get(&name.to_owned());
    let only = if values.len() == 1 { values.pop() } else { None };
    String::from_utf8(only?).ok()
}

fn use_key_value() -> anyhow::Result<()> {
    let forbidden = key_value::Store::open("forbidden").err();
    ensure!(matches!(forbidden, Some(key_value::Error::AccessDenied)), "{forbidden:?}");
    let store = key_value::Store::open("default")?;
    let keys = || -> anyhow::Result<Vec<String>> {
        let mut keys = store.get_keys()?;
        keys.sort();
        Ok(keys)
    };
    store.delete("bar")?;
    ensure!(!store.exists("bar")? && store.get("bar")?.is_none() && keys()?.is_empty());
    for value in ["baz", "wow"] {
        store.set("bar", value.as_bytes())?;
        ensure!(store.exists("bar")? && store.get("bar")?.as_deref() == Some(value.as_bytes()));
        ensure!(keys()? == ["bar"]);
    }
    store.set("qux", b"yay")?;
    ensure!(keys()? == ["bar", "qux"]);
    // A key that is not there can be deleted, too.
    for key in ["bar", "bar", "qux"] {
        store.delete(key)?;
    }
    ensure!(!store.exists("bar")? && store.get("qux")?.is_none() && keys()?.is_empty());
    Ok(())
}

fn read_variables() -> anyhow::Result<()> {
    ensure!(variables::get("variable")? == "value");
    let undefined = variables::get("non_existent");
    ensure!(matches!(undefined, Err(variables::Error::Undefined(_))), "{undefined:?}");
    for name in ["invalid-name", "invalid!name", "4invalidname"] {
        let invalid = variables::get(name);
        ensure!(matches!(invalid, Err(variables::Error::InvalidName(_))), "{name}: {invalid:?}");
    }
    Ok(())
}

fn use_sqlite() -> anyhow::Result<()> {
    let forbidden = sqlite::Connection::open("forbidden").err();
    ensure!(matches!(forbidden, Some(sqlite::Error::AccessDenied)), "{forbidden:?}");
    let database = sqlite::Connection::open("default")?;
    database
        .execute("CREATE TABLE IF NOT EXISTS data(key TEXT NOT NULL, value TEXT NOT NULL);", &[])?;
    database.execute("INSERT INTO data(key, value) VALUES('my_key', 'my_value');", &[])?;
    let parameter = [sqlite::Value::Text("my_key".to_owned())];
    let found = database.execute("SELECT * FROM data WHERE key = ?", &parameter)?;
    ensure!(found.columns == ["key", "value"] && found.rows.len() == 1, "{found:?}");
    ensure!(found.rows[0].get::<&str>(0) == Some("my_key"));
    ensure!(found.rows[0].get::<&str>(1) == Some("my_value"));
    Ok(())
}

/// Posts a body to a server that sends it back.
async fn post(url: &str) -> anyhow::Result<()> {
    let request = Request::post(url, "Hello, world!").build();
    let response: Response =
        spin_sdk::http::send(request).await.map_err(|error| anyhow!("{error}"))?;
    ensure!(*response.status() == 200 && response.body() == b"Hello, world!");
    Ok(())
}

/// Sends no body, which a denied request would not take to its end.
async fn get(url: &str) -> anyhow::Result<()> {
    let request = Request::get(url).build();
    let sent: Result<Response, _> = spin_sdk::http::send(request).await;
    sent.map(drop).map_err(|error| anyhow!("{error}"))
}

fn use_redis(address: &str) -> anyhow::Result<()> {
    let connection = redis::Connection::open(address)?;
    let text = |text: &str| redis::RedisParameter::Binary(text.as_bytes().to_vec());
    connection.set("get-set", &b"Eureka!".to_vec())?;
    ensure!(connection.get("get-set")?.context("no value")? == b"Eureka!");
    connection.set("incr", &b"0".to_vec())?;
    ensure!(connection.incr("incr")? == 1);
    ensure!(connection.del(&["get-set".to_owned(), "incr".to_owned()])? == 2);
    connection.execute("set", &[text("example"), text("Eureka!")])?;
    connection.execute("append", &[text("example"), text(" I've got it!")])?;
    let values = connection.execute("get", &[text("example")])?;
    let [redis::RedisResult::Binary(value)] = values.as_slice() else { bail!("{values:?}") };
    ensure!(value == b"Eureka! I've got it!");
    Ok(())
}

fn use_mqtt(address: &str) -> anyhow::Result<()> {
    let connection = mqtt::Connection::open(address, "user", "password", 30)?;
    connection.publish("telemetry-topic", &b"Eureka!".to_vec(), mqtt::Qos::AtLeastOnce)?;
    Ok(())
}

/// Sends a line to a server that sends it back.
fn echo_over_tcp(address: &str) -> anyhow::Result<()> {
    let address: std::net::SocketAddrV4 = address.parse()?;
    let [a, b, c, d] = address.ip().octets();
    let address = Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) };
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), IpSocketAddress::Ipv4(address))?;
    let (input, output) = loop {
        match socket.finish_connect() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            connected => break connected?,
        }
    };
    let message = b"So rested he by the Tumtum tree";
    output.blocking_write_and_flush(message)?;
    let mut received = Vec::new();
    while received.len() < message.len() {
        received.extend(input.blocking_read((message.len() - received.len()) as u64)?);
    }
    ensure!(received == message);
    Ok(())
}

/// Checks what a component sees of `/base/path/end/rest?key=value` at `example.com`.
fn check_shape(request: &IncomingRequest) -> anyhow::Result<()> {
    ensure!(matches!(request.method(), Method::Get));
    ensure!(matches!(request.scheme(), Some(Scheme::Http)));
    ensure!(request.authority().as_deref() == Some("example.com"), "{:?}", request.authority());
    ensure!(request.path_with_query().as_deref() == Some("/base/path/end/rest?key=value"));
    let expected = [
        ("spin-raw-component-route", "/base/:path_segment/:path_end/..."),
        ("spin-full-url", "http://example.com/base/path/end/rest?key=value"),
        ("spin-path-info", "/rest"),
        ("spin-base-path", "/"),
        ("spin-component-route", "/base/:path_segment/:path_end"),
        ("spin-path-match-path-segment", "path"),
        ("spin-path-match-path-end", "end"),
        ("spin-matched-route", "/base/:path_segment/:path_end/..."),
    ];
    for (name, value) in expected {
        let found = header(request, name);
        ensure!(found.as_deref() == Some(value), "{name} is {found:?}");
    }
    let client = header(request, "spin-client-addr").context("no client")?;
    client.parse::<std::net::SocketAddr>()?;
    for (name, _) in request.headers().entries() {
        let is_spins = name.starts_with("spin-") || name.starts_with("spin_");
        let is_known =
            name == "spin-client-addr" || expected.iter().any(|(known, _)| *known == name);
        ensure!(!is_spins || is_known, "{name}");
    }
    Ok(())
}
