//! Patience with an emulated machine: `SPOTTER_TEST_SLOWNESS` says how many times slower it is.

use std::time::Duration;

/// How long something may take that takes no longer than `usual` elsewhere.
pub fn allow(usual: Duration) -> Duration {
    usual * slowness()
}

/// Environment variables that raise a server's time limits for an emulated machine; none for another machine.
pub fn server_limits() -> &'static [(&'static str, &'static str)] {
    const LIMITS: [(&str, &str); 3] = [
        ("SPOTTER_REQUEST_CPU", "10m"),
        ("SPOTTER_REQUEST_TIMEOUT", "10m"),
        ("SPOTTER_QUEUE_TIMEOUT", "10m"),
    ];
    if slowness() > 1 { &LIMITS } else { &[] }
}

fn slowness() -> u32 {
    let said = std::env::var("SPOTTER_TEST_SLOWNESS").ok();
    said.map_or(1, |said| said.parse().expect("a number in SPOTTER_TEST_SLOWNESS"))
}
