//! Resolves the limits from flags, the runtime configuration file, defaults and the available memory.

use std::time::Duration;

use anyhow::ensure;

use super::fit_to_memory::warn_about_shortage;
use super::limits::{LimitSettings, Limits, max_instances};

const MAX_MEMORY_BYTES: u64 = 1 << 40;
const MAX_INSTANCES: usize = 10_000;
/// About a hundred years. The clock may overflow with a longer one.
const MAX_TIMEOUT: Duration = Duration::from_secs(3_000_000_000);

impl LimitSettings {
    /// The limits from these settings and the defaults. `self` takes precedence over `file`. The defaults are lowered
    /// if they do not fit into `memory`, the bytes that the process may use.
    ///
    /// # Errors
    /// If a limit is 0, so that nothing could be served, or is too large.
    pub fn resolve(self, file: Self, memory: Option<u64>) -> anyhow::Result<Limits> {
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
            ensure!(value <= MAX_TIMEOUT, "`{name}` is {value:?}; the maximum is {MAX_TIMEOUT:?}");
        }
        let keep_alive = limits.keep_alive_timeout;
        ensure!(
            keep_alive <= MAX_TIMEOUT,
            "`keep_alive_timeout` is {keep_alive:?}; the maximum is {MAX_TIMEOUT:?}"
        );
        let max_buffered = limits.body_size.min(limits.body_buffer);
        ensure!(
            limits.upload_memory >= max_buffered,
            "`upload_memory` is {} bytes, but one body may need {max_buffered} bytes: raise it, or lower \
             `body_size` or `body_buffer`",
            limits.upload_memory
        );
        for (name, value) in [
            ("instance_memory", limits.instance_memory),
            ("upload_memory", limits.upload_memory),
            ("reply_memory", limits.reply_memory),
            ("waiting_memory", limits.waiting_memory),
        ] {
            ensure!(
                value <= MAX_MEMORY_BYTES,
                "`{name}` is {value} bytes; the maximum is {MAX_MEMORY_BYTES} bytes (1 TiB)"
            );
        }
        for (name, value) in
            [("instances", limits.instances), ("max_instances", limits.max_instances)]
        {
            ensure!(value <= MAX_INSTANCES, "`{name}` is {value}; the maximum is {MAX_INSTANCES}");
        }
        let Some(available) = memory else { return Ok(limits) };
        let fitted = limits.fit_to_memory(&set, available);
        warn_about_shortage(&fitted, &limits, available);
        Ok(fitted)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LimitSettings, Limits};

    #[test]
    fn a_flag_overrides_the_file_and_the_file_overrides_the_default() {
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
