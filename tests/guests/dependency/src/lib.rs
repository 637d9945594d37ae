//! Adds numbers for another component, and says what it sees of that component's environment and files.

#![cfg(target_arch = "wasm32")]

mod bindings {
    spin_sdk::wit_bindgen::generate!({
        inline: "
            package example:sums@1.0.0;
            interface add { add: func(a: u32, b: u32) -> u32; }
            interface surroundings { describe: func() -> string; }
            world provider { export add; export surroundings; }
        ",
        runtime_path: "::spin_sdk::wit_bindgen::rt",
    });
}

use bindings::exports::example::sums::{add, surroundings};

struct Provider;

impl add::Guest for Provider {
    fn add(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
}

impl surroundings::Guest for Provider {
    fn describe() -> String {
        let variables: Vec<String> =
            std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
        let file = std::fs::read_to_string("/texts/one.txt").ok();
        format!("{variables:?} {file:?}")
    }
}

bindings::export!(Provider with_types_in bindings);
