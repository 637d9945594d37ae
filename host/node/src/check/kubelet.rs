//! Checks what a kubelet needs to join a cluster and serve: a certificate, the API server, a proxy, a sandbox image.

use super::{Finding, fail, pass, warn};
use crate::kubelet::{Kubeconfig, Kubelet};

pub(super) fn findings(kubelet: &Kubelet) -> Vec<Finding> {
    let Some(program) = &kubelet.program else {
        return vec![warn(
            "kubelet",
            "kubelet",
            "there is no kubelet: this machine runs pods, but is not a node of a cluster",
            "make-node --kubelet FILE --bootstrap FILE, or your distribution's package (k3s brings its own)",
        )];
    };
    let mut findings = vec![
        pass("kubelet", "kubelet", format!("the kubelet is {}", program.display())),
        certificate(kubelet),
    ];
    let config = kubelet.kubeconfig.as_ref().or(kubelet.bootstrap.as_ref());
    findings.extend(config.map(api_server));
    findings.extend([proxy(kubelet), bridges(kubelet)]);
    findings.extend(kubelet.has_sandbox_image.map(sandbox_image));
    findings
}

fn certificate(kubelet: &Kubelet) -> Finding {
    let (code, subject) = ("kubelet-certificate", "kubelet");
    match (&kubelet.kubeconfig, &kubelet.bootstrap) {
        (Some(Kubeconfig { missing_certificate: Some(file), .. }), _) => fail(
            code,
            subject,
            format!("there is no certificate {}", file.display()),
            "put a kubeconfig with a new bootstrap token on the node; then rm /etc/kubernetes/kubelet.conf; systemctl restart kubelet",
        ),
        (Some(config), _) => {
            pass(code, subject, format!("it has joined with {}", config.path.display()))
        }
        (None, Some(config)) => warn(
            code,
            subject,
            format!("it asks to join with {}, but has no certificate yet", config.path.display()),
            "kubectl get csr; kubectl certificate approve NAME; then journalctl -u kubelet",
        ),
        (None, None) => fail(
            code,
            subject,
            "it has no kubeconfig, so it belongs to no cluster",
            "kubeadm join, or make-node --bootstrap FILE",
        ),
    }
}

fn api_server(config: &Kubeconfig) -> Finding {
    let (code, subject) = ("api-server", "kubelet");
    match (&config.server, &config.unreachable) {
        (None, _) => fail(
            code,
            subject,
            format!("{} names no API server", config.path.display()),
            format!("kubectl --kubeconfig {} config set-cluster", config.path.display()),
        ),
        (Some(server), Some(problem)) => fail(
            code,
            subject,
            format!("the API server {server} cannot be reached: {problem}"),
            "ip route get ADDRESS, then check the firewall, and the API server itself",
        ),
        (Some(server), None) => pass(code, subject, format!("the API server {server} answers")),
    }
}

fn proxy(kubelet: &Kubelet) -> Finding {
    match &kubelet.proxy {
        Some(name) => pass("kube-proxy", "network", format!("{name} serves Services' addresses")),
        None => warn(
            "kube-proxy",
            "network",
            "neither kube-proxy nor a replacement runs: Services' addresses lead nowhere",
            "kubectl -n kube-system get daemonset kube-proxy, or start one as a service of this machine",
        ),
    }
}

fn bridges(kubelet: &Kubelet) -> Finding {
    let message = match kubelet.filters_bridges {
        Some(true) => {
            return pass("bridge-netfilter", "network", "the firewall sees bridged packets");
        }
        Some(false) => "net.bridge.bridge-nf-call-iptables is 0",
        None => "the module br_netfilter is not loaded",
    };
    warn(
        "bridge-netfilter",
        "network",
        format!("{message}: pods cannot reach a pod on the same bridge through a Service"),
        "modprobe br_netfilter (in LXC: on the host); sysctl -w net.bridge.bridge-nf-call-iptables=1",
    )
}

fn sandbox_image(is_there: bool) -> Finding {
    if is_there {
        return pass("pause-image", "containerd", "the pod sandbox image is present");
    }
    warn(
        "pause-image",
        "containerd",
        "there is no pod sandbox image: the first pod pulls it, which fails offline",
        "ctr -n k8s.io images pull registry.k8s.io/pause:3.10, or ctr -n k8s.io images import FILE",
    )
}

#[cfg(test)]
mod tests {
    use super::findings;
    use crate::check::Verdict::{self, Fail, Pass, Warn};
    use crate::kubelet::{Kubeconfig, Kubelet};

    fn joined() -> Kubelet {
        let config =
            Kubeconfig { server: Some("https://10.0.0.1:6443".into()), ..Kubeconfig::default() };
        Kubelet {
            program: Some("/usr/bin/kubelet".into()),
            kubeconfig: Some(config),
            bootstrap: None,
            proxy: Some("kube-proxy".into()),
            filters_bridges: Some(true),
            has_sandbox_image: Some(true),
        }
    }

    fn faults(kubelet: &Kubelet) -> Vec<(&'static str, Verdict)> {
        let found = findings(kubelet).into_iter().filter(|finding| finding.verdict != Pass);
        found.map(|finding| (finding.code, finding.verdict)).collect()
    }

    #[test]
    fn each_thing_that_a_kubelet_lacks_is_found_by_itself() {
        assert_eq!(faults(&joined()), []);
        let config = joined().kubeconfig.unwrap();
        let changed = |change: &dyn Fn(&mut Kubelet)| {
            let mut kubelet = joined();
            change(&mut kubelet);
            faults(&kubelet)
        };
        assert_eq!(changed(&|kubelet| kubelet.program = None), [("kubelet", Warn)]);
        assert_eq!(changed(&|kubelet| kubelet.kubeconfig = None), [("kubelet-certificate", Fail)]);
        let asks = changed(&|kubelet| kubelet.bootstrap = kubelet.kubeconfig.take());
        assert_eq!(asks, [("kubelet-certificate", Warn)]);
        for (config, code) in [
            (
                Kubeconfig { missing_certificate: Some("/pki/a.pem".into()), ..config.clone() },
                "kubelet-certificate",
            ),
            (Kubeconfig { unreachable: Some("refused".into()), ..config.clone() }, "api-server"),
            (Kubeconfig { server: None, ..config }, "api-server"),
        ] {
            let found = changed(&|kubelet| kubelet.kubeconfig = Some(config.clone()));
            assert_eq!(found, [(code, Fail)]);
        }
        assert_eq!(changed(&|kubelet| kubelet.proxy = None), [("kube-proxy", Warn)]);
        for filters in [None, Some(false)] {
            let found = changed(&|kubelet| kubelet.filters_bridges = filters);
            assert_eq!(found, [("bridge-netfilter", Warn)]);
        }
        let without = changed(&|kubelet| kubelet.has_sandbox_image = Some(false));
        assert_eq!(without, [("pause-image", Warn)]);
        assert_eq!(changed(&|kubelet| kubelet.has_sandbox_image = None), []);
    }
}
