//! `spotter detect --shard` and `--resume`: a batch that several processes share, and that continues where it stopped.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use spotter_tests::batch::{counted, file_of, lines, pictures, shard};
use spotter_tests::{component, root, run, spotter, stderr, stdout};
use tempfile::TempDir;

fn folders() -> (TempDir, std::path::PathBuf, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("pictures"), folder.path().join("results"));
    fs::create_dir_all(&from).expect("a folder");
    fs::create_dir_all(&to).expect("a folder");
    (folder, from, to)
}

fn assert_ran(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

#[test]
fn shards_share_the_pictures_and_do_none_again() {
    let (_folder, from, to) = folders();
    pictures(&from, 12);
    fs::write(from.join("broken.jpg"), "no picture").expect("a file");
    for index in 0..3 {
        let output = shard(&from, index, 3, &to).output().expect("spotter starts");
        assert_ran(&output);
    }
    let first = counted(&to, 3);
    assert_eq!(first.len(), 13);
    assert!(first.values().all(|times| *times == 1), "{first:?}");
    let broken: Vec<_> = (0..3)
        .flat_map(|index| lines(&file_of(&to, index)))
        .filter(|line| line["error"]["code"] == "not_a_picture")
        .collect();
    assert_eq!(broken.len(), 1, "the picture that failed has one line");
    // Finished pictures are not processed again; one whose line was cut off is, and so is a new one.
    let done = [0, 1, 2].map(|index| lines(&file_of(&to, index)).len());
    let cut = (0..3).find(|index| done[*index] > 1).expect("a shard with two pictures");
    let file = file_of(&to, cut);
    let text = fs::read_to_string(&file).expect("results");
    fs::write(&file, &text[..text.len() - 9]).expect("a file");
    pictures(&from, 13);
    for (index, done) in done.into_iter().enumerate() {
        let output = shard(&from, index, 3, &to).output().expect("spotter starts");
        assert_ran(&output);
        // The names, which begin with a folder of this test's own, may leave a shard empty.
        let none_done = stderr(&output).contains(" 0 already done");
        assert!(done == 0 || !none_done, "{}", stderr(&output));
    }
    let second = counted(&to, 3);
    assert_eq!(second.len(), 14);
    assert!(second.values().all(|times| *times == 1), "{second:?}");
}

#[test]
fn a_picture_that_could_not_be_read_is_tried_again() {
    let (_folder, from, to) = folders();
    pictures(&from, 1);
    let (there, missing) = (from.join("000000.png"), from.join("later.png"));
    let list = to.join("list.txt");
    let text = format!("{}\n\n{}\n", there.display(), missing.display());
    fs::write(&list, text).expect("a list");
    let results = to.join("results.jsonl");
    let detect = || {
        component();
        let mut command = Command::new(spotter());
        command.arg("detect").arg("--list").arg(&list).arg("--resume").arg(&results);
        command.current_dir(root()).output().expect("spotter starts")
    };
    let failed = detect();
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("run the same command again"), "{}", stderr(&failed));
    assert_eq!(lines(&results)[1]["error"]["retry"], true, "{:?}", lines(&results));
    fs::copy(&there, &missing).expect("a picture");
    assert_ran(&detect());
    let found = lines(&results);
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|line| line["error"].is_null()), "{found:?}");
    let again = detect();
    assert_ran(&again);
    assert!(stderr(&again).contains("0 of 2 pictures left to do"), "{}", stderr(&again));
}

#[test]
fn a_batch_ends_by_the_signal_to_stop_and_keeps_what_it_has() {
    let (_folder, from, to) = folders();
    pictures(&from, 400);
    let mut process =
        shard(&from, 0, 1, &to).stderr(Stdio::piped()).spawn().expect("spotter starts");
    let began = Instant::now();
    while lines(&file_of(&to, 0)).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(120), "it does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Two processes would spoil each other's lines.
    let second = shard(&from, 0, 1, &to).output().expect("spotter starts");
    assert!(stderr(&second).contains("another process"), "{}", stderr(&second));
    let kill = format!("kill -s TERM {}", process.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success()));
    let ended = process.wait().expect("the end");
    assert_eq!(ended.code(), Some(1));
    let done = lines(&file_of(&to, 0)).len();
    assert!(done > 0 && done < 400, "{done}");
}

#[test]
fn a_shard_that_cannot_be_is_wrong_usage() {
    for wrong in ["3/3", "1", "x/2"] {
        let output = run(&["detect", "--shard", wrong, "a.png"]);
        assert_eq!(output.status.code(), Some(64), "{wrong}: {}", stdout(&output));
    }
    let output = run(&["detect", "--resume", "a.jsonl", "--json", "a.png"]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    let output = run(&["detect", "--shard", "0/2", "-"]);
    assert!(stderr(&output).contains("standard input"), "{}", stderr(&output));
}
