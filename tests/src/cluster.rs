//! Room for pods on the nodes of a cluster, by the scheduler's arithmetic: requests and overhead against what a
//! node can allocate.

use serde_json::Value;

/// CPU time in thousandths of a core, and memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu: u64,
    pub memory: u64,
}

impl Resources {
    /// From `{cpu: 800m, memory: 64Mi}`.
    pub fn of(list: &Value) -> Self {
        let text = |key: &str| list[key].as_str().unwrap_or_else(|| panic!("no {key} in {list}"));
        Self { cpu: millicores(text("cpu")), memory: bytes(text("memory")) }
    }

    pub fn plus(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory + other.memory }
    }

    /// How many of these fit into that.
    pub fn times_in(self, whole: Self) -> u64 {
        (whole.cpu / self.cpu).min(whole.memory / self.memory)
    }
}

/// What pods of functions can request on a node, with 2 GiB of memory for each core.
pub fn room(cores: u64) -> Resources {
    // What Google's managed nodes reserve for the kubelet and the system, which is more than kubeadm's do
    // (<https://cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes>): of the cores 6 % of the first, 1 %
    // of the second, 0.5 % of the next two, and 0.25 % of the others; of memory at most a quarter.
    let reserved = 60 + 10 + if cores > 2 { 10 } else { 0 } + cores.saturating_sub(4) * 5 / 2;
    let memory = cores * (2 << 30);
    // Daemon sets such as a network plugin, kube-proxy and a log collector, and a share of the cluster's DNS.
    let daemons = Resources { cpu: 300, memory: 512 << 20 };
    Resources {
        cpu: cores * 1000 - reserved - daemons.cpu,
        memory: memory * 3 / 4 - daemons.memory,
    }
}

/// A quantity of CPU time: `800m`, `2`.
fn millicores(text: &str) -> u64 {
    match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().expect("a number"),
        None => text.parse::<u64>().expect("a number of cores") * 1000,
    }
}

/// A quantity of memory: `64Mi`, `1Gi`.
fn bytes(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 2);
    let shift = match unit {
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => panic!("the unit of {text}"),
    };
    number.parse::<u64>().expect("a number") << shift
}
