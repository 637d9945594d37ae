//! The shim that containerd starts for each pod whose runtime is `io.containerd.spotter.v1`.

fn main() {
    spotter::shim::main();
}
