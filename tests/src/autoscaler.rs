//! The HorizontalPodAutoscaler's algorithm, as Kubernetes documents it
//! (<https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/>), over a rendered manifest.
//! All pods are ready and have metrics; a HorizontalPodAutoscaler with several metrics takes the highest result.

use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
};
use serde::Deserialize;
use serde_json::Value;

/// The controller manager's `--horizontal-pod-autoscaler-sync-period`, in seconds.
pub const SYNC_SECONDS: u32 = 15;
/// Its `--horizontal-pod-autoscaler-tolerance`: a metric that is so close to its target changes nothing.
const TOLERANCE: f64 = 0.1;

/// An autoscaler at work.
pub struct Autoscaler {
    minimum: u32,
    maximum: u32,
    up: Rules,
    down: Rules,
    seconds: u32,
    /// Recommendations and changes so far: when, and to how many pods.
    recommended: Vec<(u32, u32)>,
    changed: Vec<(u32, i64)>,
}

/// What a direction allows.
struct Rules {
    stabilization_seconds: u32,
    policies: Vec<HPAScalingPolicy>,
    takes_smallest: bool,
}

impl Rules {
    fn of(rules: Option<&HPAScalingRules>, default: Self) -> Self {
        let Some(rules) = rules else { return default };
        let seconds = rules.stabilization_window_seconds.map(i32::unsigned_abs);
        Self {
            stabilization_seconds: seconds.unwrap_or(default.stabilization_seconds),
            policies: rules.policies.clone().unwrap_or(default.policies),
            takes_smallest: rules.select_policy.as_deref() == Some("Min"),
        }
    }
}

fn policy(kind: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy { type_: kind.to_owned(), value, period_seconds: 15 }
}

impl Autoscaler {
    pub fn of(object: &Value) -> Self {
        let object = HorizontalPodAutoscaler::deserialize(object).expect("an autoscaler");
        let spec = object.spec.expect("a specification");
        let behavior = spec.behavior.unwrap_or_default();
        // The defaults: doubling or four more pods in 15 s, and down to the minimum after 300 s.
        let up = Rules {
            stabilization_seconds: 0,
            policies: vec![policy("Percent", 100), policy("Pods", 4)],
            takes_smallest: false,
        };
        let down = Rules {
            stabilization_seconds: 300,
            policies: vec![policy("Percent", 100)],
            takes_smallest: false,
        };
        Self {
            minimum: spec.min_replicas.unwrap_or(1).unsigned_abs(),
            maximum: spec.max_replicas.unsigned_abs(),
            up: Rules::of(behavior.scale_up.as_ref(), up),
            down: Rules::of(behavior.scale_down.as_ref(), down),
            seconds: 0,
            recommended: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// The number of pods after one period with this many, whose metrics are these multiples of their targets.
    pub fn step(&mut self, replicas: u32, ratios: &[f64]) -> u32 {
        self.seconds += SYNC_SECONDS;
        let wanted = ratios.iter().map(|ratio| desired(replicas, *ratio)).max().unwrap_or(replicas);
        let wanted = wanted.clamp(self.minimum, self.maximum);
        self.recommended.push((self.seconds, wanted));
        // The least that was recommended within the window, or the most.
        let since = |seconds| self.seconds.saturating_sub(seconds);
        let within = |seconds: u32| {
            let began = since(seconds);
            self.recommended.iter().filter(move |(at, _)| *at > began).map(|(_, pods)| *pods)
        };
        let least = within(self.up.stabilization_seconds).chain([wanted]).min().unwrap_or(wanted);
        let most = within(self.down.stabilization_seconds).chain([wanted]).max().unwrap_or(wanted);
        let next = if least > replicas {
            least.min(self.highest(replicas))
        } else if most < replicas {
            most.max(self.lowest(replicas))
        } else {
            replicas
        };
        let next = next.clamp(self.minimum, self.maximum);
        if next != replicas {
            self.changed.push((self.seconds, i64::from(next) - i64::from(replicas)));
        }
        next
    }

    /// The pods at the beginning of a policy's period: today's without those that were added, or with those removed.
    fn at_start(&self, replicas: u32, policy: &HPAScalingPolicy, is_up: bool) -> i64 {
        let began = self.seconds.saturating_sub(policy.period_seconds.unsigned_abs());
        let changes = self.changed.iter().filter(|(at, by)| *at > began && (*by > 0) == is_up);
        i64::from(replicas) - changes.map(|(_, by)| by).sum::<i64>()
    }

    fn highest(&self, replicas: u32) -> u32 {
        let limits = self.up.policies.iter().map(|policy| {
            let start = self.at_start(replicas, policy, true);
            match policy.type_.as_str() {
                "Pods" => start + i64::from(policy.value),
                _ => (start * i64::from(100 + policy.value) + 99) / 100,
            }
        });
        let limit = if self.up.takes_smallest { limits.min() } else { limits.max() };
        limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(replicas)
    }

    fn lowest(&self, replicas: u32) -> u32 {
        let limits = self.down.policies.iter().map(|policy| {
            let start = self.at_start(replicas, policy, false);
            match policy.type_.as_str() {
                "Pods" => start - i64::from(policy.value),
                _ => start * i64::from(100 - policy.value) / 100,
            }
        });
        let limit = if self.down.takes_smallest { limits.max() } else { limits.min() };
        limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(0)
    }
}

/// `desiredReplicas = ceil[currentReplicas * (currentMetricValue / desiredMetricValue)]`.
fn desired(replicas: u32, ratio: f64) -> u32 {
    if (ratio - 1.0).abs() <= TOLERANCE {
        return replicas;
    }
    (f64::from(replicas) * ratio).ceil() as u32
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Autoscaler, desired};

    fn autoscaler(behavior: &Value) -> Autoscaler {
        Autoscaler::of(&json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "one"},
                "maxReplicas": 100,
                "behavior": behavior,
            },
        }))
    }

    #[test]
    fn the_examples_of_the_documentation() {
        // 200m for 100m doubles the pods, 50m halves them; within 10 % nothing changes.
        assert_eq!((desired(3, 2.0), desired(4, 0.5)), (6, 2));
        assert_eq!((desired(3, 1.09), desired(3, 0.91)), (3, 3));
        // Down from 80 pods with 4 pods or 10 % a minute: 7.2 of 72 is rounded up.
        let policies = json!([
            {"type": "Pods", "value": 4, "periodSeconds": 60},
            {"type": "Percent", "value": 10, "periodSeconds": 60},
        ]);
        let down = json!({"stabilizationWindowSeconds": 0, "policies": policies});
        let mut scaler = autoscaler(&json!({"scaleDown": down}));
        let (mut replicas, mut minutes) = (80, Vec::new());
        for _ in 0..5 {
            for _ in 0..4 {
                replicas = scaler.step(replicas, &[0.1]);
            }
            minutes.push(replicas);
        }
        assert_eq!(minutes, [72, 64, 57, 51, 45]);
        // By default 4 more pods or twice as many in 15 s.
        let mut scaler = autoscaler(&json!({}));
        let steps: Vec<u32> = (0..4)
            .scan(1, |replicas, _| {
                *replicas = scaler.step(*replicas, &[100.0]);
                Some(*replicas)
            })
            .collect();
        assert_eq!(steps, [5, 10, 20, 40]);
        // And 300 s pass before it scales down.
        let mut idle = 0;
        let mut replicas = 40;
        while replicas == 40 {
            replicas = scaler.step(replicas, &[0.01]);
            idle += super::SYNC_SECONDS;
        }
        assert_eq!((idle, replicas), (300, 1));
    }
}
