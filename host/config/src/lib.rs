//! Configuration of the host: limits, the runtime configuration file, and the notation of sizes and times.

pub mod cgroup_memory;
mod fit_to_memory;
pub mod key_value_stores;
pub mod limits;
pub mod outbound_http;
pub mod providers;
pub mod redis_server;
mod resolve;
pub mod runtime_config;
pub mod sqlite_databases;
pub mod suggest;
pub mod units;

pub use limits::Limits;
