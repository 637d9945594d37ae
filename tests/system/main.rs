//! Black-box tests against real systems: containerd, LXC, QEMU, registries, Prometheus, other
//! runtimes, other servers' clients, a browser.

mod accelerated_pods;
mod apply;
mod autoscaling;
mod batch;
mod bond;
mod capacity;
mod chart;
mod clients;
mod cluster_page;
mod compile;
mod components;
mod engine;
mod failures;
mod kubectl;
mod languages;
mod losses;
mod lxc;
mod make_node;
mod manifests;
mod node_install;
mod openapi;
mod origins;
mod page;
mod pod_configuration;
mod pod_memory;
mod pods;
mod prometheus;
mod redis;
mod registry;
mod scheduler;
mod shim;
mod slow_compile;
mod smuggling;
mod standalone;
mod wasmtime;
