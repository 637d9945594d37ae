//! Checks whether a machine can be a node. Each finding that does not pass names a fix.

mod bond;
mod kubelet;
mod link;
mod machine;
mod mtu;

use serde::Serialize;

use super::state::MachineState;

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    /// It works, but could be faster or more reliable.
    Warn,
    Fail,
}

/// One check and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub verdict: Verdict,
    /// Stable across versions.
    pub code: &'static str,
    /// The part that was checked: `bond0`, `bond0/eno1`, `containerd`.
    pub subject: String,
    pub message: String,
    /// What to do about it; `None` if the check passed.
    pub fix: Option<String>,
}

/// What the machine is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A node, with containerd. If it is an LXC container, its host has the bond.
    Node,
    /// The host of LXC nodes, with the bond.
    Host,
}

/// Runs all checks for a role.
#[must_use]
pub fn findings(state: &MachineState, role: Role) -> Vec<Finding> {
    let mut findings = bond::findings(state, role);
    findings.extend(link::findings(&state.links));
    findings.extend(mtu::findings(&state.links));
    findings.extend(machine::findings(state));
    if role == Role::Node {
        findings.extend(machine::node_findings(state));
        findings.extend(kubelet::findings(&state.kubelet));
    }
    findings
}

fn pass(code: &'static str, subject: &str, message: impl Into<String>) -> Finding {
    let (verdict, subject) = (Verdict::Pass, subject.to_owned());
    Finding { verdict, code, subject, message: message.into(), fix: None }
}

fn fail(
    code: &'static str,
    subject: &str,
    message: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    let (verdict, subject, fix) = (Verdict::Fail, subject.to_owned(), Some(fix.into()));
    Finding { verdict, code, subject, message: message.into(), fix }
}

fn warn(
    code: &'static str,
    subject: &str,
    message: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding { verdict: Verdict::Warn, ..fail(code, subject, message, fix) }
}

#[cfg(test)]
mod tests {
    use super::{Role, Verdict, findings};
    use crate::bond::tests::GOOD_BOND;
    use crate::bond::{Bond, NO_PARTNER_ADDRESS};
    use crate::state::{Link, MachineState};

    /// The codes of the bond checks that do not pass.
    fn faults(text: &str) -> Vec<&'static str> {
        let state =
            MachineState { bonds: vec![Bond::parse("bond0", text)], ..MachineState::default() };
        let found = findings(&state, Role::Host).into_iter();
        let faults = found.filter(|finding| finding.verdict != Verdict::Pass);
        faults.map(|finding| finding.code).filter(|code| code.starts_with("bond")).collect()
    }

    #[test]
    fn each_fault_of_a_bond_is_found_by_itself() {
        assert_eq!(faults(GOOD_BOND), [""; 0]);
        assert_eq!(faults(&GOOD_BOND.replace("Min links: 1", "Min links: 0")), [""; 0]);
        assert_eq!(faults(&GOOD_BOND.replace("layer3+4 (1)", "encap3+4 (4)")), [""; 0]);
        assert_eq!(
            faults(&GOOD_BOND.replacen(
                "MII Status: up\nSpeed",
                "MII Status: going down\nSpeed",
                1
            )),
            [""; 0]
        );
        // Without CAP_NET_ADMIN, the partner is unknown.
        let (head, rest) = GOOD_BOND.split_once("Active Aggregator Info").unwrap();
        let withheld = format!("{head}\n{}", &rest[rest.find("\nSlave Interface").unwrap()..]);
        assert_eq!(faults(&withheld), ["bond-partner", "bond-ports"]);
        for (from, to, code) in [
            ("Polling Interval (ms): 100", "Polling Interval (ms): 0", "bond-miimon"),
            ("LACP rate: fast", "LACP rate: slow", "bond-lacp-rate"),
            ("layer3+4 (1)", "layer2 (0)", "bond-hash-policy"),
            ("Min links: 1", "Min links: 2", "bond-min-links"),
            ("Min links: 1", "Min links: 3", "bond-min-links"),
            ("9a:1e:00:44:55:66", NO_PARTNER_ADDRESS, "bond-partner"),
            ("Speed: 1000 Mbps", "Speed: 100 Mbps", "bond-port-speed"),
            ("Duplex: full", "Duplex: half", "bond-port-duplex"),
            ("Actor Churn State: none", "Actor Churn State: churned", "bond-port-churn"),
            // Expired and defaulted; out of synchronization; in synchronization, but not distributing.
            ("port state: 63", "port state: 199", "bond-port-lacp"),
            ("port state: 63", "port state: 7", "bond-port-lacp"),
            (
                "partner lacp pdu:\n    system priority: 65535\n    port state: 63",
                "partner lacp pdu:\n    system priority: 65535\n    port state: 31",
                "bond-port-lacp",
            ),
        ] {
            let changed = GOOD_BOND.replacen(from, to, 1);
            assert_ne!(changed, GOOD_BOND, "{from}");
            assert_eq!(faults(&changed), [code], "{to}");
        }
        let second = "queue ID: 0\nAggregator ID: ";
        let elsewhere = GOOD_BOND.replacen(&format!("{second}1"), &format!("{second}2"), 1);
        assert_eq!(faults(&elsewhere), ["bond-port-aggregator"]);
        let (head, ports) = GOOD_BOND.split_once("Slave Interface").unwrap();
        let dead = format!(
            "{head}Slave Interface{}",
            ports.replacen("MII Status: up", "MII Status: down", 1)
        );
        assert_eq!(faults(&dead), ["bond-port-link"]);
        assert!(faults("Bonding Mode: load balancing (round-robin)\n").contains(&"bond-mode"));
        let state = MachineState::default();
        assert!(
            findings(&state, Role::Host)
                .iter()
                .any(|finding| { finding.code == "bond" && finding.verdict == Verdict::Fail })
        );
    }

    #[test]
    fn every_check_that_does_not_pass_names_a_fix() {
        let state = MachineState::default();
        for found in [Role::Node, Role::Host].into_iter().flat_map(|role| findings(&state, role)) {
            assert_eq!(found.fix.is_none(), found.verdict == Verdict::Pass, "{found:?}");
        }
    }

    #[test]
    fn links_that_carry_the_same_frames_have_the_same_mtu() {
        let link = |name: &str, kind: &str, mtu: u32, master: Option<&str>| Link {
            name: name.into(),
            kind: kind.into(),
            mtu,
            master: master.map(str::to_owned),
            ..Link::default()
        };
        let mut links = vec![
            link("eno1", "", 9000, Some("bond0")),
            link("bond0", "bond", 9000, Some("br0")),
            link("br0", "bridge", 9000, None),
            link("veth1", "veth", 9000, Some("br0")),
            link("red", "vrf", 65575, None),
            link("eno3", "", 1500, Some("red")),
        ];
        let faults = |links: &[Link]| -> Vec<String> {
            let found = super::mtu::findings(links).into_iter();
            found.filter(|f| f.verdict != Verdict::Pass).map(|f| f.subject).collect()
        };
        assert_eq!(faults(&links), [""; 0]);
        links[3].mtu = 1500;
        assert_eq!(faults(&links), ["br0/veth1"]);
        links[3].mtu = 9216;
        assert_eq!(faults(&links), ["br0/veth1"]);
        links[0].mtu = 1500;
        assert_eq!(faults(&links), ["bond0/eno1", "br0/veth1"]);
    }

    #[test]
    fn an_overlay_fits_into_the_link_that_carries_it() {
        let link = |name: &str, kind: &str, mtu: u32, index: u32| Link {
            name: name.into(),
            kind: kind.into(),
            mtu,
            index,
            peer: index,
            ..Link::default()
        };
        // As in an LXC node: its link is one end of a veth pair, and the pods' bridge has the overlay's MTU.
        let overlay =
            |mtu: u32, over: u32| Link { peer: over, ..link("flannel.1", "vxlan", mtu, 9) };
        let node = |mtu: u32, over: u32| {
            vec![
                Link { is_default_route: true, peer: 70, ..link("eth0", "veth", 1500, 2) },
                link("cni0", "bridge", 1450, 3),
                link("big0", "", 9000, 4),
                overlay(mtu, over),
            ]
        };
        let verdict = |links: &[Link]| super::mtu::findings(links).pop().unwrap().verdict;
        for over in [2, 9] {
            assert_eq!(verdict(&node(1450, over)), Verdict::Pass);
            assert_eq!(verdict(&node(1500, over)), Verdict::Fail);
        }
        assert_eq!(verdict(&node(8950, 4)), Verdict::Pass);
    }
}
