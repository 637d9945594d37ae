//! Metrics of computations, by model.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The metrics of all graphs. Clones share them.
#[derive(Clone)]
pub struct NnMetrics {
    seconds: Family<ModelLabels, Histogram, fn() -> Histogram>,
    in_flight: Family<ModelLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    /// The name under which the model is granted.
    model: String,
}

impl Default for NnMetrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        Self { seconds: Family::new_with_constructor(histogram), in_flight: Family::default() }
    }
}

impl NnMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time that the host ran a network for a guest";
        registry.register_with_unit("nn", help, Unit::Seconds, self.seconds.clone());
        registry.register("nn_in_flight", "Networks that are running", self.in_flight.clone());
    }

    /// Counts a run as in flight until the guard is dropped, then observes its time.
    pub fn start(&self, model: &str) -> Computation {
        let labels = ModelLabels { model: model.to_owned() };
        let in_flight = self.in_flight.get_or_create_owned(&labels);
        in_flight.inc();
        Computation {
            started: Instant::now(),
            in_flight,
            seconds: self.seconds.get_or_create_owned(&labels),
        }
    }
}

/// A run that is being measured.
pub struct Computation {
    started: Instant,
    in_flight: Gauge,
    seconds: Histogram,
}

impl Drop for Computation {
    fn drop(&mut self) {
        self.in_flight.dec();
        self.seconds.observe(self.started.elapsed().as_secs_f64());
    }
}
