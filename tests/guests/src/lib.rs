//! A component that misbehaves in a different way on each path, and behaves well on some.

#![cfg(target_arch = "wasm32")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{Sink, SinkExt, StreamExt};
use spin_sdk::http::{
    Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, Request, Response,
    ResponseOutparam, SendError,
};
use spin_sdk::http_component;
use spin_sdk::key_value::Store;
use spin_sdk::variables;

/// In memory: 0 in every fresh instance.
static CANARY: AtomicU32 = AtomicU32::new(0);

// The same in a WebAssembly global. Rust cannot declare one, so build.rs writes an object file.
unsafe extern "C" {
    /// Sets the global, and returns its previous value.
    safe fn swap_canary_global(value: i32) -> i32;
}

#[http_component]
async fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let headers = request.headers();
    let header = |name: &str| {
        let values = headers.get(&name.to_owned());
        values.into_iter().next().map(|value| String::from_utf8_lossy(&value).into_owned())
    };
    let path = header("spin-path-info").unwrap_or_default();
    let id = header("x-request-id").unwrap_or_default();
    let trace = header("traceparent").unwrap_or_default();
    let url = header("spin-full-url").unwrap_or_default();
    let fields = headers.entries();
    drop(headers);
    match path.as_str() {
        "/hello" | "/ignore-body" => reply(out, "hello").await,
        "/length" => {
            let length = body_of(request).await.len();
            reply(out, &length.to_string()).await;
        }
        "/canary" => reply(out, &canaries()).await,
        "/headers" => reply(out, &format!("{id} {trace}")).await,
        "/all-headers" => reply(out, &lines(&fields)).await,
        "/url" => reply(out, &url).await,
        "/environment" => reply(out, &std::env::var("GREETING").unwrap_or_default()).await,
        "/variable" => reply(out, &variables::get("greeting").unwrap_or_default()).await,
        "/invalid-variable" => reply(out, &format!("{:?}", variables::get("invalid-name"))).await,
        "/file" => reply(out, &std::fs::read_to_string("/texts/one.txt").unwrap_or_default()).await,
        "/read" => {
            let path = String::from_utf8_lossy(&body_of(request).await).into_owned();
            let text = std::fs::read_to_string(path);
            reply(out, &text.unwrap_or_else(|error| format!("failed: {error}"))).await;
        }
        "/write" => {
            let path = String::from_utf8_lossy(&body_of(request).await).into_owned();
            let written = std::fs::write(path, "written");
            let text = written.map_or_else(|error| format!("failed: {error}"), |()| "done".into());
            reply(out, &text).await;
        }
        "/say" => {
            let text = String::from_utf8_lossy(&body_of(request).await).into_owned();
            println!("out: {text}");
            eprintln!("err: {text}");
            reply(out, "said").await;
        }
        "/store" => reply(out, &stored()).await,
        "/store-limits" => reply(out, &store_limits()).await,
        "/other-store" => {
            let refused = Store::open("other").err().map(|error| error.to_string());
            reply(out, &refused.unwrap_or_default()).await;
        }
        "/fetch" => {
            let url = String::from_utf8_lossy(&body_of(request).await).into_owned();
            reply(out, &fetch(&url).await).await;
        }
        "/call-myself" => reply(out, &fetch("http://guest.spin.internal/call-myself").await).await,
        "/detections" => {
            let found = ("spotter-detections".to_owned(), b"test; dog=2, cat=1".to_vec());
            send(out, vec![found], "found").await;
        }
        "/bad-detections" => {
            let found = format!("m\"; a\"=1, b\\=2, {}=3", "c".repeat(1000));
            send(out, vec![("spotter-detections".to_owned(), found.into_bytes())], "found").await;
        }
        "/shout" => {
            eprint!("{}", "x\n".repeat(20_000));
            reply(out, "shouted").await;
        }
        "/hoard-bodies" => {
            let hoard: Vec<_> = (0..300).map(|_| unsent_body()).collect();
            let bytes: u64 = hoard.iter().map(|(bytes, ..)| bytes).sum();
            reply(out, &bytes.to_string()).await;
            std::thread::sleep(Duration::from_secs(2));
        }
        "/hoard-handles" => {
            let hoard: Vec<_> = (0..2000).map(|_| Fields::new()).collect();
            reply(out, &hoard.len().to_string()).await;
        }
        "/loop" => loop {
            CANARY.fetch_add(1, Ordering::Relaxed);
        },
        "/grow" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(vec![1; 1 << 20]);
            }
        }
        "/trap" => {
            eprintln!("about to trap");
            std::arch::wasm32::unreachable()
        }
        "/panic" => panic!("a guest's panic"),
        "/no-reply" => {}
        "/never-end" => {
            let mut body = begin(out);
            let _ = body.send(b"a beginning".to_vec()).await;
            wait_for_ever();
        }
        "/never-reply" => wait_for_ever(),
        "/large" => {
            let mut body = begin(out);
            for _ in 0..256 {
                // The host stops it once the client has disconnected.
                let Ok(()) = body.send(vec![b'x'; 64 << 10]).await else { return };
            }
        }
        "/work-on" => {
            reply(out, "replied").await;
            std::thread::sleep(Duration::from_millis(600));
            eprintln!("worked on after its reply");
        }
        "/echo" => echo(request, out).await,
        _ => match numbers(&path) {
            Some(("wait", [milliseconds, _])) => {
                std::thread::sleep(Duration::from_millis(milliseconds));
                reply(out, "waited").await;
            }
            Some(("hold", [mebibytes, milliseconds])) => {
                let held = std::hint::black_box(vec![1_u8; (mebibytes as usize) << 20]);
                std::thread::sleep(Duration::from_millis(milliseconds));
                reply(out, &held.len().to_string()).await;
            }
            Some(("compute", [rounds, _])) => reply(out, &compute(rounds).to_string()).await,
            Some(("events", [number, milliseconds])) => {
                events(out, number, Duration::from_millis(milliseconds)).await;
            }
            _ => reply(out, "unknown").await,
        },
    }
}

/// The name and the numbers of a path such as `/events/10/200`; a number that is missing is 0.
fn numbers(path: &str) -> Option<(&str, [u64; 2])> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let name = parts.next()?;
    let mut number = || parts.next().map_or(Some(0), |text| text.parse().ok());
    Some((name, [number()?, number()?]))
}

/// Arithmetic for a while, without a pause.
fn compute(rounds: u64) -> u64 {
    (0..rounds << 20)
        .fold(1, |sum, round| std::hint::black_box(sum ^ round).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Server-sent events, with a pause before each.
async fn events(out: ResponseOutparam, number: u64, pause: Duration) {
    let mut body = begin(out);
    for index in 0..number {
        std::thread::sleep(pause);
        let Ok(()) = body.send(format!("data: {index}\n\n").into_bytes()).await else { return };
    }
}

/// Sends each part of the body back as it arrives.
async fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let mut stream = request.into_body_stream();
    let mut body = begin(out);
    while let Some(Ok(chunk)) = stream.next().await {
        let Ok(()) = body.send(chunk).await else { return };
    }
}

/// Begins a reply whose body follows.
fn begin(out: ResponseOutparam) -> impl Sink<Vec<u8>, Error = impl Sized> + Unpin {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.take_body();
    out.set(response);
    body
}

/// Header fields, one a line.
fn lines(fields: &[(String, Vec<u8>)]) -> String {
    let line =
        |(name, value): &(String, Vec<u8>)| format!("{name}: {}\n", String::from_utf8_lossy(value));
    fields.iter().map(line).collect()
}

fn wait_for_ever() {
    std::thread::sleep(Duration::from_secs(1 << 30));
}

async fn body_of(request: IncomingRequest) -> Vec<u8> {
    let mut stream = request.into_body_stream();
    let mut body = Vec::new();
    while let Some(Ok(chunk)) = stream.next().await {
        body.extend_from_slice(&chunk);
    }
    body
}

/// The number of requests so far, in all instances.
fn stored() -> String {
    let store = Store::open_default().expect("the store that the manifest grants");
    let before = store.get("count").expect("a value or none").unwrap_or_default();
    let count = String::from_utf8_lossy(&before).parse().unwrap_or(0) + 1;
    store.set("count", count.to_string().as_bytes()).expect("a value that is stored");
    format!("{count} {:?}", store.get_keys().expect("keys"))
}

/// How a store of 3 MiB refuses what is too large, line by line.
fn store_limits() -> String {
    let store = Store::open_default().expect("the store that the manifest grants");
    let refusal = |key: &str, bytes: usize| {
        store.set(key, &vec![7; bytes]).err().map_or("stored".to_owned(), |error| error.to_string())
    };
    let mut lines = vec![refusal(&"k".repeat(2000), 1), refusal("k", 2 << 20)];
    lines.extend((0..4).map(|index| refusal(&index.to_string(), 900 << 10)));
    store.delete("0").expect("a key that is deleted");
    lines.push(refusal("4", 900 << 10));
    lines.join("\n")
}

/// The body of a request that is never sent, filled with as many bytes as the host takes.
fn unsent_body() -> (u64, impl Sized, OutgoingBody, OutgoingRequest) {
    let request = OutgoingRequest::new(Fields::new());
    let body = request.body().expect("a body");
    let stream = body.write().expect("a stream");
    let mut bytes = 0;
    while let Ok(room @ 1..) = stream.check_write() {
        stream.write(&vec![1; room as usize]).expect("a write");
        bytes += room;
    }
    (bytes, stream, body, request)
}

async fn fetch(url: &str) -> String {
    let request = Request::get(url).build();
    let response: Result<Response, SendError> = spin_sdk::http::send(request).await;
    match response {
        Ok(response) => {
            format!("{} {}", response.status(), String::from_utf8_lossy(response.body()))
        }
        Err(error) => format!("failed: {error}"),
    }
}

/// Reports the traces of earlier requests that this one sees, and then leaves its own.
fn canaries() -> String {
    let memory = CANARY.swap(1, Ordering::Relaxed) != 0;
    let global = swap_canary_global(1) != 0;
    let environment = std::env::var("CANARY").is_ok();
    let file = std::fs::exists("/canary").unwrap_or(false);
    // SAFETY: a component has one thread.
    unsafe { std::env::set_var("CANARY", "1") };
    let written = std::fs::write("/canary", "1").is_ok();
    format!(
        "memory {memory} global {global} environment {environment} file {file} written {written}"
    )
}

async fn reply(out: ResponseOutparam, text: &str) {
    send(out, Vec::new(), text).await;
}

async fn send(out: ResponseOutparam, headers: Vec<(String, Vec<u8>)>, text: &str) {
    let fields = Fields::from_list(&headers).unwrap_or_else(|_| Fields::new());
    let response = OutgoingResponse::new(fields);
    let mut body = response.take_body();
    out.set(response);
    let _ = body.send(text.as_bytes().to_vec()).await;
}
