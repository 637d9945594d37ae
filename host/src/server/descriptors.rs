//! Open files: every connection is one, and a server that runs out of them can do nothing at all.

use rlimit::Resource;

use crate::runtime::outbound::MAX_OUTBOUND_CONNECTIONS;

/// Kept for what is not a client's connection: the log, the listeners, the database, the admin's
/// connections, and those that guests open.
const RESERVE: u64 = 64 + MAX_OUTBOUND_CONNECTIONS as u64;

/// Raises this process's limit of open files as far as it may, and gives how many connections, of those
/// wanted, fit within it.
pub(super) fn connections(wanted: usize, instances: usize) -> usize {
    let allowed = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(allowed) => allowed,
        Err(error) => {
            tracing::debug!(%error, "cannot raise the limit of open files");
            rlimit::getrlimit(Resource::NOFILE).map_or(1024, |(soft, _)| soft)
        }
    };
    // A guest may have files open.
    let kept = RESERVE + 4 * instances as u64;
    // However little there is: with half of it, both clients and guests get on.
    let room = allowed.saturating_sub(kept).max(allowed / 2);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if room < wanted {
        tracing::info!(
            connections = room,
            wanted,
            open_files = allowed,
            "fewer connections than wanted: the limit of open files (`ulimit -n`) allows no more"
        );
    }
    wanted.min(room)
}
