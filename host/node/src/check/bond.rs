//! Checks that an IEEE 802.3ad bond uses all its links, and survives the loss of one
//! (<https://docs.kernel.org/networking/bonding.html>).

use super::{Finding, Role, fail, pass, warn};
use crate::bond::{Bond, Port};
use crate::state::MachineState;

pub(super) fn findings(state: &MachineState, role: Role) -> Vec<Finding> {
    if state.bonds.is_empty() {
        return vec![match role {
            Role::Node => {
                pass("bond", "network", "no bond here (an LXC container's bond is on its host)")
            }
            Role::Host => fail(
                "bond",
                "network",
                "there is no bond in /proc/net/bonding",
                "modprobe bonding max_bonds=0, then set up a bond: see k8s/network",
            ),
        }];
    }
    state.bonds.iter().flat_map(bond_findings).collect()
}

fn bond_findings(bond: &Bond) -> Vec<Finding> {
    let mut findings = vec![mode(bond)];
    if bond.is_lacp() {
        findings.extend([lacp_rate(bond), hash_policy(bond), partner(bond)]);
        findings.push(min_links(bond));
    }
    findings.push(miimon(bond));
    findings.push(ports(bond));
    let fastest = bond.ports.iter().filter_map(|port| port.speed_mbps).max();
    findings.extend(bond.ports.iter().flat_map(|port| port_findings(bond, port, fastest)));
    findings
}

fn mode(bond: &Bond) -> Finding {
    let name = &bond.name;
    if bond.is_lacp() {
        return pass("bond-mode", name, "mode 802.3ad");
    }
    let ports: Vec<&str> = bond.ports.iter().map(|port| port.name.as_str()).collect();
    let free: String = ports.iter().map(|port| format!("ip link set {port} nomaster; ")).collect();
    let join: String =
        ports.iter().map(|port| format!("; ip link set {port} master {name}")).collect();
    fail(
        "bond-mode",
        name,
        format!("the mode is {:?}, not 802.3ad", bond.mode),
        format!(
            "ip link set {name} down; {free}ip link set {name} type bond mode 802.3ad{join}; ip link set {name} up"
        ),
    )
}

fn miimon(bond: &Bond) -> Finding {
    let name = &bond.name;
    match bond.monitor_interval_ms {
        0 => fail(
            "bond-miimon",
            name,
            "miimon is 0: a dead link is never detected",
            format!("ip link set {name} type bond miimon 100"),
        ),
        interval => pass("bond-miimon", name, format!("links are checked every {interval} ms")),
    }
}

fn lacp_rate(bond: &Bond) -> Finding {
    let name = &bond.name;
    if bond.lacp_rate == "fast" {
        return pass("bond-lacp-rate", name, "lacp_rate fast");
    }
    warn(
        "bond-lacp-rate",
        name,
        format!(
            "lacp_rate is {}: a dead partner is detected after 90 s instead of 3 s",
            bond.lacp_rate
        ),
        format!(
            "ip link set {name} down; ip link set {name} type bond lacp_rate fast; ip link set {name} up"
        ),
    )
}

fn hash_policy(bond: &Bond) -> Finding {
    let name = &bond.name;
    match bond.hash_policy.as_str() {
        policy @ ("layer3+4" | "encap3+4") => {
            pass("bond-hash-policy", name, format!("xmit_hash_policy {policy}"))
        }
        other => warn(
            "bond-hash-policy",
            name,
            format!("xmit_hash_policy is {other}: all traffic to one machine may use one link"),
            format!("ip link set {name} type bond xmit_hash_policy layer3+4"),
        ),
    }
}

fn partner(bond: &Bond) -> Finding {
    let name = &bond.name;
    match &bond.aggregator {
        Some(aggregator) if bond.has_partner() => {
            pass("bond-partner", name, format!("the partner is {}", aggregator.partner))
        }
        Some(_) => fail(
            "bond-partner",
            name,
            "there is no LACP partner: the switch sends no LACP frames, and one link carries all traffic",
            "put the switch's ports into one LACP group in active mode: see k8s/network/switch",
        ),
        None => warn(
            "bond-partner",
            name,
            "the driver does not report whether there is an LACP partner",
            "run the check as root; if the result is the same: ip link set PORT up, for each port",
        ),
    }
}

/// The driver treats 0 as 1.
fn min_links(bond: &Bond) -> Finding {
    let name = &bond.name;
    let (asked, there) = (bond.min_links as usize, bond.ports.len());
    let said = format!("min_links is {asked} of {there} ports");
    let fix = format!("ip link set {name} type bond min_links 1");
    if asked > there {
        return fail("bond-min-links", name, format!("{said}: the bond never comes up"), fix);
    }
    if asked > 1 && asked == there {
        let said = format!("{said}: the loss of one link takes the bond down");
        return warn("bond-min-links", name, said, fix);
    }
    pass("bond-min-links", name, said)
}

fn ports(bond: &Bond) -> Finding {
    let (name, there, active) = (&bond.name, bond.ports.len(), bond.active_ports().count());
    let said = format!("{active} of {there} ports carry traffic");
    match (active, there) {
        (0, _) => {
            fail("bond-ports", name, said, format!("fix the ports below; ip link set {name} up"))
        }
        (_, 1) => warn(
            "bond-ports",
            name,
            "it has only one port",
            format!("ip link set PORT down; ip link set PORT master {name}; ip link set PORT up"),
        ),
        // Each of the other ports has its own finding.
        _ => pass("bond-ports", name, said),
    }
}

fn port_findings(bond: &Bond, port: &Port, fastest: Option<u32>) -> Vec<Finding> {
    let (name, subject) = (&port.name, format!("{}/{}", bond.name, port.name));
    if !port.is_up {
        return vec![fail(
            "bond-port-link",
            &subject,
            format!("no link ({} failures so far)", port.link_failures),
            format!("ip link set {name} up; then check the cable and the switch's port"),
        )];
    }
    let mut findings = vec![pass("bond-port-link", &subject, "link is up")];
    if bond.is_lacp() {
        findings.push(speed(&subject, port, fastest));
        findings.extend(duplex(&subject, port));
        findings.extend(aggregator(&subject, bond, port));
        findings.extend(churn(&subject, port));
        findings.extend(lacp(&subject, port));
    }
    findings
}

fn duplex(subject: &str, port: &Port) -> Option<Finding> {
    (port.duplex != "full").then(|| {
        fail(
            "bond-port-duplex",
            subject,
            format!("duplex is {}: LACP needs full duplex", port.duplex),
            format!(
                "ethtool -s {0} autoneg on (a virtual port: ethtool -s {0} speed 1000 duplex full)",
                port.name
            ),
        )
    })
}

fn aggregator(subject: &str, bond: &Bond, port: &Port) -> Option<Finding> {
    let agreed = bond.aggregator.as_ref()?;
    (port.aggregator != Some(agreed.id)).then(|| {
        let own = port.aggregator.map_or("no aggregator".to_owned(), |id| format!("aggregator {id}"));
        fail(
            "bond-port-aggregator",
            subject,
            format!("it is in {own}; the active one is {}", agreed.id),
            "put all ports of the bond into the same LACP group of the same switch (or of one MLAG pair), at the same speed",
        )
    })
}

fn churn(subject: &str, port: &Port) -> Option<Finding> {
    let (actor, partner) = (&port.actor_churn, &port.partner_churn);
    (actor == "churned" || partner == "churned").then(|| {
        fail(
            "bond-port-churn",
            subject,
            format!("LACP negotiation fails (actor {actor}, partner {partner})"),
            "check that the switch's port is in the same group as the others, and that it is not blocked",
        )
    })
}

/// If a switch stops speaking LACP, the link stays up: only the port's states show that no frames arrive.
fn lacp(subject: &str, port: &Port) -> Option<Finding> {
    let (actor, partner) = (port.actor_state?, port.partner_state?);
    let said = format!("(LACP states: actor {}, partner {})", actor.0, partner.0);
    let fix = "put the switch's port into the same LACP group in active mode, and enable it there: see k8s/network/switch";
    Some(if actor.is_defaulted_or_expired() {
        let said =
            format!("the link is up, but no LACP frames arrive: the partner went silent {said}");
        fail("bond-port-lacp", subject, said, fix)
    } else if !actor.is_collecting_distributing() || !partner.is_collecting_distributing() {
        let side = if actor.is_collecting_distributing() { "the partner" } else { "this side" };
        let said = format!(
            "{side} does not collect and distribute frames: the port carries nothing {said}"
        );
        fail("bond-port-lacp", subject, said, fix)
    } else {
        pass("bond-port-lacp", subject, format!("both sides collect and distribute frames {said}"))
    })
}

fn speed(subject: &str, port: &Port, fastest: Option<u32>) -> Finding {
    let name = &port.name;
    match (port.speed_mbps, fastest) {
        (Some(speed), Some(fastest)) if speed < fastest => fail(
            "bond-port-speed",
            subject,
            format!(
                "{speed} Mbit/s, but another port has {fastest}: they cannot be in one aggregator"
            ),
            format!("ethtool -s {name} speed {fastest} duplex full autoneg on"),
        ),
        (Some(speed), _) => pass("bond-port-speed", subject, format!("{speed} Mbit/s")),
        (None, _) => warn(
            "bond-port-speed",
            subject,
            "its driver does not report a speed",
            format!("ethtool {name}"),
        ),
    }
}
