//! The bonds' state as metrics, read anew at each scrape.

use std::fmt;
use std::path::{Path, PathBuf};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::bond::{Bond, NO_PARTNER};
use super::state::{self, Link};

/// The bonds of a machine, as this process's network namespace has them; no metrics where there are none.
#[derive(Debug)]
pub struct BondCollector {
    /// Where the machine's files are.
    root: PathBuf,
}

impl BondCollector {
    /// Reads below `root` at each scrape.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

/// What a metric says of a bond, with further labels.
type Sample = (Vec<(&'static str, String)>, u64);

impl Collector for BondCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let bonds = state::bonds(&self.root);
        if bonds.is_empty() {
            return Ok(());
        }
        let links = state::links(&self.root);
        let mut gauge = |name: &str, help: &str, of: &dyn Fn(&Bond) -> Vec<Sample>| {
            let samples = bonds.iter().flat_map(of).collect();
            family(&mut encoder, (name, help, None), MetricType::Gauge, samples)
        };
        gauge("bond_up", "Whether the bond carries anything", &|bond| {
            one(bond, bond.is_up.into())
        })?;
        gauge("bond_ports", "Ports of the bond", &|bond| one(bond, bond.ports.len() as u64))?;
        gauge("bond_ports_active", "Ports that are up and in the bond's aggregator", &|bond| {
            one(bond, bond.active_ports().count() as u64)
        })?;
        gauge("bond_aggregator_id", "The aggregator through which the bond sends", &|bond| {
            bond.aggregator.iter().flat_map(|agreed| one(bond, agreed.id.into())).collect()
        })?;
        gauge("bond_partner", "Whether there is an LACP partner, and its address", &partner)?;
        gauge("bond_port_up", "Whether the port's link is up", &|bond| {
            bond.ports.iter().map(|port| (of_port(bond, &port.name), port.is_up.into())).collect()
        })?;
        gauge("bond_port_aggregator_id", "The port's aggregator", &|bond| {
            let ports = bond.ports.iter();
            let in_one = |port: &super::bond::Port| {
                Some((of_port(bond, &port.name), port.aggregator?.into()))
            };
            ports.filter_map(in_one).collect()
        })?;
        gauge("bond_port_churned", "Whether LACP does not come to terms on the port", &churned)?;
        let failures = bonds.iter().flat_map(|bond| {
            bond.ports.iter().map(|port| (of_port(bond, &port.name), port.failures))
        });
        family(
            &mut encoder,
            ("bond_port_link_failures", "Times the port's link was lost", None),
            MetricType::Counter,
            failures.collect(),
        )?;
        let bytes = |of: fn(&Link) -> u64| -> Vec<Sample> {
            let ports =
                bonds.iter().flat_map(|bond| bond.ports.iter().map(move |port| (bond, port)));
            let found = ports.filter_map(|(bond, port)| {
                let link = links.iter().find(|link| link.name == port.name)?;
                Some((of_port(bond, &port.name), of(link)))
            });
            found.collect()
        };
        for (name, help, samples) in [
            ("bond_port_receive", "Received through the port", bytes(|link| link.received)),
            ("bond_port_transmit", "Sent through the port", bytes(|link| link.sent)),
        ] {
            let described = (name, help, Some(&Unit::Bytes));
            family(&mut encoder, described, MetricType::Counter, samples)?;
        }
        Ok(())
    }
}

/// The bonds' metrics alone, as a text of OpenMetrics.
#[must_use]
pub fn text(root: &Path) -> String {
    let mut registry = Registry::with_prefix("spotter");
    registry.register_collector(Box::new(BondCollector::of(root)));
    let mut text = String::new();
    // A String takes whatever is written to it.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): (&str, &str, Option<&Unit>),
    kind: MetricType,
    samples: Vec<Sample>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit, kind)?;
    for (labels, value) in samples {
        let labels: Vec<(&str, &str)> =
            labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let metric: MetricEncoder<'_> = family.encode_family(&labels)?;
        match kind {
            MetricType::Counter => ConstCounter::new(value).encode(metric)?,
            _ => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?,
        }
    }
    Ok(())
}

fn one(bond: &Bond, value: u64) -> Vec<Sample> {
    vec![(vec![("bond", bond.name.clone())], value)]
}

fn of_port(bond: &Bond, port: &str) -> Vec<(&'static str, String)> {
    vec![("bond", bond.name.clone()), ("port", port.to_owned())]
}

fn partner(bond: &Bond) -> Vec<Sample> {
    if !bond.is_lacp() {
        return Vec::new();
    }
    let address = bond.aggregator.as_ref().map_or(NO_PARTNER, |agreed| agreed.partner.as_str());
    let labels = vec![("bond", bond.name.clone()), ("partner", address.to_owned())];
    vec![(labels, bond.has_partner().into())]
}

fn churned(bond: &Bond) -> Vec<Sample> {
    let of = |port: &super::bond::Port| {
        [("actor", &port.actor_churn), ("partner", &port.partner_churn)].map(|(side, state)| {
            let mut labels = of_port(bond, &port.name);
            labels.push(("side", side.to_owned()));
            (labels, u64::from(state == "churned"))
        })
    };
    bond.ports.iter().flat_map(of).collect()
}
