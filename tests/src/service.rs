//! A Service of pods, without a cluster: it probes the pods with the periods in the manifests, restarts those that fail
//! their liveness probe, and sends clients' requests to those that are ready.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client;
use crate::kubelet::{Kubelet, Pod, Wanted};

/// How often the kubelet looks whether containers have ended (its pod lifecycle event generator).
const RELIST: Duration = Duration::from_secs(1);

/// A probe's times.
struct Probe {
    period: Duration,
    timeout: Duration,
    failures: u64,
}

impl Probe {
    /// With Kubernetes' defaults.
    fn of(probe: &Value) -> Self {
        let number = |key: &str, default: u64| probe[key].as_u64().unwrap_or(default);
        Self {
            period: Duration::from_secs(number("periodSeconds", 10)),
            timeout: Duration::from_secs(number("timeoutSeconds", 1)),
            failures: number("failureThreshold", 3),
        }
    }
}

/// A pod of the Service, which may be replaced by another.
struct Member {
    name: String,
    running: Mutex<Option<(Pod, String)>>,
    is_ready: AtomicBool,
}

impl Member {
    fn running(&self) -> MutexGuard<'_, Option<(Pod, String)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, of: impl Fn(&Pod) -> String) -> Option<String> {
        self.running().as_ref().map(|(pod, _)| of(pod))
    }
}

/// The pods of a Service.
pub struct Service<'a> {
    kubelet: &'a Kubelet,
    wanted: Wanted<'a>,
    readiness: Probe,
    liveness: Probe,
    members: Vec<Member>,
    next: AtomicUsize,
    is_over: AtomicBool,
}

/// What clients noticed.
#[derive(Debug, Default)]
pub struct Losses {
    pub sent: usize,
    /// Requests without a reply, or with another status than 200.
    pub lost: usize,
    /// The same, of clients that try another pod once.
    pub lost_after_retry: usize,
}

impl<'a> Service<'a> {
    /// Runs these pods, whose container has the probes of `manifest`.
    pub fn run(kubelet: &'a Kubelet, names: &[&str], wanted: Wanted<'a>, manifest: &Value) -> Self {
        let members = names.iter().map(|name| Member {
            name: (*name).to_owned(),
            running: Mutex::new(Some(kubelet.serve(name, &wanted))),
            is_ready: AtomicBool::new(true),
        });
        let members = members.collect();
        Self {
            kubelet,
            wanted,
            readiness: Probe::of(&manifest["readinessProbe"]),
            liveness: Probe::of(&manifest["livenessProbe"]),
            members,
            next: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// Sends `rate` requests a second for some time, and causes a fault with the first pod and container after two
    /// seconds.
    pub fn losses(
        &self,
        rate: u32,
        duration: Duration,
        fault: impl FnOnce(&Pod, &str) + Send,
    ) -> Losses {
        let losses = Mutex::new(Losses::default());
        self.is_over.store(false, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for member in &self.members {
                scope.spawn(|| self.watch_readiness(member));
                scope.spawn(|| self.watch_liveness(member));
            }
            let began = Instant::now();
            scope.spawn(move || {
                std::thread::sleep(Duration::from_secs(2));
                let first = self.members[0].running();
                let (pod, container) = first.as_ref().expect("a pod");
                fault(pod, container);
            });
            while began.elapsed() < duration {
                scope.spawn(|| {
                    let first = self.ask(None);
                    let second = if first.is_ok() { first } else { self.ask(first.err()) };
                    let mut losses = losses.lock().unwrap_or_else(PoisonError::into_inner);
                    losses.sent += 1;
                    losses.lost += usize::from(first.is_err());
                    losses.lost_after_retry += usize::from(second.is_err());
                });
                std::thread::sleep(Duration::from_secs(1) / rate);
            }
            self.is_over.store(true, Ordering::SeqCst);
        });
        losses.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one request to the ready pods in turn, but not to `avoided`. The error is the pod that failed.
    fn ask(&self, avoided: Option<usize>) -> Result<(), usize> {
        const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
        let is_ready = |at: &usize| self.members[*at].is_ready.load(Ordering::SeqCst);
        let count = self.members.len();
        let from = self.next.fetch_add(1, Ordering::SeqCst);
        let mut turns = (from..from + count).map(|turn| turn % count);
        let chosen = turns.find(|at| is_ready(at) && Some(*at) != avoided);
        let chosen = chosen.or(avoided).unwrap_or(0);
        let url = self.members[chosen].url(|pod| pod.url("/labels"));
        let status = url.and_then(|url| client::status_within(&url, CLIENT_TIMEOUT));
        if status == Some(200) { Ok(()) } else { Err(chosen) }
    }

    fn watch_readiness(&self, member: &Member) {
        let mut failures = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            let passed = self.probe(member, "/readyz", &self.readiness);
            failures = if passed { 0 } else { failures + 1 };
            if passed || failures >= self.readiness.failures {
                member.is_ready.store(passed, Ordering::SeqCst);
            }
        }
    }

    /// Restarts a container that liveness probes find dead, or that has ended.
    fn watch_liveness(&self, member: &Member) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !self.is_over.load(Ordering::SeqCst) {
                    std::thread::sleep(RELIST);
                    let mut running = member.running();
                    let ended = running.as_ref().filter(|(_, it)| !self.kubelet.is_running(it));
                    if ended.is_some() {
                        member.is_ready.store(false, Ordering::SeqCst);
                        self.restart(&mut running, &member.name);
                    }
                }
            });
            let mut failures = 0;
            while !self.is_over.load(Ordering::SeqCst) {
                let passed = self.probe(member, "/healthz", &self.liveness);
                failures = if passed { 0 } else { failures + 1 };
                if failures >= self.liveness.failures {
                    failures = 0;
                    self.restart(&mut member.running(), &member.name);
                }
            }
        });
    }

    /// Runs a probe, and waits for its period.
    fn probe(&self, member: &Member, path: &str, probe: &Probe) -> bool {
        let began = Instant::now();
        let url = member.url(|pod| pod.admin_url(path));
        let status = url.and_then(|url| client::status_within(&url, probe.timeout));
        std::thread::sleep(probe.period.saturating_sub(began.elapsed()));
        status == Some(200)
    }

    /// Starts the container anew, in a new pod if its own lost its sandbox.
    fn restart(&self, running: &mut Option<(Pod, String)>, name: &str) {
        let Some((pod, container)) = running.take() else { return };
        self.kubelet.stop(&container, 1);
        self.kubelet.remove(&container);
        *running = Some(match self.kubelet.create(&pod, &self.wanted) {
            Ok(container) if self.kubelet.start(&container).is_ok() => (pod, container),
            _ => {
                self.kubelet.remove_pod(&pod);
                let pod = self.kubelet.run_pod(&format!("{name}-again"));
                let container = self.kubelet.run(&pod, &self.wanted);
                (pod, container)
            }
        });
    }

    /// Whether every pod is ready.
    pub fn is_whole(&self) -> bool {
        self.members.iter().all(|member| {
            let url = member.url(|pod| pod.admin_url("/readyz"));
            url.is_some_and(|url| client::is_ready(&url))
        })
    }

    /// Removes the pods.
    pub fn remove(self) {
        for member in &self.members {
            if let Some((pod, _)) = member.running().take() {
                self.kubelet.remove_pod(&pod);
            }
        }
    }
}
