//! Every limit there is, in one place.

use std::time::Duration;

/// What one request, one instance and the whole server may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub instance_memory: usize,
    /// Processor time of one request. A guest that runs longer is stopped.
    pub request_cpu: Duration,
    /// Wall-clock time of one request, waiting for its client included.
    pub request_time: Duration,
    /// How long a client may take to send its header.
    pub header_time: Duration,
    /// How many instances may run at once: by default, as many as there are cores.
    pub instances: usize,
    /// How many requests may wait for an instance.
    pub queue_length: usize,
    /// How long a request may wait for an instance.
    pub queue_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            instance_memory: 256 << 20,
            request_cpu: Duration::from_secs(10),
            request_time: Duration::from_secs(60),
            header_time: Duration::from_secs(10),
            instances: std::thread::available_parallelism().map_or(2, usize::from),
            queue_length: 64,
            queue_wait: Duration::from_secs(1),
        }
    }
}
