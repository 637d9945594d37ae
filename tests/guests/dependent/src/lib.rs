//! Replies with what its dependency returns, and with what it sees itself.

#![cfg(target_arch = "wasm32")]

use spin_sdk::http::{Request, Response};
use spin_sdk::http_component;

mod bindings {
    spin_sdk::wit_bindgen::generate!({
        inline: "
            package example:sums@1.0.0;
            interface add { add: func(a: u32, b: u32) -> u32; }
            interface surroundings { describe: func() -> string; }
            world user { import add; import surroundings; }
        ",
        runtime_path: "::spin_sdk::wit_bindgen::rt",
    });
}

use bindings::example::sums::{add, surroundings};

#[http_component]
fn handle(_: Request) -> Response {
    let own = std::env::var("GREETING").ok();
    let text = format!("{} {own:?} {}", add::add(2, 3), surroundings::describe());
    Response::new(200, text)
}
