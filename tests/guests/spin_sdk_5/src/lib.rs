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

/// Calls the interfaces that need another server, at the host that the first line names.
fn use_all_others(lines: &[&str]) -> Vec<String> {
    let host = lines[0];
    let address = |scheme: &str| format!("{scheme}://{host}/database");
    vec![
        debug(llm::infer(llm::InferencingModel::Llama2Chat, "Hello?").map(|_| ())),
        debug(llm::generate_embeddings(llm::EmbeddingModel::AllMiniLmL6V2, &[]).map(|_| ())),
        debug(mysql::Connection::open(&address("mysql")).map(|_| ())),
        debug(pg::Connection::open(&address("postgres")).map(|_| ())),
        debug(pg3::Connection::open(&address("postgres")).map(|_| ())),
        debug(pg4::Connection::open(&address("postgres")).map(|_| ())),
        debug(mqtt::Connection::open(&address("mqtt"), "", "", 1).map(|_| ())),
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
