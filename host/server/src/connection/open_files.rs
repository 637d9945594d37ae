//! Limits connections to what the limit on open files allows: a server without file descriptors can do nothing.

use rlimit::Resource;

use spotter_app::App;
use spotter_app::mounts::MountStrategy;
use spotter_config::Limits;
use spotter_config::outbound_http::MAX_OUTBOUND_CONNECTIONS;

/// File descriptors reserved for the log, the listeners, the database, admin connections, and outgoing
/// connections of guests.
const RESERVED_DESCRIPTORS: u64 = 64 + MAX_OUTBOUND_CONNECTIONS as u64;

/// Raises this process's limit on open files as far as possible, and returns how many of the wanted
/// connections it allows, beside what the application's instances may need.
pub(super) fn max_connections(limits: &Limits, app: &App) -> usize {
    let wanted = limits.connections;
    let allowed = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(allowed) => allowed,
        Err(error) => {
            tracing::debug!(%error, "cannot raise the limit on open files");
            rlimit::getrlimit(Resource::NOFILE).map_or(1024, |(soft, _)| soft)
        }
    };
    let mounts = match app.options.mounts.strategy {
        MountStrategy::InPlace => app.components.values().map(|it| it.files.len()).max(),
        MountStrategy::ReadOnlyCopies | MountStrategy::WritableCopies => None,
    };
    // Each instance has its folders open, or may have a file open; each component, the files of its output.
    let of_instances = limits.max_instances * mounts.unwrap_or_default().max(1);
    let kept = RESERVED_DESCRIPTORS + (of_instances + 2 * app.components.len()) as u64;
    // At a very low limit, clients get half of it, so that both clients and guests can work.
    let room = allowed.saturating_sub(kept).max(allowed / 2);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if room < wanted {
        tracing::info!(
            connections = room,
            wanted,
            open_files = allowed,
            "fewer connections than wanted: the limit on open files (`ulimit -n`) allows no more; raise \
             it, or lower `connections`"
        );
    }
    wanted.min(room)
}
