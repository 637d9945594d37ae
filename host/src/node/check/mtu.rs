//! Whether links that pass frames to each other take frames of the same size: where one takes less, what is
//! larger is lost without a word.

use super::{Finding, right, wrong};
use crate::node::state::Link;

/// What VXLAN adds to each frame over IPv4, in bytes (RFC 7348, section 5).
const VXLAN_OVERHEAD: u32 = 50;

pub(super) fn findings(links: &[Link]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for master in links {
        let ports = links.iter().filter(|link| link.master.as_deref() == Some(&*master.name));
        for port in ports {
            findings.push(of_port(master, port));
        }
    }
    findings.extend(overlays(links));
    findings
}

fn of_port(master: &Link, port: &Link) -> Finding {
    let subject = format!("{}/{}", master.name, port.name);
    // An overlay's end in a bridge is smaller by what it adds; that is looked at below.
    if port.mtu >= master.mtu || port.kind == "vxlan" {
        return right("mtu", &subject, format!("MTU {}", port.mtu));
    }
    wrong(
        "mtu",
        &subject,
        format!("MTU {} below the {} of {}", port.mtu, master.mtu, master.name),
        format!("ip link set {} mtu {}", port.name, master.mtu),
    )
}

fn overlays(links: &[Link]) -> Vec<Finding> {
    let carriers = links.iter().filter(|link| {
        link.master.is_none()
            && link.name != "lo"
            && (link.kind.is_empty() || link.kind == "bond" || link.kind == "bridge")
    });
    let Some(largest) = carriers.map(|link| link.mtu).max() else { return Vec::new() };
    let room = largest.saturating_sub(VXLAN_OVERHEAD);
    let overlays = links.iter().filter(|link| link.kind == "vxlan");
    overlays
        .map(|overlay| {
            if overlay.mtu <= room {
                return right(
                    "mtu-overlay",
                    &overlay.name,
                    format!("MTU {} in {largest}", overlay.mtu),
                );
            }
            wrong(
                "mtu-overlay",
                &overlay.name,
                format!("MTU {}, but only {room} fit into frames of {largest}", overlay.mtu),
                format!("ip link set {} mtu {room}", overlay.name),
            )
        })
        .collect()
}
