//! What a bond of IEEE 802.3ad needs to carry more than one of its links, and to survive the loss of one
//! (<https://docs.kernel.org/networking/bonding.html>).

use super::{Finding, Role, doubtful, right, wrong};
use crate::node::bond::{Bond, Port};
use crate::node::state::State;

pub(super) fn findings(state: &State, role: Role) -> Vec<Finding> {
    if state.bonds.is_empty() {
        return vec![match role {
            Role::Node => {
                right("bond", "network", "no bond here (an LXC container's is on its host)")
            }
            Role::Host => wrong(
                "bond",
                "network",
                "there is no bond in /proc/net/bonding",
                "modprobe bonding, and set one up: see k8s/network",
            ),
        }];
    }
    state.bonds.iter().flat_map(of_bond).collect()
}

fn of_bond(bond: &Bond) -> Vec<Finding> {
    let mut findings = vec![mode(bond)];
    if bond.is_lacp() {
        findings.extend([lacp_rate(bond), hash_policy(bond), partner(bond)]);
        findings.push(min_links(bond));
    }
    findings.push(miimon(bond));
    findings.push(ports(bond));
    let fastest = bond.ports.iter().filter_map(|port| port.speed).max();
    findings.extend(bond.ports.iter().flat_map(|port| of_port(bond, port, fastest)));
    findings
}

fn mode(bond: &Bond) -> Finding {
    let name = &bond.name;
    if bond.is_lacp() {
        return right("bond-mode", name, "mode 802.3ad");
    }
    let ports: Vec<&str> = bond.ports.iter().map(|port| port.name.as_str()).collect();
    let free: String = ports.iter().map(|port| format!("ip link set {port} nomaster; ")).collect();
    let join: String =
        ports.iter().map(|port| format!("; ip link set {port} master {name}")).collect();
    wrong(
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
    match bond.miimon {
        0 => wrong(
            "bond-miimon",
            name,
            "miimon is 0: a dead link is never noticed",
            format!("ip link set {name} type bond miimon 100"),
        ),
        interval => right("bond-miimon", name, format!("links are looked at every {interval} ms")),
    }
}

fn lacp_rate(bond: &Bond) -> Finding {
    let name = &bond.name;
    if bond.lacp_rate == "fast" {
        return right("bond-lacp-rate", name, "lacp_rate fast");
    }
    doubtful(
        "bond-lacp-rate",
        name,
        format!("lacp_rate is {}: a dead partner is noticed after 90 s, not 3", bond.lacp_rate),
        format!(
            "ip link set {name} down; ip link set {name} type bond lacp_rate fast; ip link set {name} up"
        ),
    )
}

fn hash_policy(bond: &Bond) -> Finding {
    let name = &bond.name;
    match bond.hash_policy.as_str() {
        "layer3+4" => right("bond-hash-policy", name, "xmit_hash_policy layer3+4"),
        other => doubtful(
            "bond-hash-policy",
            name,
            format!("xmit_hash_policy is {other}: all that goes to one machine may take one link"),
            format!("ip link set {name} type bond xmit_hash_policy layer3+4"),
        ),
    }
}

fn partner(bond: &Bond) -> Finding {
    let name = &bond.name;
    match &bond.aggregator {
        Some(aggregator) if bond.has_partner() => {
            right("bond-partner", name, format!("the partner is {}", aggregator.partner))
        }
        _ => wrong(
            "bond-partner",
            name,
            "there is no LACP partner: the other side sends no LACP frames, and one link carries all",
            "put the switch's ports into one LACP group, active mode: see k8s/network/switch",
        ),
    }
}

fn min_links(bond: &Bond) -> Finding {
    let name = &bond.name;
    let (asked, there) = (bond.min_links, bond.ports.len());
    if asked == 0 {
        return doubtful(
            "bond-min-links",
            name,
            "min_links is 0: the bond keeps its carrier when no port is left",
            format!("ip link set {name} type bond min_links 1"),
        );
    }
    if asked as usize >= there && there > 1 {
        return doubtful(
            "bond-min-links",
            name,
            format!("min_links is {asked} of {there} ports: the loss of one takes the bond down"),
            format!("ip link set {name} type bond min_links 1"),
        );
    }
    right("bond-min-links", name, format!("min_links {asked} of {there} ports"))
}

fn ports(bond: &Bond) -> Finding {
    let (name, there, active) = (&bond.name, bond.ports.len(), bond.active_ports().count());
    let said = format!("{active} of {there} ports carry traffic");
    match (active, there) {
        (0, _) => wrong(
            "bond-ports",
            name,
            said,
            format!("look at the ports' own lines; ip link set {name} up"),
        ),
        (_, 1) => doubtful(
            "bond-ports",
            name,
            "it has one port only",
            format!("ip link set PORT down; ip link set PORT master {name}; ip link set PORT up"),
        ),
        // What is wrong with the others is said of each.
        _ => right("bond-ports", name, said),
    }
}

fn of_port(bond: &Bond, port: &Port, fastest: Option<u32>) -> Vec<Finding> {
    let (name, subject) = (&port.name, format!("{}/{}", bond.name, port.name));
    if !port.is_up {
        return vec![wrong(
            "bond-port-link",
            &subject,
            format!("no link ({} failures so far)", port.failures),
            format!("ip link set {name} up; then look at the cable and at the switch's port"),
        )];
    }
    let mut findings =
        vec![right("bond-port-link", &subject, "link is up"), speed(&subject, port, fastest)];
    if port.duplex != "full" {
        findings.push(wrong(
            "bond-port-duplex",
            &subject,
            format!("duplex is {}: LACP needs full duplex", port.duplex),
            format!("ethtool -s {name} autoneg on"),
        ));
    }
    let agreed = bond.aggregator.as_ref();
    if agreed.is_some_and(|agreed| port.aggregator != Some(agreed.id)) {
        findings.push(wrong(
            "bond-port-aggregator",
            &subject,
            format!("it is in aggregator {}, the bond sends through {}", shown(port.aggregator), shown(agreed.map(|agreed| agreed.id))),
            "put both ports into the same LACP group of the same switch (or of one MLAG pair), at the same speed",
        ));
    }
    if port.actor_churn == "churned" || port.partner_churn == "churned" {
        findings.push(wrong(
            "bond-port-churn",
            &subject,
            format!("LACP does not come to terms (actor {}, partner {})", port.actor_churn, port.partner_churn),
            "see that the switch's port is in the same group as the others, and that it is not blocked there",
        ));
    }
    findings
}

fn speed(subject: &str, port: &Port, fastest: Option<u32>) -> Finding {
    let name = &port.name;
    match (port.speed, fastest) {
        (Some(speed), Some(fastest)) if speed < fastest => wrong(
            "bond-port-speed",
            subject,
            format!(
                "{speed} Mbit/s where another port has {fastest}: they cannot be in one aggregator"
            ),
            format!("ethtool -s {name} speed {fastest} duplex full autoneg on"),
        ),
        (Some(speed), _) => right("bond-port-speed", subject, format!("{speed} Mbit/s")),
        (None, _) => doubtful(
            "bond-port-speed",
            subject,
            "its driver does not say at what speed it runs",
            format!("ethtool {name}"),
        ),
    }
}

fn shown(aggregator: Option<u32>) -> String {
    aggregator.map_or("none".to_owned(), |id| id.to_string())
}
