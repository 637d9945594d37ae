//! Uses the interfaces of Spin's SDK 7. The path names the interface, each line of the body is an argument, and each
//! line of the reply a result.

#![cfg(target_arch = "wasm32")]

use std::fmt::Debug;

use spin_sdk::http::body::IncomingBodyExt;
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::key_value::Store;
use spin_sdk::{http_service, llm, mqtt, mysql, pg, redis, sqlite, variables};

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let path = request.uri().path().to_owned();
    let body = request.into_body().bytes().await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let lines: Vec<&str> = body.lines().collect();
    let results = match path.as_str() {
        "/variables" => read_variables(&lines).await,
        "/key-value" => use_store(&lines).await,
        "/keys" => list_keys(&lines).await,
        "/sqlite" => use_sqlite(&lines).await,
        "/redis" => use_redis(&lines).await,
        "/mqtt" => use_mqtt(&lines).await,
        "/postgres" => use_postgres(&lines).await,
        "/postgres-tls" => use_postgres_over_tls(&lines).await,
        "/refused" => use_all_others(&lines).await,
        _ => vec!["unknown".to_owned()],
    };
    results.join("\n")
}

fn debug(value: impl Debug) -> String {
    format!("{value:?}")
}

async fn read_variables(names: &[&str]) -> Vec<String> {
    let mut values = Vec::new();
    for name in names {
        values.push(debug(variables::get(name).await));
    }
    values
}

/// Changes the store that the first line names.
async fn use_store(lines: &[&str]) -> Vec<String> {
    let store = match Store::open(lines[0]).await {
        Ok(store) => store,
        Err(error) => return vec![debug(error)],
    };
    vec![
        debug(store.set("a", "1").await),
        debug(store.set("b", "2").await),
        debug(store.get("a").await),
        debug(store.exists("b").await),
        debug(store.get_keys().await.collect().await),
        debug(store.delete("a").await),
        debug(store.get("a").await),
        debug(store.set("k".repeat(2000), "").await),
    ]
}

/// Writes as many keys as the second line says to the store that the first line names, and counts them.
async fn list_keys(lines: &[&str]) -> Vec<String> {
    let store = Store::open(lines[0]).await.expect("a store");
    let count: usize = lines[1].parse().expect("a number");
    for index in 0..count {
        store.set(format!("{index:05}"), "").await.expect("a key that is set");
    }
    let keys = store.get_keys().await.collect().await.expect("keys");
    vec![keys.len().to_string(), keys[0].clone(), keys[keys.len() - 1].clone()]
}

/// Runs statements on the database that the first line names.
async fn use_sqlite(lines: &[&str]) -> Vec<String> {
    let database = match sqlite::Connection::open(lines[0]).await {
        Ok(database) => database,
        Err(error) => return vec![debug(error)],
    };
    let mut results = Vec::new();
    for statement in &lines[1..] {
        let is_prepared = statement.contains('?');
        let parameters = is_prepared.then(|| sqlite::Value::from("a parameter"));
        results.push(match database.execute(statement, parameters).await {
            Ok(found) => format!("{:?} {:?}", found.columns().to_vec(), found.collect().await),
            Err(error) => debug(error),
        });
    }
    let changes = database.changes().await;
    results.push(format!("{changes} changed, row {}", database.last_insert_rowid().await));
    results
}

/// Uses the server that the first line names, with a key of its own.
async fn use_redis(lines: &[&str]) -> Vec<String> {
    let connection = match redis::Connection::open(lines[0]).await {
        Ok(connection) => connection,
        Err(error) => return vec![debug(error)],
    };
    vec![
        debug(connection.set("sdk-7", "text").await),
        debug(connection.get("sdk-7").await),
        debug(connection.incr("sdk-7").await),
        debug(connection.del(["sdk-7", "sdk-7-other"]).await),
        debug(connection.get("sdk-7").await),
    ]
}

/// Publishes to the broker that the first line names, as the user and with the password that the next ones name.
async fn use_mqtt(lines: &[&str]) -> Vec<String> {
    let connection = match mqtt::Connection::open(lines[0], lines[1], lines[2], 30).await {
        Ok(connection) => connection,
        Err(error) => return vec![debug(error)],
    };
    let mut results = Vec::new();
    for (topic, payload, qos) in [
        ("sdk/most", "zero", mqtt::Qos::AtMostOnce),
        ("sdk/least", "one", mqtt::Qos::AtLeastOnce),
        ("sdk/exactly", "two", mqtt::Qos::ExactlyOnce),
        ("sdk/#", "all", mqtt::Qos::AtLeastOnce),
    ] {
        results.push(debug(connection.publish(topic, payload.into(), qos).await));
    }
    results
}

/// Uses the server that the first line names: runs the statement on each further line, with a parameter of each type if
/// there are any.
async fn use_postgres(lines: &[&str]) -> Vec<String> {
    let connection = match pg::Connection::open(lines[0]).await {
        Ok(connection) => connection,
        Err(error) => return vec![debug(error)],
    };
    let mut results = Vec::new();
    for statement in &lines[1..] {
        if statement.contains('$') {
            results.push(debug(connection.execute(*statement, parameters()).await));
            continue;
        }
        let mut found = match connection.query(*statement, vec![]).await {
            Ok(found) => found,
            Err(error) => {
                results.push(debug(error));
                continue;
            }
        };
        let columns = found.columns().iter().map(|column| debug(&column.data_type));
        let columns = columns.collect::<Vec<_>>().join(" ");
        let mut rows = Vec::new();
        while let Some(row) = found.rows().next().await {
            rows.push(row);
        }
        results.push(format!("{columns} {rows:?} {:?}", found.result().await));
    }
    results
}

fn parameters() -> Vec<pg::ParameterValue> {
    let (inclusive, exclusive) = (pg::RangeBoundKind::Inclusive, pg::RangeBoundKind::Exclusive);
    let text = |text: &str| text.to_owned();
    vec![
        pg::ParameterValue::Jsonb(b"[1, null]".to_vec()),
        pg::ParameterValue::Decimal(text("123456789.50")),
        pg::ParameterValue::RangeInt32((Some((30, exclusive)), Some((40, exclusive)))),
        pg::ParameterValue::RangeInt64((Some((1 << 40, inclusive)), None)),
        pg::ParameterValue::RangeDecimal((None, Some((text("1.5"), inclusive)))),
        pg::ParameterValue::ArrayInt32(vec![Some(1), None]),
        pg::ParameterValue::ArrayInt64(vec![]),
        pg::ParameterValue::ArrayDecimal(vec![Some(text("0.10"))]),
        pg::ParameterValue::ArrayStr(vec![Some(text("a\"b\\,}")), Some(text("NULL")), None]),
        pg::ParameterValue::Interval(pg::Interval { micros: 1, days: -2, months: 3 }),
    ]
}

/// Opens a connection with a certificate.
async fn use_postgres_over_tls(lines: &[&str]) -> Vec<String> {
    let certificate = pg::Certificate::Text("-----BEGIN CERTIFICATE-----".to_owned());
    let options = pg::OpenOptions { ca_root: Some(certificate) };
    let without = pg::Connection::open_with_options(lines[0], pg::OpenOptions::default()).await;
    let with = pg::Connection::open_with_options(lines[0], options).await;
    vec![debug(without.map(|_| ())), debug(with.map(|_| ()))]
}

/// Calls the interfaces that need another server, at the host that the first line names.
async fn use_all_others(lines: &[&str]) -> Vec<String> {
    let host = lines[0];
    let address = |scheme: &str| format!("{scheme}://{host}/database");
    vec![
        debug(llm::infer(llm::InferencingModel::Llama2Chat, "Hello?").map(|_| ())),
        debug(mysql::Connection::open(address("mysql")).await.map(|_| ())),
    ]
}
