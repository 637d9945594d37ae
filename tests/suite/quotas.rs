//! What a guest can use through the host is limited, and a guest that reaches a limit gets an error.

use spotter_tests::application::Application;
use spotter_tests::client;
use spotter_tests::server::Server;

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads memory from /proc")]
fn bodies_that_a_guest_never_sends_take_little_memory() {
    let server = Server::guests(&[]);
    let hoard = || client::get(&server.url("/guest/hoard-bodies"));
    let before = server.resident();
    let reply = hoard();
    let after = server.resident();
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let buffered: u64 = text.parse().unwrap_or_else(|_| panic!("{} {text}", reply.status));
    println!("{buffered} bytes in 300 bodies; {} KiB more resident", (after - before) >> 10);
    // The host accepts a part of each body, so that all of them can be sent.
    assert!((300 * 4096..=16 << 20).contains(&buffered), "{buffered}");
    assert!(after < before + (64 << 20), "{before} bytes before, {after} after");
}

#[test]
fn a_guest_with_too_many_handles_is_stopped_and_told_so() {
    let server = Server::guests(&[]);
    let reply = client::get(&server.url("/guest/hoard-handles"));
    assert_eq!((reply.status, reply.error_code().as_str()), (500, "handle_limit_exceeded"));
    assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
}

#[test]
fn a_key_value_store_refuses_what_is_too_large_and_says_why() {
    let server = Server::guests(&["--key-value-size", "3MiB"]);
    let reply = client::get(&server.url("/guest/store-limits"));
    let text = String::from_utf8(reply.body).expect("text");
    let expected = [
        "the key has 2000 bytes; the limit is 1024",
        "the value has 2097152 bytes; the limit is 1048576",
        "stored",
        "stored",
        "stored",
        "is full: with this value it would have 3686660 bytes; the limit is 3145728",
        "stored",
    ];
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "{line:?} is not {expected:?}");
    }
}

/// A CGI program that doubles its table until that fails, 30 times at most, and says how often it could, in letters.
const TABLES: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (table $all 1024 funcref)
    (data (i32.const 64) "content-type: text/plain\n\n")
    (func (export "_start") (local $times i32)
        (block $full
            (loop $more
                (br_if $full (i32.eq (i32.const -1)
                    (table.grow $all (ref.null func) (table.size $all))))
                (i32.store8 (i32.add (i32.const 90) (local.get $times)) (i32.const 120))
                (local.set $times (i32.add (local.get $times) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $times) (i32.const 30)))))
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.add (i32.const 26) (local.get $times)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

#[test]
fn a_guests_tables_count_as_its_memory() {
    let manifest = "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"tables\"\n\
                    executor = { type = \"wagi\" }\n[component.tables]\nsource = \"tables.wasm\"\n";
    let module = wat::parse_str(TABLES).expect("a module");
    let application = Application::new(manifest).with("tables.wasm", module);
    let times = |memory: &str| {
        let reply = client::get(&application.up(&["--instance-memory", memory]).url("/"));
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        reply.body.len()
    };
    // 8 KiB at first. The program has a memory of 64 KiB, and the adapter's some more.
    let (few, many) = (times("1MiB"), times("4MiB"));
    println!("doubled {few} times in 1 MiB, {many} times in 4 MiB");
    assert!((3..=6).contains(&few), "{few}");
    assert!(many > few && many <= 8, "{many}");
}
