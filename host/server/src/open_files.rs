//! Limits connections to what the limit on open files allows: a server without file descriptors can do nothing.

use rlimit::Resource;

use spotter_config::outbound_http::MAX_OUTBOUND_CONNECTIONS;

/// File descriptors reserved for the log, the listeners, the database, admin connections, and outgoing
/// connections of guests.
const RESERVED_DESCRIPTORS: u64 = 64 + MAX_OUTBOUND_CONNECTIONS as u64;

/// Raises this process's limit on open files as far as possible, and returns how many of the wanted
/// connections it allows.
pub(super) fn max_connections(wanted: usize, max_instances: usize) -> usize {
    let allowed = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(allowed) => allowed,
        Err(error) => {
            tracing::debug!(%error, "cannot raise the limit on open files");
            rlimit::getrlimit(Resource::NOFILE).map_or(1024, |(soft, _)| soft)
        }
    };
    // Each instance may have a file open.
    let kept = RESERVED_DESCRIPTORS + max_instances as u64;
    // At a very low limit, clients get half of it, so that both clients and guests can work.
    let room = allowed.saturating_sub(kept).max(allowed / 2);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if room < wanted {
        tracing::info!(
            connections = room,
            wanted,
            open_files = allowed,
            "fewer connections than wanted: the limit on open files (`ulimit -n`) allows no more"
        );
    }
    wanted.min(room)
}
