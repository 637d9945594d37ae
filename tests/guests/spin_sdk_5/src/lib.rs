//! Uses the interfaces of Spin's SDK 5. The path names the interface, each line of the body is an argument, and each
//! line of the reply a result.

#![cfg(target_arch = "wasm32")]

use std::fmt::Debug;

use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::wit::wasi::config::store as config;
use spin_sdk::wit::wasi::keyvalue::{atomics, batch, store};
use wasi::sockets::instance_network::instance_network;
use wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasi::sockets::tcp_create_socket::create_tcp_socket;

use spin_sdk::{http_component, llm, mqtt, mysql, pg, pg3, pg4, redis, sqlite, sqlite3};

#[http_component]
fn handle(request: Request) -> impl IntoResponse {
    let body = String::from_utf8_lossy(request.body()).into_owned();
    let lines: Vec<&str> = body.lines().collect();
    let results = match request.path().trim_start_matches("/5") {
        "/config" => read_config(&lines),
        "/sqlite" => use_sqlite(&lines),
        "/sqlite3" => use_sqlite3(&lines),
        "/redis" => use_redis(&lines),
        "/mqtt" => use_mqtt(&lines),
        "/mqtt-later" => publish_later(&lines),
        "/postgres" => use_postgres(&lines),
        "/postgres3" => use_postgres3(&lines),
        "/postgres4" => use_postgres4(&lines),
        "/refused" => use_all_others(&lines),
        "/batch" => use_batch(&lines),
        "/atomics" => use_atomics(&lines),
        "/increment" => increment(&lines),
        "/tcp" => vec![receive(&lines).unwrap_or_else(debug)],
        _ => vec!["unknown".to_owned()],
    };
    Response::new(200, results.join("\n"))
}

fn debug(value: impl Debug) -> String {
    format!("{value:?}")
}

fn read_config(names: &[&str]) -> Vec<String> {
    let mut values: Vec<String> = names.iter().map(|name| debug(config::get(name))).collect();
    values.push(debug(config::get_all()));
    values
}

/// Runs statements on the database that the first line names.
fn use_sqlite(lines: &[&str]) -> Vec<String> {
    let database = match sqlite::Connection::open(lines[0]) {
        Ok(database) => database,
        Err(error) => return vec![debug(error)],
    };
    let run = |statement: &&str| {
        let is_prepared = statement.contains('?');
        let parameters = is_prepared.then(|| sqlite::Value::Text("a parameter".to_owned()));
        debug(database.execute(statement, parameters.as_slice()))
    };
    lines[1..].iter().map(run).collect()
}

fn use_sqlite3(lines: &[&str]) -> Vec<String> {
    let database = match sqlite3::Connection::open(lines[0]) {
        Ok(database) => database,
        Err(error) => return vec![debug(error)],
    };
    let run = |statement: &&str| debug(database.execute(statement, &[]));
    let mut results: Vec<String> = lines[1..].iter().map(run).collect();
    results.push(format!("{} changed, row {}", database.changes(), database.last_insert_rowid()));
    results
}

/// Uses the server that the first line names, with keys of its own.
fn use_redis(lines: &[&str]) -> Vec<String> {
    let connection = match redis::Connection::open(lines[0]) {
        Ok(connection) => connection,
        Err(error) => return vec![debug(error)],
    };
    let argument = |text: &str| redis::RedisParameter::Binary(text.as_bytes().to_vec());
    let two = ["one".to_owned(), "two".to_owned()];
    vec![
        debug(connection.set("sdk-5", &b"7".to_vec())),
        debug(connection.get("sdk-5")),
        debug(connection.get("sdk-5-none")),
        debug(connection.incr("sdk-5")),
        debug(connection.publish("sdk-5-channel", &b"news".to_vec())),
        debug(connection.sadd("sdk-5-set", &two)),
        debug(connection.smembers("sdk-5-set").map(|members| members.len())),
        debug(connection.srem("sdk-5-set", &two[..1])),
        debug(connection.incr("sdk-5-set")),
        debug(connection.execute("append", &[argument("sdk-5"), redis::RedisParameter::Int64(-9)])),
        debug(connection.execute("mget", &[argument("sdk-5"), argument("sdk-5-none")])),
        debug(connection.execute("nonsense", &[])),
        debug(connection.del(&["sdk-5".to_owned(), "sdk-5-set".to_owned()])),
    ]
}

/// Publishes to the broker that the first line names, as the user and with the password that the next ones name.
fn use_mqtt(lines: &[&str]) -> Vec<String> {
    let connection = match mqtt::Connection::open(lines[0], lines[1], lines[2], 30) {
        Ok(connection) => connection,
        Err(error) => return vec![debug(error)],
    };
    let messages = [
        ("sdk/most", "zero", mqtt::Qos::AtMostOnce),
        ("sdk/least", "one", mqtt::Qos::AtLeastOnce),
        ("sdk/exactly", "two", mqtt::Qos::ExactlyOnce),
        ("sdk/#", "all", mqtt::Qos::AtLeastOnce),
    ];
    let publish = |(topic, payload, qos): (&str, &str, _)| {
        debug(connection.publish(topic, &payload.as_bytes().to_vec(), qos))
    };
    messages.into_iter().map(publish).collect()
}

/// Publishes long after the broker would have given up a client that does not keep its connection alive.
fn publish_later(lines: &[&str]) -> Vec<String> {
    let connection = mqtt::Connection::open(lines[0], lines[1], lines[2], 1).expect("a broker");
    std::thread::sleep(std::time::Duration::from_secs(8));
    vec![debug(connection.publish("sdk/later", &b"late".to_vec(), mqtt::Qos::AtLeastOnce))]
}

/// Defines a function that uses the server that the first line names: it runs the statement on each further line, with
/// a parameter of each type if there are any.
macro_rules! use_postgres {
    ($name:ident, $version:ident, $parameters:ident) => {
        fn $name(lines: &[&str]) -> Vec<String> {
            let connection = match $version::Connection::open(lines[0]) {
                Ok(connection) => connection,
                Err(error) => return vec![debug(error)],
            };
            let run = |statement: &&str| {
                if statement.contains('$') {
                    return debug(connection.execute(statement, &$parameters()));
                }
                let found = match connection.query(statement, &[]) {
                    Ok(found) => found,
                    Err(error) => return debug(error),
                };
                let column = |column: &$version::Column| debug(&column.data_type);
                let columns: Vec<String> = found.columns.iter().map(column).collect();
                format!("{} {:?}", columns.join(" "), found.rows)
            };
            lines[1..].iter().map(run).collect()
        }
    };
}

use_postgres!(use_postgres, pg, parameters_2);
use_postgres!(use_postgres3, pg3, parameters_3);
use_postgres!(use_postgres4, pg4, parameters_4);

fn parameters_2() -> Vec<pg::ParameterValue> {
    vec![
        pg::ParameterValue::Boolean(true),
        pg::ParameterValue::Int16(-2),
        pg::ParameterValue::Int32(3),
        pg::ParameterValue::Int64(4),
        pg::ParameterValue::Floating32(19.2),
        pg::ParameterValue::Floating64(f64::NEG_INFINITY),
        pg::ParameterValue::Str("it's".to_owned()),
        pg::ParameterValue::Binary(vec![0, 255]),
        pg::ParameterValue::DbNull,
    ]
}

fn parameters_3() -> Vec<pg3::ParameterValue> {
    vec![
        pg3::ParameterValue::Str("text".to_owned()),
        pg3::ParameterValue::Date((-43, 3, 15)),
        pg3::ParameterValue::Time((4, 5, 6, 789_000_000)),
        pg3::ParameterValue::Datetime((1989, 11, 24, 1, 2, 3, 4000)),
        pg3::ParameterValue::Timestamp(951_782_400),
    ]
}

fn parameters_4() -> Vec<pg4::ParameterValue> {
    vec![
        pg4::ParameterValue::Uuid("fedcba98-fedc-fedc-fedc-fedcba987654".to_owned()),
        pg4::ParameterValue::Decimal("-1234.50".to_owned()),
    ]
}

/// Calls the interfaces that need another server, at the host that the first line names.
fn use_all_others(lines: &[&str]) -> Vec<String> {
    let host = lines[0];
    let address = |scheme: &str| format!("{scheme}://{host}/database");
    vec![
        debug(llm::infer(llm::InferencingModel::Llama2Chat, "Hello?").map(|_| ())),
        debug(llm::generate_embeddings(llm::EmbeddingModel::AllMiniLmL6V2, &[]).map(|_| ())),
        debug(mysql::Connection::open(&address("mysql")).map(|_| ())),
    ]
}

fn use_batch(lines: &[&str]) -> Vec<String> {
    let bucket = store::open(lines[0]).expect("a store");
    let names = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let values = [(names[0].clone(), b"1".to_vec()), (names[1].clone(), b"2".to_vec())];
    vec![
        debug(batch::set_many(&bucket, &values)),
        debug(batch::get_many(&bucket, &names)),
        debug(batch::delete_many(&bucket, &names)),
        debug(batch::get_many(&bucket, &names)),
    ]
}

fn use_atomics(lines: &[&str]) -> Vec<String> {
    let bucket = store::open(lines[0]).expect("a store");
    let new = || atomics::Cas::new(&bucket, "swapped").expect("an operation");
    let (first, second) = (new(), new());
    let mut results = vec![debug(first.current())];
    results.push(debug(atomics::swap(first, b"first")));
    results.push(match atomics::swap(second, b"second") {
        Err(atomics::CasError::CasFailed(again)) => {
            format!("failed, now {:?}, then {:?}", again.current(), atomics::swap(again, b"third"))
        }
        other => debug(other),
    });
    results.push(debug(bucket.get("swapped")));
    bucket.set("text", b"seven").expect("a value that is set");
    results.push(debug(atomics::increment(&bucket, "text", 1)));
    results
}

/// Adds one as many times as the second line says.
fn increment(lines: &[&str]) -> Vec<String> {
    let bucket = store::open(lines[0]).expect("a store");
    let times: usize = lines[1].parse().expect("a number");
    let add = |_| debug(atomics::increment(&bucket, "counter", 1));
    (0..times).map(add).collect()
}

/// What the server on this machine sends whose port the first line names.
fn receive(lines: &[&str]) -> Result<String, ErrorCode> {
    let port = lines[0].parse().expect("a port");
    let address = IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) });
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), address)?;
    let (input, _output) = loop {
        match socket.finish_connect() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            connected => break connected?,
        }
    };
    let received = input.blocking_read(64).unwrap_or_default();
    Ok(String::from_utf8_lossy(&received).into_owned())
}
