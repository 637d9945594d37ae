//! Metrics of bonds, read at each scrape.

use std::fmt;
use std::path::{Path, PathBuf};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::bond::{Bond, NO_PARTNER_ADDRESS, Port};
use super::state::{self, Link};
use spotter_server::telemetry::label::LabelValue;

/// Collects metrics of the bonds in this process's network namespace; none if there are no bonds.
#[derive(Debug)]
pub struct BondCollector {
    /// The root of the machine's file system.
    root: PathBuf,
}

impl BondCollector {
    /// A collector that reads below `root` at each scrape.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

/// Labels and a value.
type Sample = (Vec<(&'static str, String)>, u64);

/// The description of a metric, and the function that reads it from a bond.
struct Metric {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    samples: fn(&Bond, &[Link]) -> Vec<Sample>,
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    samples: fn(&Bond, &[Link]) -> Vec<Sample>,
) -> Metric {
    Metric { name, help, unit: None, kind: MetricType::Gauge, samples }
}

const METRICS: [Metric; 11] = [
    gauge("bond_up", "Whether the bond is up", |bond, _| one(bond, bond.is_up.into())),
    gauge("bond_ports", "Ports of the bond", |bond, _| one(bond, bond.ports.len() as u64)),
    gauge("bond_ports_active", "Ports that are up and in the bond's aggregator", |bond, _| {
        one(bond, bond.active_ports().count() as u64)
    }),
    gauge("bond_aggregator_id", "The bond's active aggregator", |bond, _| {
        bond.aggregator.iter().flat_map(|agreed| one(bond, agreed.id.into())).collect()
    }),
    gauge("bond_partner", "Whether there is an LACP partner, and its address", partner),
    gauge("bond_port_up", "Whether the port's link is up", |bond, _| {
        each_port(bond, |port| Some(port.is_up.into()))
    }),
    gauge("bond_port_aggregator_id", "The port's aggregator", |bond, _| {
        each_port(bond, |port| port.aggregator.map(u64::from))
    }),
    gauge("bond_port_churned", "Whether LACP negotiation fails on the port", churned),
    Metric {
        name: "bond_port_link_failures",
        help: "Number of times that the port lost its link",
        unit: None,
        kind: MetricType::Counter,
        samples: |bond, _| each_port(bond, |port| Some(port.link_failures)),
    },
    Metric {
        name: "bond_port_receive",
        help: "Bytes received through the port",
        unit: Some(Unit::Bytes),
        kind: MetricType::Counter,
        samples: |bond, links| each_port(bond, |port| Some(port_link(port, links)?.rx_bytes)),
    },
    Metric {
        name: "bond_port_transmit",
        help: "Bytes sent through the port",
        unit: Some(Unit::Bytes),
        kind: MetricType::Counter,
        samples: |bond, links| each_port(bond, |port| Some(port_link(port, links)?.tx_bytes)),
    },
];

impl Collector for BondCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let bonds = state::bonds(&self.root);
        if bonds.is_empty() {
            return Ok(());
        }
        let links = state::links(&self.root);
        for metric in METRICS {
            let Metric { name, help, unit, kind, samples } = metric;
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            for (labels, value) in bonds.iter().flat_map(|bond| samples(bond, &links)) {
                let labels: Vec<(&str, LabelValue<String>)> =
                    labels.into_iter().map(|(key, value)| (key, LabelValue(value))).collect();
                let sample = family.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(value).encode(sample)?,
                    _ => ConstGauge::new(value.cast_signed()).encode(sample)?,
                }
            }
        }
        Ok(())
    }
}

/// The metrics of bonds alone, in the OpenMetrics text format.
#[must_use]
pub fn text(root: &Path) -> String {
    let mut registry = Registry::with_prefix("spotter");
    registry.register_collector(Box::new(BondCollector::new(root)));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

fn one(bond: &Bond, value: u64) -> Vec<Sample> {
    vec![(vec![("bond", bond.name.clone())], value)]
}

fn each_port(bond: &Bond, value: impl Fn(&Port) -> Option<u64>) -> Vec<Sample> {
    let ports = bond.ports.iter();
    ports.filter_map(|port| Some((port_labels(bond, port), value(port)?))).collect()
}

fn port_labels(bond: &Bond, port: &Port) -> Vec<(&'static str, String)> {
    vec![("bond", bond.name.clone()), ("port", port.name.clone())]
}

fn port_link<'a>(port: &Port, links: &'a [Link]) -> Option<&'a Link> {
    links.iter().find(|link| link.name == port.name)
}

fn partner(bond: &Bond, _: &[Link]) -> Vec<Sample> {
    if !bond.is_lacp() {
        return Vec::new();
    }
    let address =
        bond.aggregator.as_ref().map_or(NO_PARTNER_ADDRESS, |agreed| agreed.partner.as_str());
    let labels = vec![("bond", bond.name.clone()), ("partner", address.to_owned())];
    vec![(labels, bond.has_partner().into())]
}

fn churned(bond: &Bond, _: &[Link]) -> Vec<Sample> {
    let of = |port: &Port| {
        [("actor", &port.actor_churn), ("partner", &port.partner_churn)].map(|(side, state)| {
            let mut labels = port_labels(bond, port);
            labels.push(("side", side.to_owned()));
            (labels, u64::from(state == "churned"))
        })
    };
    bond.ports.iter().flat_map(of).collect()
}
