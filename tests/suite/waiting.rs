//! Instances that wait take no CPU slot from those that compute, and their number and memory are bounded.

use std::thread::Scope;
use std::time::{Duration, Instant};

use spotter_tests::application::Application;
use spotter_tests::client::{self, Reply};
use spotter_tests::load;
use spotter_tests::server::Server;

/// Two components on routes of their own. `tool` belongs to the first.
fn two_components(tool: &str) -> Application {
    Application::new(&format!(
        r#"
[[trigger.http]]
route = "/one/..."
component = "one"

[[trigger.http]]
route = "/two/..."
component = "two"

[component.one]
source = "guest.wasm"
{tool}

[component.two]
source = "guest.wasm"
"#
    ))
}

/// The replies to this many requests at once, and the time until the last one.
fn at_once(server: &Server, path: &str, number: usize) -> (Vec<Reply>, Duration) {
    let began = Instant::now();
    let replies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..number).map(|_| ask(scope, server, path)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a reply")).collect()
    });
    (replies, began.elapsed())
}

fn ask<'a>(
    scope: &'a Scope<'a, '_>,
    server: &Server,
    path: &str,
) -> std::thread::ScopedJoinHandle<'a, Reply> {
    let url = server.url(path);
    scope.spawn(move || client::get(&url))
}

fn count(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}

#[test]
fn eight_requests_that_wait_three_seconds_each_take_three_seconds_together() {
    let server = Server::guests(&["--instances", "2"]);
    let (replies, took) = at_once(&server, "/guest/wait/3000", 8);
    assert_eq!(count(&replies, 200), 8, "{replies:?}");
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn instances_that_wait_cost_those_that_compute_nothing() {
    let server = Server::guests(&["--instances", "2"]);
    let compute = || {
        let outcome = load::post(&server.url("/guest/compute/4"), b"", 2, Duration::from_secs(3));
        assert_eq!(outcome.refused, Vec::<u16>::new());
        outcome.goodput()
    };
    compute();
    let alone = compute();
    let beside = std::thread::scope(|scope| {
        let waits: Vec<_> = (0..16).map(|_| ask(scope, &server, "/guest/wait/3500")).collect();
        server.wait_for_metric("spotter_instances_waiting", 16.0);
        let beside = compute();
        for wait in waits {
            assert_eq!(wait.join().expect("a reply").status, 200);
        }
        beside
    });
    println!("{alone:.1}/s alone, {beside:.1}/s beside 16 that wait");
    assert!(beside > 0.7 * alone, "{beside} of {alone}");
    assert_eq!(server.metric("spotter_instances_waiting"), 0.0);
}

#[test]
fn an_instance_that_waits_ends_at_its_time_limit_and_beyond_the_limit_on_instances_is_503() {
    let limits = ["--request-timeout", "1500ms", "--queue-timeout", "200ms"];
    // Half of the instances are for one of several components.
    let server = Server::guests(&[&limits[..], &["--max-instances", "8"]].concat());
    let (replies, took) = at_once(&server, "/guest/never-reply", 6);
    assert_eq!((count(&replies, 504), count(&replies, 503)), (4, 2), "{replies:?}");
    for reply in &replies {
        assert!(["request_timeout", "queue_timeout"].contains(&reply.error_code().as_str()));
    }
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(server.metric("spotter_instances"), 0.0);
    assert_eq!(client::get(&server.url("/guest/hello")).status, 200);
}

#[test]
fn what_instances_hold_while_they_wait_is_bounded() {
    let application = Application::new(
        "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"one\"\n[component.one]\nsource = \"guest.wasm\"\n",
    );
    // One that computes may take 64 MiB, and those that wait as much again.
    let server = application.up(&[
        "--instances",
        "1",
        "--instance-memory",
        "64MiB",
        "--waiting-memory",
        "64MiB",
        "--queue-timeout",
        "500ms",
    ]);
    let (replies, _) = at_once(&server, "/hold/40/3000", 5);
    assert_eq!((count(&replies, 200), count(&replies, 503)), (2, 3), "{replies:?}");
    // Instances that hold little are many.
    let (replies, _) = at_once(&server, "/hold/1/1000", 16);
    assert_eq!(count(&replies, 200), 16, "{replies:?}");
}

#[test]
fn one_components_instances_leave_room_for_another() {
    let application = two_components("");
    let server = application.up(&["--max-instances", "8", "--queue-timeout", "300ms"]);
    std::thread::scope(|scope| {
        let waits: Vec<_> = (0..80).map(|_| ask(scope, &server, "/one/wait/2500")).collect();
        std::thread::sleep(Duration::from_millis(700));
        for _ in 0..10 {
            let began = Instant::now();
            assert_eq!(client::get(&server.url("/two/hello")).body, b"hello");
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        }
        let replies: Vec<_> = waits.into_iter().map(|wait| wait.join().expect("a reply")).collect();
        assert_eq!((count(&replies, 200), count(&replies, 503)), (4, 76));
    });
}

#[test]
fn a_manifest_limits_the_instances_of_a_component() {
    let application = two_components("[component.one.tool.spotter]\nmax_instances = 1");
    let server = application.up(&["--queue-timeout", "300ms"]);
    let (replies, _) = at_once(&server, "/one/wait/1500", 4);
    assert_eq!((count(&replies, 200), count(&replies, 503)), (1, 3), "{replies:?}");
    let (replies, _) = at_once(&server, "/two/wait/1500", 4);
    assert_eq!(count(&replies, 200), 4, "{replies:?}");

    let none = two_components("[component.one.tool.spotter]\nmax_instances = 0").run(&["check"]);
    let error = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(!none.status.success() && error.contains("max_instances = 0"), "{error}");
}
