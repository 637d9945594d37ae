//! A batch of a thousand pictures that four processes share, as the Job of `k8s/batch` does.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use spotter_tests::batch::{counted, file_of, lines, pictures, shard};
use spotter_tests::manifests::{of_kind, render};

const SHARDS: usize = 4;

#[test]
fn every_picture_of_a_thousand_has_one_result_though_a_shard_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("pictures"), folder.path().join("results"));
    std::fs::create_dir_all(&from).expect("a folder");
    std::fs::create_dir_all(&to).expect("a folder");
    pictures(&from, 1000);
    let start = |index: usize| {
        let mut command = shard(&from, index, SHARDS, &to);
        command.stderr(Stdio::null()).spawn().expect("spotter starts")
    };
    let began = Instant::now();
    let mut running: Vec<_> = (0..SHARDS).map(start).collect();
    while lines(&file_of(&to, 2)).len() < 20 {
        let ended = running[2].try_wait().expect("its status");
        assert!(ended.is_none(), "the shard ended after {:?}: {ended:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    running[2].kill().expect("a process to kill");
    running[2].wait().expect("the end of it");
    let done = lines(&file_of(&to, 2)).len();
    assert!(done < 200, "the shard was nearly done: {done}");
    running[2] = start(2);
    for mut process in running {
        assert!(process.wait().is_ok_and(|status| status.success()));
    }
    println!("a thousand pictures in {:.1} s", began.elapsed().as_secs_f64());
    let counted = counted(&to, SHARDS);
    assert_eq!(counted.len(), 1000);
    assert!(counted.values().all(|times| *times == 1));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_job_gives_each_pod_a_shard_and_a_file_of_its_own() {
    let objects = render("batch");
    let job = &of_kind(&objects, "Job")["spec"];
    assert_eq!(job["completionMode"], "Indexed");
    let container = &job["template"]["spec"]["containers"][0];
    let arguments: Vec<&str> = container["args"]
        .as_array()
        .expect("arguments")
        .iter()
        .filter_map(|a| a.as_str())
        .collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| *argument == flag).expect("a flag");
        arguments[at + 1]
    };
    assert_eq!(after("--shard"), format!("$(SHARD)/{}", job["completions"]));
    assert!(after("--resume").contains("$(SHARD)"));
    let index = "metadata.annotations['batch.kubernetes.io/job-completion-index']";
    assert_eq!(container["env"][0]["name"], "SHARD");
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"], json!(index));
}
