//! Prometheus metrics of requests, guests and detections.
//!
//! A function reports its detections in the reply header
//! `spotter-detections: MODEL; LABEL=NUMBER, LABEL=NUMBER`. The server removes the header and adds the numbers
//! to `spotter_detections_total{model,label,component}`, so no component can add to another's.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::label::LabelValue;
use spotter_nn::NnMetrics;

/// The header in which a function reports its detections.
pub(super) const DETECTIONS_HEADER: &str = "spotter-detections";

/// The maximum number of detection time series of one component, to bound the cost of a faulty function.
const MAX_DETECTION_SERIES: usize = 500;

/// The longest model and label that are counted, in bytes.
const MAX_LABEL_BYTES: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route's pattern; empty if no route matched.
    pub route: LabelValue<String>,
    pub status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabels {
    /// The error's code, `client_gone` or `malformed_header`.
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DetectionLabels {
    pub model: LabelValue<String>,
    pub label: LabelValue<String>,
    /// The component that reported the detections.
    pub component: LabelValue<String>,
}

/// Every metric of one server.
pub struct Metrics {
    registry: Registry,
    pub requests: Family<RequestLabels, Counter>,
    pub in_flight: Gauge,
    pub queued: Gauge,
    rejected: Family<ReasonLabels, Counter>,
    guest_failures: Family<ReasonLabels, Counter>,
    pub queue: Histogram,
    pub instantiate: Histogram,
    pub guest: Histogram,
    pub total: Histogram,
    pub memory_peak: Histogram,
    pub instances: Gauge,
    pub waiting: Gauge,
    abandoned: Gauge,
    connections: Gauge,
    detections: Family<DetectionLabels, Counter<u64, AtomicU64>>,
    /// How many series of detections each component has.
    detection_series: Mutex<BTreeMap<String, usize>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Vec::new(), &NnMetrics::default())
    }
}

impl Metrics {
    /// The server's metrics, with those of networks and further ones from `collectors`.
    pub fn new(collectors: Vec<Box<dyn Collector>>, nn: &NnMetrics) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let mut metrics = Self {
            registry: Registry::with_prefix("spotter"),
            requests: Family::default(),
            in_flight: Gauge::default(),
            queued: Gauge::default(),
            rejected: Family::default(),
            guest_failures: Family::default(),
            queue: seconds(),
            instantiate: Histogram::new(exponential_buckets(0.000_002, 2.0, 16)),
            guest: seconds(),
            total: seconds(),
            memory_peak: Histogram::new(exponential_buckets(f64::from(1 << 20), 2.0, 12)),
            instances: Gauge::default(),
            waiting: Gauge::default(),
            abandoned: Gauge::default(),
            connections: Gauge::default(),
            detections: Family::default(),
            detection_series: Mutex::default(),
        };
        metrics.register();
        nn.register(&mut metrics.registry);
        for collector in collectors {
            metrics.registry.register_collector(collector);
        }
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION")), ("wasmtime", "48")]);
        registry.register("build", "Versions of Spotter and wasmtime", build);
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register("requests_in_flight", "Requests being handled", self.in_flight.clone());
        registry.register(
            "requests_queued",
            "Requests waiting for an instance",
            self.queued.clone(),
        );
        registry.register(
            "requests_rejected",
            "Requests that the host answered with an error",
            self.rejected.clone(),
        );
        registry.register(
            "guest_failures",
            "Instances that failed or were stopped",
            self.guest_failures.clone(),
        );
        registry.register("instances", "Instances that exist", self.instances.clone());
        registry.register(
            "instances_waiting",
            "Instances that wait without a CPU slot",
            self.waiting.clone(),
        );
        registry.register(
            "instances_abandoned",
            "Instances that exceeded `request_cpu`, cannot be interrupted, and still run",
            self.abandoned.clone(),
        );
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register("detections", "Objects detected", self.detections.clone());
        let mut seconds = |name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        seconds("queue_wait", "Time that a request waited for an instance", &self.queue);
        seconds("instantiation", "Time to create an instance", &self.instantiate);
        seconds("guest_cpu", "CPU time of a guest", &self.guest);
        seconds(
            "request_duration",
            "Time from a request's header to the end of its reply",
            &self.total,
        );
        registry.register_with_unit(
            "guest_memory_peak",
            "Peak linear memory of a guest",
            Unit::Bytes,
            self.memory_peak.clone(),
        );
    }

    /// All metrics in Prometheus's text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// Counts a request that the host answered with this error code.
    pub fn count_rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts a guest that failed or was stopped, by error code.
    pub fn count_guest_failure(&self, reason: &'static str) {
        self.guest_failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts an instance as given up until the guard is dropped.
    pub fn track_abandoned(&self) -> GaugeGuard {
        GaugeGuard::new(&self.abandoned)
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn track_connection(&self) -> GaugeGuard {
        GaugeGuard::new(&self.connections)
    }

    /// Removes the detections header from a component's reply and counts its detections.
    pub fn count_detections(&self, component: &str, headers: &mut HeaderMap) {
        let Some(value) = headers.remove(DETECTIONS_HEADER) else { return };
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else { return };
        let Some((model, counts)) = text.split_once(';') else { return };
        for entry in counts.split(',') {
            let Some((label, count)) = entry.rsplit_once('=') else { continue };
            let Ok(count) = count.trim().parse::<u32>() else { continue };
            let (model, label) = (model.trim(), label.trim());
            if model.len().max(label.len()) > MAX_LABEL_BYTES {
                continue;
            }
            let labels = DetectionLabels {
                model: LabelValue(model.to_owned()),
                label: LabelValue(label.to_owned()),
                component: LabelValue(component.to_owned()),
            };
            if let Some(counter) = self.detection_counter(&labels) {
                counter.inc_by(u64::from(count));
            }
        }
    }

    fn detection_counter(&self, labels: &DetectionLabels) -> Option<Counter<u64, AtomicU64>> {
        if let Some(counter) = self.detections.get(labels) {
            return Some(counter.clone());
        }
        let mut series = self.detection_series.lock().unwrap_or_else(PoisonError::into_inner);
        // Another request may have made it meanwhile.
        if let Some(counter) = self.detections.get(labels) {
            return Some(counter.clone());
        }
        let own = series.entry(labels.component.0.clone()).or_default();
        if *own >= MAX_DETECTION_SERIES {
            return None;
        }
        *own += 1;
        Some(self.detections.get_or_create_owned(labels))
    }
}

/// Decrements a gauge when dropped.
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    /// Increments a gauge.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A duration in seconds, the unit that Prometheus uses.
pub(crate) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::{DETECTIONS_HEADER, MAX_DETECTION_SERIES, Metrics};
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn the_detections_header_is_taken_off_and_counted() {
        let metrics = Metrics::default();
        for text in ["ssd; dining table=2, dog=1", "ssd; dog=3", "nonsense", "ssd; dog=many"] {
            let mut headers = HeaderMap::new();
            headers.insert(DETECTIONS_HEADER, HeaderValue::from_static(text));
            metrics.count_detections("detect", &mut headers);
            assert!(headers.is_empty());
        }
        let text = metrics.encode();
        assert!(
            text.contains(
                r#"spotter_detections_total{model="ssd",label="dining table",component="detect"} 2"#
            ),
            "{text}"
        );
        let dogs = r#"spotter_detections_total{model="ssd",label="dog",component="detect"} 4"#;
        assert!(text.contains(dogs), "{text}");
    }

    #[test]
    fn a_component_uses_up_no_series_of_others_and_adds_to_none() {
        let metrics = Metrics::default();
        let count = |component: &str, label: &str| {
            let mut headers = HeaderMap::new();
            let text = format!("ssd; {label}=1");
            headers.insert(DETECTIONS_HEADER, HeaderValue::from_str(&text).unwrap());
            metrics.count_detections(component, &mut headers);
        };
        count("detect", "dog");
        (0..3 * MAX_DETECTION_SERIES).for_each(|number| count("hostile", &number.to_string()));
        for label in ["cat", "dog"] {
            count("detect", label);
            count("hostile", label);
        }
        let text = metrics.encode();
        let lines = text.lines().filter(|line| line.starts_with("spotter_detections_total{"));
        let (own, others): (Vec<&str>, Vec<&str>) =
            lines.partition(|line| line.contains(r#"component="detect""#));
        assert!(own.iter().any(|line| line.contains("\"dog\"") && line.ends_with(" 2")), "{own:?}");
        assert!(own.iter().any(|line| line.contains("\"cat\"") && line.ends_with(" 1")), "{own:?}");
        assert_eq!((own.len(), others.len()), (2, MAX_DETECTION_SERIES));
    }

    #[test]
    fn labels_are_bounded_and_escaped() {
        let metrics = Metrics::default();
        let long = format!("ssd; {}=1", "l".repeat(129));
        for text in [r#"m"{; a\b"=1"#, &long] {
            let mut headers = HeaderMap::new();
            headers.insert(DETECTIONS_HEADER, HeaderValue::from_str(text).unwrap());
            metrics.count_detections("detect", &mut headers);
        }
        let text = metrics.encode();
        let counted: Vec<_> =
            text.lines().filter(|line| line.starts_with("spotter_detections_total{")).collect();
        assert_eq!(
            counted,
            [r#"spotter_detections_total{model="m\"{",label="a\\b\"",component="detect"} 1"#]
        );
    }
}
