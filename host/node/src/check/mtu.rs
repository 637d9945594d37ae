//! Checks that links which pass frames to each other have the same MTU: a larger frame is dropped silently.

use super::{Finding, fail, pass};
use crate::state::Link;

/// What VXLAN adds to each frame over IPv4, in bytes (RFC 7348, section 5).
const VXLAN_OVERHEAD_BYTES: u32 = 50;

pub(super) fn findings(links: &[Link]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for master in links.iter().filter(|link| link.kind == "bond" || link.kind == "bridge") {
        let ports = links.iter().filter(|link| link.master.as_deref() == Some(&*master.name));
        findings.extend(ports.map(|port| port_mtu(master, port)));
    }
    let overlays = links.iter().filter(|link| link.kind == "vxlan");
    findings.extend(overlays.filter_map(|overlay| overlay_mtu(overlay, carrier(overlay, links)?)));
    findings
}

fn port_mtu(master: &Link, port: &Link) -> Finding {
    let subject = format!("{}/{}", master.name, port.name);
    // An overlay's port in a bridge is smaller by its overhead; `overlay_mtu` checks that.
    if port.mtu == master.mtu || port.kind == "vxlan" {
        return pass("mtu", &subject, format!("MTU {}", port.mtu));
    }
    fail(
        "mtu",
        &subject,
        format!("MTU {}, but {} has {}", port.mtu, master.name, master.mtu),
        format!("ip link set {} mtu {}, or change {} instead", port.name, master.mtu, master.name),
    )
}

/// The link that carries an overlay's frames: the one it is bound to, or else that of the default route.
fn carrier<'a>(overlay: &Link, links: &'a [Link]) -> Option<&'a Link> {
    let bound = links.iter().find(|link| link.index == overlay.peer && link.index != overlay.index);
    bound.or_else(|| links.iter().find(|link| link.is_default_route))
}

fn overlay_mtu(overlay: &Link, carrier: &Link) -> Option<Finding> {
    let room = carrier.mtu.checked_sub(VXLAN_OVERHEAD_BYTES)?;
    let name = &overlay.name;
    if overlay.mtu <= room {
        let said =
            format!("MTU {} fits into the MTU {} of {}", overlay.mtu, carrier.mtu, carrier.name);
        return Some(pass("mtu-overlay", name, said));
    }
    Some(fail(
        "mtu-overlay",
        name,
        format!(
            "MTU {}, but {} has MTU {}, which leaves {room}",
            overlay.mtu, carrier.name, carrier.mtu
        ),
        format!("ip link set {name} mtu {room}"),
    ))
}
