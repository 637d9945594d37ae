//! Parses the bonds in `/proc/net/bonding`
//! (<https://docs.kernel.org/networking/bonding.html>, "Querying Bonding Configuration").

use serde::Serialize;

/// The partner address that the driver reports if it has never received an LACP frame.
pub const NO_PARTNER_ADDRESS: &str = "00:00:00:00:00:00";

/// One bond.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bond {
    pub name: String,
    /// As the driver writes it: `IEEE 802.3ad Dynamic link aggregation`.
    pub mode: String,
    /// `layer2`, `layer3+4` and so on; empty in modes without a hash policy.
    pub hash_policy: String,
    pub is_up: bool,
    /// How often the ports' links are checked by MII or ARP, in milliseconds; 0 for never.
    pub monitor_interval_ms: u32,
    /// `slow` (a frame every 30 s) or `fast` (every second).
    pub lacp_rate: String,
    /// The number of ports that must be up for the bond to be up.
    pub min_links: u32,
    /// The active aggregator. `None` in other modes, and without `CAP_NET_ADMIN`, as the driver shows it to root
    /// only.
    pub aggregator: Option<Aggregator>,
    pub ports: Vec<Port>,
}

/// The active aggregator of a bond.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Aggregator {
    pub id: u32,
    pub ports: u32,
    /// The partner's address; [`NO_PARTNER_ADDRESS`] if it does not speak LACP.
    pub partner: String,
}

/// One port of a bond.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Port {
    pub name: String,
    pub is_up: bool,
    /// In Mbit/s; `None` if the driver does not report it.
    pub speed_mbps: Option<u32>,
    pub duplex: String,
    pub link_failures: u64,
    pub aggregator: Option<u32>,
    /// `none`, `monitoring`, or `churned`: LACP negotiation fails.
    pub actor_churn: String,
    pub partner_churn: String,
    /// The LACP states of both sides. `None` in other modes, and without `CAP_NET_ADMIN`.
    pub actor_state: Option<LacpState>,
    pub partner_state: Option<LacpState>,
}

/// The state of one side of a port, as LACP frames carry it (IEEE 802.1AX, section 6.4.2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LacpState(pub u8);

impl LacpState {
    /// Whether it sends and accepts frames: synchronized, collecting and distributing.
    #[must_use]
    pub fn is_collecting_distributing(self) -> bool {
        const SYNCHRONIZED_COLLECTING_DISTRIBUTING: u8 = 0b0011_1000;
        self.0 & SYNCHRONIZED_COLLECTING_DISTRIBUTING == SYNCHRONIZED_COLLECTING_DISTRIBUTING
    }

    /// Whether it has received no LACP frames for some time, or never: expired or defaulted.
    #[must_use]
    pub fn is_defaulted_or_expired(self) -> bool {
        const DEFAULTED_OR_EXPIRED: u8 = 0b1100_0000;
        self.0 & DEFAULTED_OR_EXPIRED != 0
    }
}

impl Bond {
    /// Whether its mode is IEEE 802.3ad.
    #[must_use]
    pub fn is_lacp(&self) -> bool {
        self.mode.contains("802.3ad")
    }

    /// The ports that carry traffic: those that are up and, in mode 802.3ad, in the active aggregator.
    pub fn active_ports(&self) -> impl Iterator<Item = &Port> {
        let id = self.aggregator.as_ref().map(|aggregator| aggregator.id);
        let is_lacp = self.is_lacp();
        self.ports
            .iter()
            .filter(move |port| port.is_up && (!is_lacp || id.is_some() && port.aggregator == id))
    }

    /// Whether the other side speaks LACP.
    #[must_use]
    pub fn has_partner(&self) -> bool {
        self.aggregator.as_ref().is_some_and(|aggregator| aggregator.partner != NO_PARTNER_ADDRESS)
    }

    /// Parses the driver's description of a bond. Fields that are not in it keep their defaults.
    #[must_use]
    pub fn parse(name: &str, text: &str) -> Self {
        let mut bond = Self { name: name.to_owned(), ..Self::default() };
        // Each port's section begins with its name.
        let mut sections = text.split("\nSlave Interface: ");
        for (key, value) in entries(sections.next().unwrap_or_default()) {
            bond.set(key, value);
        }
        bond.ports = sections.map(Port::parse).collect();
        bond
    }

    fn set(&mut self, key: &str, value: &str) {
        match key {
            "Bonding Mode" => self.mode = value.to_owned(),
            "Transmit Hash Policy" => self.hash_policy = first_word(value).to_owned(),
            "MII Status" => self.is_up = value == "up",
            "MII Polling Interval (ms)" | "ARP Polling Interval (ms)" => {
                self.monitor_interval_ms =
                    self.monitor_interval_ms.max(value.parse().unwrap_or_default());
            }
            "LACP rate" => self.lacp_rate = value.to_owned(),
            "Min links" => self.min_links = value.parse().unwrap_or_default(),
            "Aggregator ID" => self.aggregator_mut().id = value.parse().unwrap_or_default(),
            "Number of ports" => self.aggregator_mut().ports = value.parse().unwrap_or_default(),
            "Partner Mac Address" => self.aggregator_mut().partner = value.to_owned(),
            _ => {}
        }
    }

    fn aggregator_mut(&mut self) -> &mut Aggregator {
        self.aggregator.get_or_insert_default()
    }
}

impl Port {
    fn parse(section: &str) -> Self {
        let mut lines = section.splitn(2, '\n');
        let name = lines.next().unwrap_or_default().trim().to_owned();
        let mut port = Self { name, ..Self::default() };
        let section = lines.next().unwrap_or_default();
        // Both sides have the same keys, each below its own heading.
        let (own, partner) =
            section.split_once("details partner lacp pdu:").unwrap_or((section, ""));
        port.partner_state = state(partner);
        port.actor_state = state(own);
        for (key, value) in entries(section) {
            match key {
                // A port that is going down still carries traffic until its delay has passed.
                "MII Status" => port.is_up = value == "up" || value == "going down",
                "Speed" => port.speed_mbps = first_word(value).parse().ok(),
                "Duplex" => port.duplex = value.to_owned(),
                "Link Failure Count" => port.link_failures = value.parse().unwrap_or_default(),
                "Aggregator ID" => port.aggregator = value.parse().ok(),
                "Actor Churn State" => port.actor_churn = value.to_owned(),
                "Partner Churn State" => port.partner_churn = value.to_owned(),
                _ => {}
            }
        }
        port
    }
}

fn entries(section: &str) -> impl Iterator<Item = (&str, &str)> {
    section.lines().filter_map(|line| line.trim().split_once(": "))
}

fn state(section: &str) -> Option<LacpState> {
    let mut states = entries(section).filter(|(key, _)| *key == "port state");
    states.next()?.1.parse().ok().map(LacpState)
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Bond;

    /// Two ports in one aggregator, with a partner, as Linux 6.1 writes it.
    pub(crate) const GOOD_BOND: &str = "\
Ethernet Channel Bonding Driver: v6.1.0

Bonding Mode: IEEE 802.3ad Dynamic link aggregation
Transmit Hash Policy: layer3+4 (1)
MII Status: up
MII Polling Interval (ms): 100
Up Delay (ms): 0
Down Delay (ms): 0
Peer Notification Delay (ms): 0

802.3ad info
LACP active: on
LACP rate: fast
Min links: 1
Aggregator selection policy (ad_select): bandwidth
System priority: 65535
System MAC address: 32:a5:0b:11:22:33
Active Aggregator Info:
\tAggregator ID: 1
\tNumber of ports: 2
\tActor Key: 15
\tPartner Key: 15
\tPartner Mac Address: 9a:1e:00:44:55:66

Slave Interface: eno1
MII Status: up
Speed: 1000 Mbps
Duplex: full
Link Failure Count: 0
Permanent HW addr: 32:a5:0b:11:22:33
Slave queue ID: 0
Aggregator ID: 1
Actor Churn State: none
Partner Churn State: none
Actor Churned Count: 0
Partner Churned Count: 0
details actor lacp pdu:
    system priority: 65535
    port state: 63
details partner lacp pdu:
    system priority: 65535
    port state: 63

Slave Interface: eno2
MII Status: up
Speed: 1000 Mbps
Duplex: full
Link Failure Count: 3
Permanent HW addr: 32:a5:0b:11:22:34
Slave queue ID: 0
Aggregator ID: 1
Actor Churn State: none
Partner Churn State: none
";

    #[test]
    fn a_bond_is_read_with_its_ports() {
        let bond = Bond::parse("bond0", GOOD_BOND);
        assert!(bond.is_lacp() && bond.is_up && bond.has_partner());
        assert_eq!((bond.monitor_interval_ms, bond.min_links), (100, 1));
        assert_eq!((bond.hash_policy.as_str(), bond.lacp_rate.as_str()), ("layer3+4", "fast"));
        let aggregator = bond.aggregator.as_ref().unwrap();
        assert_eq!((aggregator.id, aggregator.ports), (1, 2));
        assert_eq!(aggregator.partner, "9a:1e:00:44:55:66");
        let names: Vec<&str> = bond.active_ports().map(|port| port.name.as_str()).collect();
        assert_eq!(names, ["eno1", "eno2"]);
        let state = Some(super::LacpState(63));
        assert_eq!((bond.ports[0].actor_state, bond.ports[0].partner_state), (state, state));
        assert_eq!(bond.ports[1].actor_state, None);
        assert_eq!((bond.ports[1].speed_mbps, bond.ports[1].link_failures), (Some(1000), 3));
    }

    #[test]
    fn other_modes_and_nonsense_are_read_too() {
        let text = "Bonding Mode: fault-tolerance (active-backup)\nPrimary Slave: None\nMII Status: down\n\
             \nSlave Interface: eno1\nMII Status: up\nSpeed: Unknown\nDuplex: Unknown\n";
        let bond = Bond::parse("bond1", text);
        assert!(!bond.is_lacp() && !bond.is_up && bond.aggregator.is_none());
        assert_eq!(bond.ports[0].speed_mbps, None);
        assert_eq!(bond.active_ports().count(), 1);
        assert_eq!(Bond::parse("x", "\u{0}: : \nSlave Interface: \n").ports.len(), 1);
    }
}
