//! All limits in one place: what each one limits, its default, and its name as a flag, an environment variable
//! and a key of the `[limits]` table in the runtime configuration file.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::units::{ByteSize, ConfigValue, HumanDuration};

/// The maximum depth of calls between guests, which stops a component that calls itself.
pub const MAX_CALL_DEPTH: u32 = 8;

/// Declares each limit once, with its documentation, unit, default and environment variable.
macro_rules! limits {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident: $unit:ident = $default:expr, $env:literal, $placeholder:literal $(, alias $alias:literal)?;
    )*) => {
        /// Limits for one request, one instance and the whole server.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])* pub $name: <$unit as ConfigValue>::Value,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// The limits that a user sets by flag, environment variable or file. The others keep their
        /// defaults.
        #[derive(Args, Clone, Copy, Debug, Default, Deserialize)]
        #[command(next_help_heading = "Limits")]
        #[serde(deny_unknown_fields, default)]
        pub struct LimitSettings {
            $(
                $(#[doc = $doc])*
                #[arg(long, env = $env, value_name = $placeholder $(, visible_alias = $alias)?)]
                pub $name: Option<$unit>,
            )*
        }

        impl LimitSettings {
            /// Takes each setting from `self`, or else from `file`.
            pub(super) fn or(self, file: Self) -> Self {
                Self { $($name: self.$name.or(file.$name),)* }
            }

            /// Takes each limit from these settings, or else its default.
            pub(super) fn limits(self) -> Limits {
                let defaults = Limits::default();
                Limits { $($name: self.$name.map_or(defaults.$name, ConfigValue::value),)* }
            }
        }
    };
}

limits! {
    /// Memory of one instance: its linear memory, tables and tensors; a request that fails for lack of it gets 500
    /// [default: 256MiB]
    instance_memory: ByteSize = 256 << 20, "SPOTTER_INSTANCE_MEMORY", "SIZE", alias "max-instance-memory";
    /// Instances that may compute at once; one that waits does not count [default: the number of
    /// cores, or fewer if memory is limited]
    instances: usize = cores(), "SPOTTER_INSTANCES", "NUMBER";
    /// Instances that may exist at once, including those that wait; further requests wait in the queue [default: 64, or
    /// four times `instances` if that is more]
    max_instances: usize = max_instances(cores()), "SPOTTER_MAX_INSTANCES", "NUMBER";
    /// Memory of the instances that wait; if they hold more, fewer instances compute at once
    /// [default: 256MiB]
    waiting_memory: ByteSize = 256 << 20, "SPOTTER_WAITING_MEMORY", "SIZE";
    /// Requests that may wait for an instance of one component; further ones get 503 [default: 64]
    queue_length: usize = 64, "SPOTTER_QUEUE_LENGTH", "NUMBER";
    /// How long a request may wait for an instance; then 503 [default: 1s]
    queue_timeout: HumanDuration = Duration::from_secs(1), "SPOTTER_QUEUE_TIMEOUT", "TIME";
    /// CPU time of one request; then 504 [default: 10s]
    request_cpu: HumanDuration = Duration::from_secs(10), "SPOTTER_REQUEST_CPU", "TIME";
    /// How long an instance may take to begin its reply (then 504), or to continue it (then the reply is cut off)
    /// [default: 60s]
    request_timeout: HumanDuration = Duration::from_secs(60), "SPOTTER_REQUEST_TIMEOUT", "TIME";
    /// How long a client may take to send a header; then 408 [default: 10s]
    header_timeout: HumanDuration = Duration::from_secs(10), "SPOTTER_HEADER_TIMEOUT", "TIME";
    /// How long a connection may stay idle between requests; then it is closed [default: 75s]
    keep_alive_timeout: HumanDuration = Duration::from_secs(75), "SPOTTER_KEEP_ALIVE_TIMEOUT", "TIME";
    /// How long a client may pause while it sends a body (then 408), or take to read 64 KiB of a reply (then it is
    /// disconnected) [default: 10s]
    body_idle_timeout: HumanDuration = Duration::from_secs(10), "SPOTTER_BODY_IDLE_TIMEOUT", "TIME";
    /// How long a client may take to send a body; then 408 [default: 2m]
    body_timeout: HumanDuration = Duration::from_secs(120), "SPOTTER_BODY_TIMEOUT", "TIME";
    /// How long a body is received before an instance starts early and reads the rest as it arrives, if there is
    /// enough free capacity [default: 250ms]
    body_wait: HumanDuration = Duration::from_millis(250), "SPOTTER_BODY_WAIT", "TIME";
    /// How much of a body is received before an instance starts; the rest streams to the instance
    /// [default: 10MiB]
    body_buffer: ByteSize = 10 << 20, "SPOTTER_BODY_BUFFER", "SIZE";
    /// Memory for all buffered bodies, and the headers of waiting requests; if it is full, the requests that have
    /// stalled the longest get 503
    /// [default: 256MiB]
    upload_memory: ByteSize = 256 << 20, "SPOTTER_UPLOAD_MEMORY", "SIZE";
    /// Size of a body, chunked or not; a larger one gets 413 [default: 10MiB]
    body_size: ByteSize = 10 << 20, "SPOTTER_BODY_SIZE", "SIZE";
    /// How much of a reply is buffered for a slow client, so that its instance can end [default: 4MiB]
    reply_buffer: ByteSize = 4 << 20, "SPOTTER_REPLY_BUFFER", "SIZE";
    /// Memory for all buffered replies; if it is full, instances wait for their clients
    /// [default: 256MiB]
    reply_memory: ByteSize = 256 << 20, "SPOTTER_REPLY_MEMORY", "SIZE";
    /// Size of one key-value store; beyond it, setting a value fails [default: 256MiB]
    key_value_size: ByteSize = 256 << 20, "SPOTTER_KEY_VALUE_SIZE", "SIZE";
    /// Size of one SQLite database; beyond it, statements that add to it fail [default: 256MiB]
    sqlite_size: ByteSize = 256 << 20, "SPOTTER_SQLITE_SIZE", "SIZE";
    /// Connections that may be open at once; further ones wait to be accepted [default: 10000, or as
    /// many as the limits on open files and memory allow]
    connections: usize = 10_000, "SPOTTER_CONNECTIONS", "NUMBER";
    /// How long requests in flight may take to finish after a signal to stop [default: 30s]
    grace: HumanDuration = Duration::from_secs(30), "SPOTTER_GRACE", "TIME";
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// The default of [`Limits::max_instances`].
pub(super) fn max_instances(instances: usize) -> usize {
    instances.saturating_mul(4).max(64)
}

impl Limits {
    /// Instances that other instances may call at once at each depth of calls, in addition to
    /// [`Limits::max_instances`].
    pub fn called_instances(&self) -> usize {
        self.instances.max(self.max_instances / MAX_CALL_DEPTH as usize)
    }

    /// The same, at all depths together.
    pub fn nested_instances(&self) -> usize {
        self.called_instances() * MAX_CALL_DEPTH as usize
    }
}
