//! Every limit there is, in one place: what it bounds, its default, and its one name as a flag, an
//! environment variable and a key of the `[limits]` table in a runtime configuration file.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde::{Deserialize, Deserializer};

/// What one request, one instance and the whole server may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub instance_memory: usize,
    /// Instances that run at once.
    pub instances: usize,
    /// Requests that wait for an instance.
    pub queue_length: usize,
    /// How long a request waits for an instance, before it is answered with 503.
    pub queue_wait: Duration,
    /// Processor time of one request: a guest that runs longer is stopped, and the reply is 504.
    pub request_cpu: Duration,
    /// Time of one request from the start of its instance to the end of its reply, waiting for its
    /// client included; the reply is 504.
    pub request_time: Duration,
    /// How long a client may take to send a request's header, before it is answered with 408.
    pub header_time: Duration,
    /// How long a client may pause within a body, before it is answered with 408.
    pub body_idle: Duration,
    /// How long a client may take to send a body, before it is answered with 408.
    pub body_time: Duration,
    /// How much of a body, in bytes, is received before an instance is made for its request; what
    /// is beyond streams to the guest.
    pub body_buffer: u64,
    /// How many bytes of bodies are held at once; a request that needs more is answered with 503.
    pub upload_memory: u64,
    /// Size of a request's body, in bytes, however it is sent; more is answered with 413.
    pub body_size: u64,
    /// Connections that are open at once; further ones wait to be accepted.
    pub connections: usize,
    /// How long requests in flight may take to finish once the server is told to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            instance_memory: 256 << 20,
            instances: std::thread::available_parallelism().map_or(2, usize::from),
            queue_length: 64,
            queue_wait: Duration::from_secs(1),
            request_cpu: Duration::from_secs(10),
            request_time: Duration::from_secs(60),
            header_time: Duration::from_secs(10),
            body_idle: Duration::from_secs(10),
            body_time: Duration::from_secs(120),
            body_buffer: 10 << 20,
            upload_memory: 256 << 20,
            body_size: 10 << 20,
            connections: 10_000,
            grace: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Instances that other instances may have called at once, beside [`Limits::instances`].
    pub fn nested_instances(&self) -> usize {
        self.instances * 4
    }
}

/// The limits as a user sets them: by flag, by environment variable, or by file; what is not set
/// keeps its default.
#[derive(Args, Clone, Copy, Debug, Default, Deserialize)]
#[command(next_help_heading = "Limits")]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Linear memory of one instance [default: 256MiB]
    #[arg(
        long,
        env = "SPOTTER_INSTANCE_MEMORY",
        value_name = "SIZE",
        visible_alias = "max-instance-memory"
    )]
    pub instance_memory: Option<Size>,
    /// Instances that run at once [default: the number of cores]
    #[arg(long, env = "SPOTTER_INSTANCES", value_name = "NUMBER")]
    pub instances: Option<usize>,
    /// Requests that wait for an instance [default: 64]
    #[arg(long, env = "SPOTTER_QUEUE_LENGTH", value_name = "NUMBER")]
    pub queue_length: Option<usize>,
    /// How long a request waits for an instance; then 503 [default: 1s]
    #[arg(long, env = "SPOTTER_QUEUE_WAIT", value_name = "TIME")]
    pub queue_wait: Option<Time>,
    /// Processor time of one request; then 504 [default: 10s]
    #[arg(long, env = "SPOTTER_REQUEST_CPU", value_name = "TIME")]
    pub request_cpu: Option<Time>,
    /// Time of one request, waiting for its client included; then 504 [default: 60s]
    #[arg(
        long,
        env = "SPOTTER_REQUEST_TIME",
        value_name = "TIME",
        visible_alias = "request-timeout"
    )]
    pub request_time: Option<Time>,
    /// How long a client may take to send a header; then 408 [default: 10s]
    #[arg(long, env = "SPOTTER_HEADER_TIME", value_name = "TIME")]
    pub header_time: Option<Time>,
    /// How long a client may pause within a body; then 408 [default: 10s]
    #[arg(long, env = "SPOTTER_BODY_IDLE", value_name = "TIME")]
    pub body_idle: Option<Time>,
    /// How long a client may take to send a body; then 408 [default: 2m]
    #[arg(long, env = "SPOTTER_BODY_TIME", value_name = "TIME")]
    pub body_time: Option<Time>,
    /// How much of a body is received before an instance is made [default: 10MiB]
    #[arg(long, env = "SPOTTER_BODY_BUFFER", value_name = "SIZE")]
    pub body_buffer: Option<Size>,
    /// Bytes of bodies that are held at once; more is 503 [default: 256MiB]
    #[arg(long, env = "SPOTTER_UPLOAD_MEMORY", value_name = "SIZE")]
    pub upload_memory: Option<Size>,
    /// Size of a body; more is 413 [default: 10MiB]
    #[arg(long, env = "SPOTTER_BODY_SIZE", value_name = "SIZE")]
    pub body_size: Option<Size>,
    /// Connections that are open at once [default: 10000]
    #[arg(long, env = "SPOTTER_CONNECTIONS", value_name = "NUMBER")]
    pub connections: Option<usize>,
    /// How long requests in flight may take to finish when stopping [default: 30s]
    #[arg(long, env = "SPOTTER_GRACE", value_name = "TIME")]
    pub grace: Option<Time>,
}

impl LimitSettings {
    /// The limits these settings make of the defaults; `self` goes before `file`.
    ///
    /// # Errors
    /// A limit of nothing, where nothing could then be served.
    pub fn resolve(self, file: Self) -> anyhow::Result<Limits> {
        let usual = Limits::default();
        let size = |own: Option<Size>, file: Option<Size>| own.or(file).map(|size| size.0);
        let number = |own: Option<usize>, file: Option<usize>| own.or(file);
        let time = |own: Option<Time>, file: Option<Time>| own.or(file).map(|time| time.0);
        let limits = Limits {
            instance_memory: size(self.instance_memory, file.instance_memory)
                .map_or(Ok(usual.instance_memory), usize::try_from)?,
            instances: number(self.instances, file.instances).unwrap_or(usual.instances),
            queue_length: number(self.queue_length, file.queue_length)
                .unwrap_or(usual.queue_length),
            queue_wait: time(self.queue_wait, file.queue_wait).unwrap_or(usual.queue_wait),
            request_cpu: time(self.request_cpu, file.request_cpu).unwrap_or(usual.request_cpu),
            request_time: time(self.request_time, file.request_time).unwrap_or(usual.request_time),
            header_time: time(self.header_time, file.header_time).unwrap_or(usual.header_time),
            body_idle: time(self.body_idle, file.body_idle).unwrap_or(usual.body_idle),
            body_time: time(self.body_time, file.body_time).unwrap_or(usual.body_time),
            body_buffer: size(self.body_buffer, file.body_buffer).unwrap_or(usual.body_buffer),
            upload_memory: size(self.upload_memory, file.upload_memory)
                .unwrap_or(usual.upload_memory),
            body_size: size(self.body_size, file.body_size).unwrap_or(usual.body_size),
            connections: number(self.connections, file.connections).unwrap_or(usual.connections),
            grace: time(self.grace, file.grace).unwrap_or(usual.grace),
        };
        for (name, value) in [
            ("instance_memory", limits.instance_memory),
            ("instances", limits.instances),
            ("connections", limits.connections),
        ] {
            ensure!(value > 0, "`{name}` is 0: nothing could be served; give it at least 1");
        }
        ensure!(limits.instances <= 10_000, "`instances` is {}: at most 10000", limits.instances);
        Ok(limits)
    }
}

/// A size as a person writes it: `256MiB`, `10MB`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let expected = || format!("{text:?} is no size; write 4096, 512KiB, 10MB or 2GiB");
        let number: u64 = number.parse().with_context(expected)?;
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "k" | "ki" | "kib" => 1 << 10,
            "m" | "mi" | "mib" => 1 << 20,
            "g" | "gi" | "gib" => 1 << 30,
            _ => anyhow::bail!(expected()),
        };
        number.checked_mul(factor).map(Self).with_context(expected)
    }
}

/// A time as a person writes it: `10s`, `1m 30s`, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        humantime::parse_duration(text)
            .map(Self)
            .with_context(|| format!("{text:?} is no time; write 250ms, 10s or 1m 30s"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text_or_number(deserializer)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text_or_number(deserializer)
    }
}

/// Files may write `4096` where a command line can only write `"4096"`.
fn from_text_or_number<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    let text = match Written::deserialize(deserializer)? {
        Written::Number(number) => number.to_string(),
        Written::Text(text) => text,
    };
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::{LimitSettings, Limits, Size, Time};
    use std::time::Duration;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("512KiB", 512 << 10),
            ("10MB", 10_000_000),
            ("2 GiB", 2 << 30),
            ("1Mi", 1 << 20),
        ] {
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
        }
        for text in ["", "MiB", "10 parsecs", "-1", "99999999999GiB"] {
            assert!(text.parse::<Size>().unwrap_err().to_string().contains("is no size"), "{text}");
        }
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let own = LimitSettings { instances: Some(3), ..LimitSettings::default() };
        let file: LimitSettings =
            toml::from_str("instances = 5\nqueue_wait = \"250ms\"\nbody_size = 4096").unwrap();
        let limits = own.resolve(file).unwrap();
        assert_eq!(limits.instances, 3);
        assert_eq!(limits.queue_wait, Duration::from_millis(250));
        assert_eq!(limits.body_size, 4096);
        assert_eq!(limits.grace, Limits::default().grace);
        assert_eq!("1m 30s".parse::<Time>().unwrap().0, Duration::from_secs(90));
    }

    #[test]
    fn a_server_that_could_serve_nothing_is_refused() {
        let own = LimitSettings { instances: Some(0), ..LimitSettings::default() };
        assert!(
            own.resolve(LimitSettings::default())
                .unwrap_err()
                .to_string()
                .contains("`instances` is 0")
        );
    }
}
