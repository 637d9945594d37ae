//! Black-box tests beside real systems: containerd, LXC, QEMU, registries, Prometheus, other runtimes.

mod bond;
mod lxc;
mod manifests;
mod pods;
mod prometheus;
mod registry;
mod shim;
mod wasmtime;
