//! The containerd shim for the runtime `io.containerd.spotter.v1`.

fn main() {
    containerd_shim_spotter::main();
}
