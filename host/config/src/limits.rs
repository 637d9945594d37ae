//! All limits in one place: what each one limits, its default, and its name as a flag, an environment variable
//! and a key of the `[limits]` table in the runtime configuration file.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde::Deserialize;

use super::memory;
use super::units::{Setting, Size, Time};

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
            $($(#[doc = $doc])* pub $name: <$unit as Setting>::Value,)*
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
            /// Each setting of these, or else of `file`.
            fn or(self, file: Self) -> Self {
                Self { $($name: self.$name.or(file.$name),)* }
            }

            /// Each limit from these settings, or else its default.
            fn limits(self) -> Limits {
                let defaults = Limits::default();
                Limits { $($name: self.$name.map_or(defaults.$name, Setting::value),)* }
            }
        }
    };
}

limits! {
    /// Linear memory of one instance [default: 256MiB]
    instance_memory: Size = 256 << 20, "SPOTTER_INSTANCE_MEMORY", "SIZE", alias "max-instance-memory";
    /// Instances that may compute at once; one that waits does not count [default: the number of cores]
    instances: usize = cores(), "SPOTTER_INSTANCES", "NUMBER";
    /// Instances that may exist at once, those that wait included; further requests wait in the queue
    /// [default: 64, or four times `instances`]
    max_instances: usize = max_instances(cores()), "SPOTTER_MAX_INSTANCES", "NUMBER";
    /// Memory of the instances that wait; if they hold more, fewer instances compute at once
    /// [default: 256MiB]
    waiting_memory: Size = 256 << 20, "SPOTTER_WAITING_MEMORY", "SIZE";
    /// Requests that may wait for an instance of one component [default: 64]
    queue_length: usize = 64, "SPOTTER_QUEUE_LENGTH", "NUMBER";
    /// How long a request may wait for an instance; then 503 [default: 1s]
    queue_timeout: Time = Duration::from_secs(1), "SPOTTER_QUEUE_TIMEOUT", "TIME";
    /// Processor time of one request; then 504 [default: 10s]
    request_cpu: Time = Duration::from_secs(10), "SPOTTER_REQUEST_CPU", "TIME";
    /// How long a request's instance may take until its reply begins, and between parts of it; then 504, or
    /// the reply is cut off [default: 60s]
    request_timeout: Time = Duration::from_secs(60), "SPOTTER_REQUEST_TIMEOUT", "TIME";
    /// How long a client may take to send a header; then 408 [default: 10s]
    header_timeout: Time = Duration::from_secs(10), "SPOTTER_HEADER_TIMEOUT", "TIME";
    /// How long a connection may stay idle between requests; then it is closed [default: 75s]
    keep_alive_timeout: Time = Duration::from_secs(75), "SPOTTER_KEEP_ALIVE_TIMEOUT", "TIME";
    /// How long a client may pause while it sends a body; then 408. How long it may take to read 64 KiB
    /// of a reply; then it is disconnected [default: 10s]
    body_idle_timeout: Time = Duration::from_secs(10), "SPOTTER_BODY_IDLE_TIMEOUT", "TIME";
    /// How long a client may take to send a body; then 408 [default: 2m]
    body_timeout: Time = Duration::from_secs(120), "SPOTTER_BODY_TIMEOUT", "TIME";
    /// How long a body is received before an instance starts early and reads the rest as it arrives, if there is
    /// enough free capacity [default: 250ms]
    body_wait: Time = Duration::from_millis(250), "SPOTTER_BODY_WAIT", "TIME";
    /// How much of a body is received before an instance starts; the rest streams to the instance
    /// [default: 10MiB]
    body_buffer: Size = 10 << 20, "SPOTTER_BODY_BUFFER", "SIZE";
    /// Memory for all buffered bodies; if it is full, those that have stalled the longest get 503
    /// [default: 256MiB]
    upload_memory: Size = 256 << 20, "SPOTTER_UPLOAD_MEMORY", "SIZE";
    /// Size of a body, chunked or not; a larger one gets 413 [default: 10MiB]
    body_size: Size = 10 << 20, "SPOTTER_BODY_SIZE", "SIZE";
    /// How much of a reply is buffered for a slow client, so that its instance can end [default: 4MiB]
    reply_buffer: Size = 4 << 20, "SPOTTER_REPLY_BUFFER", "SIZE";
    /// Memory for all buffered replies; if it is full, instances wait for their clients
    /// [default: 256MiB]
    reply_memory: Size = 256 << 20, "SPOTTER_REPLY_MEMORY", "SIZE";
    /// Size of one key-value store; beyond it, setting a value fails [default: 256MiB]
    key_value_size: Size = 256 << 20, "SPOTTER_KEY_VALUE_SIZE", "SIZE";
    /// Size of one SQLite database; beyond it, statements that add to it fail [default: 256MiB]
    sqlite_size: Size = 256 << 20, "SPOTTER_SQLITE_SIZE", "SIZE";
    /// Connections that may be open at once; further ones wait to be accepted [default: 10000, or as
    /// many as the limit on open files allows]
    connections: usize = 10_000, "SPOTTER_CONNECTIONS", "NUMBER";
    /// How long requests in flight may take to finish after a signal to stop [default: 30s]
    grace: Time = Duration::from_secs(30), "SPOTTER_GRACE", "TIME";
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// The default of [`Limits::max_instances`].
fn max_instances(instances: usize) -> usize {
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

impl LimitSettings {
    /// The limits from these settings and the defaults. `self` takes precedence over `file`. The defaults are lowered
    /// if they do not fit into `memory`, the bytes that the process may use.
    ///
    /// # Errors
    /// If a limit is 0, so that nothing could be served, or is too large.
    pub fn resolve(self, file: Self, memory: Option<u64>) -> anyhow::Result<Limits> {
        const MAX_BYTES: u64 = 1 << 40;
        const MAX_INSTANCES: usize = 10_000;
        // A hundred years or so: the end of a longer time may be no time at all.
        const MAX_TIME: Duration = Duration::from_secs(3_000_000_000);
        let set = self.or(file);
        let mut limits = set.limits();
        if set.max_instances.is_none() {
            limits.max_instances = max_instances(limits.instances).min(MAX_INSTANCES);
        }
        for (name, value) in [
            ("instance_memory", limits.instance_memory),
            ("instances", limits.instances as u64),
            ("max_instances", limits.max_instances as u64),
            ("connections", limits.connections as u64),
            ("body_size", limits.body_size),
        ] {
            ensure!(value > 0, "`{name}` is 0: nothing could be served; give it at least 1");
        }
        for (name, value) in [
            ("request_cpu", limits.request_cpu),
            ("request_timeout", limits.request_timeout),
            ("header_timeout", limits.header_timeout),
            ("body_idle_timeout", limits.body_idle_timeout),
            ("body_timeout", limits.body_timeout),
            ("body_wait", limits.body_wait),
        ] {
            ensure!(!value.is_zero(), "`{name}` is 0: nothing could be served; set a longer time");
            ensure!(value <= MAX_TIME, "`{name}` is {value:?}; the maximum is {MAX_TIME:?}");
        }
        let max_buffered = limits.body_size.min(limits.body_buffer);
        ensure!(
            limits.upload_memory >= max_buffered,
            "`upload_memory` is {}, but one body may need {max_buffered} bytes: raise it, or lower \
             `body_size` or `body_buffer`",
            limits.upload_memory
        );
        for (name, value) in [
            ("instance_memory", limits.instance_memory),
            ("upload_memory", limits.upload_memory),
            ("reply_memory", limits.reply_memory),
            ("waiting_memory", limits.waiting_memory),
        ] {
            ensure!(value <= MAX_BYTES, "`{name}` is {value}; the maximum is {MAX_BYTES} (1 TiB)");
        }
        for (name, value) in
            [("instances", limits.instances), ("max_instances", limits.max_instances)]
        {
            ensure!(value <= MAX_INSTANCES, "`{name}` is {value}; the maximum is {MAX_INSTANCES}");
        }
        let Some(available) = memory else { return Ok(limits) };
        let fitted = limits.fit_to_memory(&set, available);
        memory::report(&fitted, &limits, available);
        Ok(fitted)
    }
}

#[cfg(test)]
mod tests {
    use super::{LimitSettings, Limits};
    use std::time::Duration;

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let own = LimitSettings { instances: Some(3), ..LimitSettings::default() };
        let file: LimitSettings =
            toml::from_str("instances = 5\nqueue_timeout = \"250ms\"\nbody_size = 4096").unwrap();
        let limits = own.resolve(file, None).unwrap();
        assert_eq!(limits.instances, 3);
        assert_eq!(limits.queue_timeout, Duration::from_millis(250));
        assert_eq!(limits.body_size, 4096);
        assert_eq!(limits.grace, Limits::default().grace);
    }

    #[test]
    fn a_server_that_could_serve_nothing_is_refused() {
        for (text, reason) in [
            ("instances = 0", "`instances` is 0"),
            ("request_timeout = \"0s\"", "`request_timeout` is 0"),
            ("upload_memory = \"1MiB\"", "`upload_memory` is 1048576"),
            ("max_instances = 0", "`max_instances` is 0"),
            ("body_wait = \"18446744073709551615s\"", "the maximum is 3000000000s"),
        ] {
            let settings: LimitSettings = toml::from_str(text).unwrap();
            let refused = settings.resolve(LimitSettings::default(), None).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
