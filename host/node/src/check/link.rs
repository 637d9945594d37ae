//! Checks in sysfs that the links which carry a machine's traffic have a carrier. A bond may not notice: without
//! `miimon`, or with a driver that does not report the loss of the carrier, it treats a dead link as live.

use super::{Finding, fail, pass};
use crate::state::Link;

pub(super) fn findings(links: &[Link]) -> Vec<Finding> {
    let is_bond = |name: &str| links.iter().any(|link| link.name == name && link.kind == "bond");
    let carries =
        |link: &&Link| link.is_default_route || link.master.as_deref().is_some_and(is_bond);
    links.iter().filter(carries).filter_map(carrier).collect()
}

/// `None` if the link is down, so that its carrier is unknown.
fn carrier(link: &Link) -> Option<Finding> {
    let name = &link.name;
    Some(if link.has_carrier? {
        pass("link-carrier", name, "there is a carrier")
    } else {
        fail(
            "link-carrier",
            name,
            "there is no carrier: nothing is connected, or the other side is off",
            format!("ip link set {name} up; then check the cable and the switch's port"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::findings;
    use crate::check::Verdict;
    use crate::state::Link;

    #[test]
    fn a_dead_link_is_found_where_it_carries_traffic() {
        let link = |name: &str, has_carrier: Option<bool>, master: Option<&str>| Link {
            name: name.into(),
            has_carrier,
            master: master.map(str::to_owned),
            ..Link::default()
        };
        let links = [
            Link { kind: "bond".into(), ..link("bond0", Some(true), None) },
            link("eno1", Some(true), Some("bond0")),
            link("eno2", Some(false), Some("bond0")),
            link("eno3", None, Some("bond0")),
            Link { is_default_route: true, ..link("br0", Some(false), None) },
            // The bridge of a node without pods.
            Link { kind: "bridge".into(), ..link("cni0", Some(false), None) },
            link("veth1", Some(false), Some("cni0")),
        ];
        let found = findings(&links);
        let dead = found.iter().filter(|finding| finding.verdict == Verdict::Fail);
        assert_eq!(dead.map(|finding| &*finding.subject).collect::<Vec<_>>(), ["eno2", "br0"]);
        assert_eq!(found.len(), 3);
    }
}
