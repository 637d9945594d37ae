//! Lowers the limits that the user did not set, until all that the server accepts fits into the memory that the process
//! may use.

use super::limits::{LimitSettings, Limits};

/// What the server needs in addition to instances, connections and buffers: its code's own data and threads.
const HOST_OVERHEAD_BYTES: u64 = 32 << 20;
/// What a connection may take: the largest header of HTTP/1.1, or part of one of HTTP/2, and the buffers of its sockets
/// and of TLS.
const CONNECTION_BYTES: u64 = 80 << 10;
/// If the number of connections is not set, they may take the available memory divided by this.
const CONNECTIONS_MEMORY_DIVISOR: u64 = 8;
/// The minimum number of connections.
const MIN_CONNECTIONS: usize = 256;
/// The minimum for buffered bodies, and for buffered replies.
const MIN_BUFFER_BYTES: u64 = 16 << 20;

impl Limits {
    /// The memory that the server may use at most, in bytes, while no instance calls another.
    #[must_use]
    pub fn max_memory(&self) -> u64 {
        let instances = self.instance_memory.saturating_mul(self.instances as u64);
        let connections = CONNECTION_BYTES.saturating_mul(self.connections as u64);
        HOST_OVERHEAD_BYTES
            .saturating_add(connections)
            .saturating_add(instances)
            .saturating_add(self.upload_memory)
            .saturating_add(self.reply_memory)
            .saturating_add(self.waiting_memory)
    }

    /// Lowers the limits that are not in `set` until everything together fits into `available` bytes: first
    /// connections, buffers and waiting instances, then the number of computing instances. The memory of one instance
    /// is never lowered, because functions rely on it, so even one instance may not fit.
    pub(super) fn fit_to_memory(mut self, set: &LimitSettings, available: u64) -> Self {
        if self.max_memory() <= available {
            return self;
        }
        let buffers = [
            (&mut self.upload_memory, set.upload_memory.is_some()),
            (&mut self.reply_memory, set.reply_memory.is_some()),
        ];
        let fixed: u64 = buffers.iter().filter(|(_, is_set)| *is_set).map(|(size, _)| **size).sum();
        let open = buffers.iter().filter(|(_, is_set)| !is_set).count() as u64;
        let fixed = fixed + set.waiting_memory.map_or(0, |_| self.waiting_memory);
        let least = MIN_BUFFER_BYTES.max(self.body_size.min(self.body_buffer));
        let room = available.saturating_sub(HOST_OVERHEAD_BYTES).saturating_sub(fixed);
        if set.connections.is_none() {
            let instances = if set.instances.is_some() { self.instances as u64 } else { 1 };
            let left = room
                .saturating_sub(self.instance_memory.saturating_mul(instances))
                .saturating_sub(open * least);
            let share = (available / CONNECTIONS_MEMORY_DIVISOR).min(left / 2);
            let fitting = usize::try_from(share / CONNECTION_BYTES).unwrap_or(usize::MAX);
            self.connections = self.connections.min(fitting.max(MIN_CONNECTIONS));
        }
        let room = room.saturating_sub(CONNECTION_BYTES.saturating_mul(self.connections as u64));
        let for_instances = room.saturating_sub(open * least);
        if set.instances.is_none() {
            let fitting =
                usize::try_from(for_instances / self.instance_memory).unwrap_or(usize::MAX);
            self.instances = self.instances.min(fitting).max(1);
        }
        let computing = self.instance_memory.saturating_mul(self.instances as u64);
        let mut left = room.saturating_sub(computing);
        if set.waiting_memory.is_none() {
            let share = left.saturating_sub(open * least) / (open + 1);
            self.waiting_memory = self.waiting_memory.min(share);
            left -= self.waiting_memory;
        }
        for (size, is_set) in buffers {
            if !is_set {
                *size = (*size).min((left / open).max(least));
            }
        }
        self
    }
}

/// Warns if the limits exceed the available memory, or if it is enough for fewer instances than `wanted`.
pub(super) fn warn_about_shortage(limits: &Limits, wanted: &Limits, available: u64) {
    let needed = limits.max_memory();
    if needed > available {
        tracing::warn!(
            needed,
            available,
            "the limits allow more memory than this process may use, so it may be killed: raise its memory limit, \
             or lower `instances`, `instance_memory`, `waiting_memory`, `connections`, `upload_memory` or `reply_memory`"
        );
    }
    if limits.instances < wanted.instances {
        tracing::warn!(
            instances = limits.instances,
            cores = wanted.instances,
            available,
            "this process's memory limit is too low for an instance on each core: raise the limit, or lower \
             `instance_memory`"
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::limits::{LimitSettings, Limits};
    use crate::units::ByteSize;

    fn fitted(settings: LimitSettings, instances: usize, available: u64) -> Limits {
        Limits { instances, ..settings.resolve(LimitSettings::default(), None).unwrap() }
            .fit_to_memory(&settings, available)
    }

    #[test]
    fn what_nobody_set_fits_into_the_memory_that_there_is() {
        let open = LimitSettings::default();
        let defaults = Limits { instances: 2, ..Limits::default() };
        assert_eq!(fitted(open, 2, 3 << 30), defaults);
        // A GiB: only the buffers are smaller.
        let limits = fitted(open, 2, 1 << 30);
        assert_eq!((limits.instances, limits.instance_memory), (2, defaults.instance_memory));
        assert!(limits.upload_memory == limits.reply_memory && limits.upload_memory > 100 << 20);
        // Connections, whose headers can take 64 KiB each, have an eighth of it.
        assert!((1000..2000).contains(&limits.connections), "{}", limits.connections);
        // Many cores: fewer instances, of the same memory.
        let limits = fitted(open, 16, 1 << 30);
        assert_eq!((limits.instances, limits.instance_memory), (3, defaults.instance_memory));
        for available in [352 << 20, 512 << 20, 1 << 30, 3 << 30] {
            for instances in [1, 2, 5, 64] {
                let limits = fitted(open, instances, available);
                assert!(limits.max_memory() <= available, "{limits:?} in {available}");
                assert!(
                    limits.instances <= instances && limits.upload_memory >= limits.body_buffer
                );
            }
        }
        // Too little for one instance, which stays nevertheless.
        let limits = fitted(open, 2, 128 << 20);
        assert_eq!((limits.instances, limits.instance_memory), (1, defaults.instance_memory));
        assert!(limits.max_memory() > 128 << 20);
    }

    #[test]
    fn what_somebody_set_stays() {
        let set = LimitSettings {
            instances: Some(3),
            upload_memory: Some(ByteSize(100 << 20)),
            ..LimitSettings::default()
        };
        let limits = fitted(set, 3, 1 << 30);
        assert_eq!((limits.instances, limits.upload_memory), (3, 100 << 20));
        assert!(limits.max_memory() <= 1 << 30 && limits.reply_memory >= 16 << 20);
        let set = LimitSettings { reply_memory: Some(ByteSize(200 << 20)), ..set };
        let limits = fitted(set, 3, 1 << 30);
        assert_eq!((limits.instances, limits.reply_memory), (3, 200 << 20));
        let set = LimitSettings { connections: Some(5000), ..set };
        assert_eq!(fitted(set, 3, 1 << 30).connections, 5000);
        assert!(limits.max_memory() > 1 << 30);
    }
}
