//! A virtual machine whose kernel has the bonding driver, which this machine's kernel may lack: Debian's kernel,
//! emulated by QEMU, with a root file system in memory. If this machine's kernel has the driver, the same root file
//! system runs on it, in namespaces. For Debian on x86-64.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{oci, peer, root, spotter, stderr, system};

/// The Debian packages in the root file system.
const PACKAGES: &str = "systemd,udev,ifupdown,ifenslave,bridge-utils,iproute2,iperf3,kmod,curl";
/// The folders of the kernel package whose modules are included.
const MODULES: [&str; 5] = ["net", "lib", "crypto", "drivers/net/bonding", "drivers/net/veth.ko"];
/// The machine is stopped after this many seconds.
const TIMEOUT_SECONDS: &str = "500";

/// The output of `tests/bond/cases`.
pub struct Report(String);

impl Report {
    /// The text between `BEGIN name` and `END name`.
    pub fn text(&self, name: &str) -> &str {
        let (begin, end) = (format!("BEGIN {name}\n"), format!("END {name}\n"));
        let rest = self.0.split_once(&begin).unwrap_or_else(|| panic!("no {name} in {}", self.0)).1;
        rest.split_once(&end).expect("its end").0
    }

    /// The text between `BEGIN name` and `END name`, parsed as JSON.
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(self.text(name))
            .unwrap_or_else(|error| panic!("{name}: {error}: {}", self.0))
    }

    /// The value of `field` in the line `RESULT … key …`.
    pub fn result(&self, key: &str, field: &str) -> &str {
        let lines = self.0.lines().filter_map(|line| line.strip_prefix("RESULT "));
        let mut lines = lines.map(|line| line.split(' ').collect::<Vec<_>>());
        let line = lines
            .find(|line| line.contains(&key))
            .unwrap_or_else(|| panic!("no {key} in {}", self.0));
        let value = line.iter().find_map(|entry| entry.strip_prefix(field)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {field} in {line:?}"))
    }

    /// The value of `field`, as a number.
    pub fn number(&self, key: &str, field: &str) -> f64 {
        let value = self.result(key, field);
        value.parse().unwrap_or_else(|_| panic!("{field} of {key} is {value:?}"))
    }
}

/// Runs `/test/init`, one of these files (each with its path below `/test`). `spotter` is available there too.
pub fn run(files: &[(PathBuf, &str)]) -> Report {
    let work = tempfile::tempdir().expect("a folder");
    let extra = work.path().join("extra");
    let place = |from: &Path, to: &str| {
        let to = extra.join(to);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    };
    for (from, to) in files {
        place(from, &format!("test/{to}"));
    }
    place(spotter(), "usr/local/bin/spotter");
    let text = if has_driver() { in_namespaces(&extra) } else { emulated(work.path(), &extra) };
    Report(text.replace('\r', ""))
}

/// Whether this machine's own kernel has the bonding driver.
fn has_driver() -> bool {
    let _ = Command::new("modprobe").args(["-q", "bonding", "max_bonds=0"]).status();
    Path::new("/sys/class/net/bonding_masters").exists()
}

fn in_namespaces(extra: &Path) -> String {
    let script = format!(
        "cp -a {base}/root/. . && mount -t proc proc proc && mount -t sysfs sys sys && mount --rbind /dev dev
        exec chroot . /test/cases",
        base = base().display()
    );
    let mut command = Command::new("timeout");
    let namespaces = ["--net", "--mount", "--pid", "--fork"];
    let run =
        command.args([TIMEOUT_SECONDS, "unshare"]).args(namespaces).args(["sh", "-c", &script]);
    let run = run.current_dir(extra).output().expect("unshare starts");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "in namespaces: {}\n{said}{}", run.status, stderr(&run));
    said
}

fn emulated(work: &Path, extra: &Path) -> String {
    let base = base();
    let qemu = system::program("qemu-system-x86_64", "qemu-system-x86");
    fs::rename(extra.join("test/init"), extra.join("init")).expect("the first program");
    // The kernel unpacks concatenated archives one after the other.
    let archives = work.join("initrd");
    shell(&format!(
        "cp {base}/root.cpio {archives} && cd {extra} && find . | cpio -o -H newc --quiet >> {archives}",
        base = base.display(),
        archives = archives.display(),
        extra = extra.display()
    ));
    let console = work.join("console");
    let machine = Command::new("timeout")
        .arg(TIMEOUT_SECONDS)
        .arg(qemu)
        // KVM is not available everywhere, and hangs on some machines that seem to have it.
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35", "-smp", "2", "-m", "2048"])
        .args(["-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-serial", &format!("file:{}", console.display())])
        .arg("-kernel")
        .arg(base.join("vmlinuz"))
        .arg("-initrd")
        .arg(archives)
        .args([
            "-append",
            "console=ttyS0 quiet no_timer_check mitigations=off panic=-1 rdinit=/init",
        ])
        .output();
    let said = machine.expect("qemu starts");
    let text = fs::read(&console).unwrap_or_else(|error| panic!("{error}: {}", stderr(&said)));
    String::from_utf8_lossy(&text).into_owned()
}

/// The folder in the cache with the kernel, and with the root file system both as a folder and as an archive that
/// includes the kernel's modules. Created only once.
fn base() -> PathBuf {
    let key = oci_digest(&format!("{PACKAGES} {MODULES:?} 2"));
    let folder = peer::cache().join(format!("bond-guest-{key}"));
    if folder.exists() {
        return folder;
    }
    for (program, package) in
        [("debootstrap", "debootstrap"), ("cpio", "cpio"), ("dpkg-deb", "dpkg")]
    {
        system::program(program, package);
    }
    fs::create_dir_all(peer::cache()).expect("a cache");
    let work = tempfile::tempdir_in(peer::cache()).expect("a folder");
    let modules: String =
        MODULES.iter().map(|path| format!("cp -r --parents {path} $modules; ")).collect();
    shell(&format!(
        "set -e; cd {work}
        debootstrap --variant=minbase --include={PACKAGES} bookworm root http://deb.debian.org/debian >&2
        rm -rf root/usr/share/doc root/usr/share/man root/usr/share/locale root/var/cache/apt root/var/lib/apt/lists
        apt-get update -q >&2
        package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \\(linux-image-[0-9].*\\)/\\1/p' | head -1)
        apt-get download $package >&2
        dpkg-deb -x linux-image-*.deb kernel
        cp kernel/boot/vmlinuz-* vmlinuz
        version=$(ls kernel/lib/modules)
        modules=$PWD/root/lib/modules/$version/kernel
        mkdir -p $modules
        cp kernel/lib/modules/$version/modules.order kernel/lib/modules/$version/modules.builtin* root/lib/modules/$version/
        cd kernel/lib/modules/$version/kernel; {modules} cd {work}
        chroot root depmod $version
        cd root; find . -path ./dev/'*' -prune -o -print | cpio -o -H newc --quiet > ../root.cpio
        cd ..; rm -rf kernel linux-image-*.deb",
        work = work.path().display()
    ));
    fs::rename(work.keep(), &folder).expect("a place in the cache");
    folder
}

fn shell(script: &str) {
    let done = Command::new("sh").args(["-c", script]).output().expect("a shell");
    assert!(done.status.success(), "{script}: {}", stderr(&done));
}

fn oci_digest(text: &str) -> String {
    oci::digest(text.as_bytes())["sha256:".len()..][..12].to_owned()
}

/// The files of `tests/bond` and `k8s/network`, and those that netplan generates.
pub fn bond_files(generated: &Path) -> Vec<(PathBuf, &'static str)> {
    let of = |path: &str| root().join(path);
    let mut files = vec![
        (of("tests/bond/init"), "init"),
        (of("tests/bond/cases"), "cases"),
        (of("tests/bond/requests"), "requests"),
        (of("target/spotter/hello.wasm"), "hello.wasm"),
        (of("k8s/network/ifupdown/interfaces"), "ifupdown/interfaces"),
    ];
    for (folder, name) in
        [(of("k8s/network/networkd"), "networkd"), (generated.to_owned(), "netplan")]
    {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let to = format!("{name}/{}", entry.file_name().to_string_lossy());
            files.push((entry.path(), to.leak()));
        }
    }
    files
}
