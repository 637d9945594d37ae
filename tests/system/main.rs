//! Black-box tests against real systems: containerd, LXC, QEMU, registries, Prometheus, other
//! runtimes, other servers' clients, a browser.

mod accelerated_pods;
mod apply;
mod batch;
mod bond;
mod capacity;
mod chart;
mod clients;
mod compile;
mod components;
mod engine;
mod failures;
mod lxc;
mod make_node;
mod manifests;
mod node_install;
mod openapi;
mod page;
mod pods;
mod prometheus;
mod redis;
mod registry;
mod scheduler;
mod shim;
mod smuggling;
mod standalone;
mod wasmtime;
