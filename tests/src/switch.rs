//! A switch and a host, joined by two links in one LACP group. They use Open vSwitch's userspace datapath, which
//! does not need the kernel's bonding driver. The host is connected to a bridge, and the switch to a client in a
//! separate namespace. Both ends of the bond are in a namespace without addresses. Otherwise the kernel would answer
//! and forward packets itself, past the links.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::node::{Bridge, ip, sure};
use crate::system;

/// The two ends of the bond.
const SWITCH: &str = "switch";
const HOST: &str = "host";

/// A switch, two links, and a host.
pub struct Switch {
    folder: TempDir,
    number: u32,
}

impl Switch {
    /// Joins a client to this bridge. Each link is limited to `rate` (in the syntax of `tc`: `100mbit`), if given.
    /// Returns once LACP has been negotiated on both links.
    pub fn join(bridge: &Bridge, rate: Option<&str>) -> Self {
        system::program("ovs-vswitchd", "openvswitch-switch");
        system::program("ethtool", "ethtool");
        let folder = tempfile::tempdir().expect("a folder");
        // The kernel removes a namespace with a delay, so each switch has its own names.
        static JOINED: AtomicU32 = AtomicU32::new(0);
        let turn = JOINED.fetch_add(1, Ordering::Relaxed) % 10;
        let switch = Self { folder, number: std::process::id() % 1000 * 10 + turn };
        ip(&format!("netns add {}", switch.namespace()));
        switch.start();
        for end in [SWITCH, HOST] {
            switch.vsctl(&format!(
                "add-br {0} -- set bridge {0} datapath_type=netdev",
                switch.name(end, 0)
            ));
        }
        switch.links(rate);
        // The links from the host to its bridge, and from the client to the switch.
        let (host, inner) = (switch.name(HOST, 9), switch.name("bridge", 9));
        let within = switch.namespace();
        ip(&format!("link add {host} netns {within} type veth peer name {inner}"));
        sure(&mut without_offload(&inner));
        ip(&format!("link set {inner} master {} up", bridge.name));
        switch.plug(HOST, &host);
        let (port, client) = (switch.name(SWITCH, 9), switch.client());
        ip(&format!("netns add {client}"));
        ip(&format!("link add {port} netns {within} type veth peer name eth0 netns {client}"));
        switch.plug(SWITCH, &port);
        for words in [
            format!("-n {client} address add {}.250/24 dev eth0", bridge.network),
            format!("-n {client} link set eth0 up"),
            format!("-n {client} link set lo up"),
            format!("-n {client} route add default via {}.1", bridge.network),
        ] {
            ip(&words);
        }
        sure(
            Command::new("ip")
                .args(["netns", "exec", &client, "ethtool", "-K", "eth0", "tx", "off"]),
        );
        switch.wait_for_members(2);
        switch
    }

    /// A link's name, of at most fifteen characters.
    fn name(&self, end: &str, link: u32) -> String {
        format!("sp{}{}{link}", self.number, &end[..2])
    }

    /// The client's namespace.
    pub fn client(&self) -> String {
        format!("spotter-client{}", self.number)
    }

    /// The bond's namespace.
    fn namespace(&self) -> String {
        format!("spotter-switch{}", self.number)
    }

    fn start(&self) {
        let folder = self.folder.path();
        let database = folder.join("conf.db");
        let schema = "/usr/share/openvswitch/vswitch.ovsschema";
        sure(Command::new("ovsdb-tool").arg("create").arg(&database).arg(schema));
        let socket = format!("--remote=punix:{}", folder.join("db.sock").display());
        self.daemon("ovsdb-server", &[&socket, database.to_str().expect("a path")]);
        self.vsctl("--no-wait init");
        self.daemon("ovs-vswitchd", &[&self.database()]);
    }

    fn database(&self) -> String {
        format!("unix:{}", self.folder.path().join("db.sock").display())
    }

    fn daemon(&self, program: &str, arguments: &[&str]) {
        let folder = self.folder.path();
        let at = |option: &str, suffix: &str| {
            format!("--{option}={}", folder.join(format!("{program}.{suffix}")).display())
        };
        let control = at("unixctl", "ctl");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args([
                "--detach",
                "--no-chdir",
                &control,
                &at("pidfile", "pid"),
                &at("log-file", "log"),
            ])
            .env("OVS_RUNDIR", folder);
        let mut command = within_namespace(&self.namespace(), command);
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(started.is_ok_and(|status| status.success()), "{program} does not start");
    }

    fn vsctl(&self, words: &str) {
        let database = format!("--db={}", self.database());
        sure(Command::new("ovs-vsctl").args([&database, "--timeout=20"]).args(words.split(' ')));
    }

    /// Runs a program in the bond's namespace.
    fn within(&self, command: Command) -> String {
        sure(&mut within_namespace(&self.namespace(), command))
    }

    fn ip(&self, words: &str) {
        ip(&format!("-n {} {words}", self.namespace()));
    }

    fn plug(&self, end: &str, link: &str) {
        self.within(without_offload(link));
        self.vsctl(&format!("add-port {} {link}", self.name(end, 0)));
        self.ip(&format!("link set {link} up"));
    }

    fn links(&self, rate: Option<&str>) {
        for link in [1, 2] {
            let ends = [self.name(SWITCH, link), self.name(HOST, link)];
            self.ip(&format!("link add {} type veth peer name {}", ends[0], ends[1]));
            for end in &ends {
                self.within(without_offload(end));
                self.ip(&format!("link set {end} up"));
            }
        }
        for end in [SWITCH, HOST] {
            self.vsctl(&format!(
                "add-bond {} {} {} {} lacp=active bond_mode=balance-tcp other_config:lacp-time=fast \
                 other_config:bond-rebalance-interval=1000",
                self.name(end, 0),
                self.name(end, 8),
                self.name(end, 1),
                self.name(end, 2),
            ));
            // Only now: adding a link to the switch removes its queues.
            for link in [1, 2] {
                if let Some(rate) = rate {
                    let link = self.name(end, link);
                    let words = format!(
                        "qdisc add dev {link} root tbf rate {rate} burst 64kb latency 100ms"
                    );
                    let mut queue = Command::new("tc");
                    queue.args(words.split(' '));
                    self.within(queue);
                }
            }
        }
    }

    /// Takes link 1 or 2 down at the switch's end.
    pub fn cut(&self, link: u32) {
        self.ip(&format!("link set {} down", self.name(SWITCH, link)));
    }

    /// Brings the link up again, and waits until it is in the group.
    pub fn restore(&self, link: u32) {
        self.ip(&format!("link set {} up", self.name(SWITCH, link)));
        self.wait_for_members(2);
    }

    /// The bytes that the host has received and sent through each link.
    pub fn bytes(&self) -> [(u64, u64); 2] {
        [1, 2].map(|link| {
            let folder = format!("/sys/class/net/{}/statistics", self.name(HOST, link));
            let mut read = Command::new("cat");
            read.args([format!("{folder}/rx_bytes"), format!("{folder}/tx_bytes")]);
            let text = self.within(read);
            let mut numbers = text.lines().map(|line| line.parse().expect("a number"));
            (numbers.next().expect("received"), numbers.next().expect("sent"))
        })
    }

    fn wait_for_members(&self, wanted: usize) {
        let began = Instant::now();
        while self.members() != [wanted; 2] {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "LACP: {:?} of {wanted} links",
                self.members()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The links that carry traffic, as each end reports them.
    fn members(&self) -> [usize; 2] {
        let control = self.folder.path().join("ovs-vswitchd.ctl");
        [SWITCH, HOST].map(|end| {
            let bond = self.name(end, 8);
            let shown =
                sure(Command::new("ovs-appctl").arg("-t").arg(&control).args(["bond/show", &bond]));
            if !shown.contains("lacp_status: negotiated") {
                return 0;
            }
            let enabled = |line: &&str| line.contains(": enabled") && line.starts_with("member");
            shown.lines().filter(enabled).count()
        })
    }
}

/// Turns checksum offload off. Otherwise, packets within one machine would have no checksums, and the userspace
/// datapath does not add them.
fn without_offload(link: &str) -> Command {
    let mut command = Command::new("ethtool");
    command.args(["-K", link, "tx", "off"]);
    command
}

/// The same command in a network namespace.
fn within_namespace(namespace: &str, command: Command) -> Command {
    let mut within = Command::new("ip");
    within.args(["netns", "exec", namespace]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        within.env(name, value.unwrap_or_default());
    }
    within
}

impl Drop for Switch {
    fn drop(&mut self) {
        for program in ["ovs-vswitchd", "ovsdb-server"] {
            let pid = std::fs::read_to_string(self.folder.path().join(format!("{program}.pid")));
            let pid = pid.unwrap_or_default();
            // Immediately: a switch that lingers takes links of the same names for its own.
            let _ = Command::new("kill").args(["-9", pid.trim()]).status();
            let began = Instant::now();
            while !pid.is_empty()
                && Path::new("/proc").join(pid.trim()).exists()
                && began.elapsed() < Duration::from_secs(5)
            {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // Their links go with them.
        for namespace in [self.client(), self.namespace()] {
            let _ = Command::new("ip").args(["netns", "delete", &namespace]).output();
        }
    }
}
