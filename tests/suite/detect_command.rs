//! `spotter detect` as a tool of its own: many pictures, other tools' formats, streams, and a server elsewhere.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use spotter_tests::server::Server;
use spotter_tests::{component, pictures, root, run, spotter, stderr, stdout};

const CAT: &str = "tests/pictures/skimage_chelsea.png";

/// Runs `spotter detect` with these bytes as its standard input.
fn detect_from(input: &[u8], arguments: &[&str]) -> Output {
    component();
    let mut command = Command::new(spotter());
    command.arg("detect").args(arguments).current_dir(root());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("spotter starts");
    let mut standard_input = process.stdin.take().expect("standard input");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || standard_input.write_all(&input));
    let output = process.wait_with_output().expect("spotter ends");
    let _ = writer.join();
    output
}

fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn label(result: &Value) -> &str {
    result["detections"][0]["label"].as_str().unwrap_or_default()
}

/// The API's reply for the picture of a cat.
fn reply() -> Value {
    component();
    serde_json::from_str(&stdout(&run(&["detect", CAT, "--json"]))).expect("JSON")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn a_folder_is_read_in_order_and_a_picture_that_fails_keeps_no_other_from_being_done() {
    component();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("deep")).expect("a folder");
    let cat = pictures::jpeg(&pictures::cat());
    for name in ["a.jpg", "c.JPEG", "deep/d.jpg"] {
        std::fs::write(folder.path().join(name), &cat).expect("a picture");
    }
    std::fs::write(folder.path().join("b.png"), "no picture").expect("a file");
    std::fs::write(folder.path().join("notes.txt"), "text").expect("a file");
    let output = run(&["detect", "-r", "--format", "jsonl", path(folder.path())]);
    assert_eq!(output.status.code(), Some(1));
    let results = lines(&output);
    let names: Vec<&str> = results.iter().map(|result| result["file"].as_str().unwrap()).collect();
    let expected = ["a.jpg", "b.png", "c.JPEG", "deep/d.jpg"];
    assert_eq!(names, expected.map(|name| folder.path().join(name).display().to_string()));
    for index in [0, 2, 3] {
        assert_eq!(label(&results[index]), "cat", "{}", results[index]);
    }
    assert_eq!(results[1]["error"]["code"], "not_a_picture", "{}", results[1]);
    assert!(stderr(&output).contains("1 of 4 pictures failed"), "{}", stderr(&output));
}

#[test]
fn other_tools_formats_hold_the_same_boxes() {
    let reply = reply();
    let found = &reply["detections"][0];
    let number = |value: &Value| value.as_f64().expect("a number");
    let corners = ["x_min", "y_min", "x_max", "y_max"].map(|key| number(&found["box"][key]));
    let [x_min, y_min, x_max, y_max] = corners;

    let csv = stdout(&run(&["detect", CAT, "--format", "csv"]));
    let expected = format!(
        "file,label,class_id,confidence,x_min,y_min,x_max,y_max,error\n{CAT},cat,17,{},{x_min},{y_min},{x_max},{y_max},\n",
        found["confidence"]
    );
    assert_eq!(csv, expected);

    let coco: Value =
        serde_json::from_str(&stdout(&run(&["detect", CAT, "--format", "coco"]))).expect("JSON");
    assert_eq!(coco[0]["image_id"], "skimage_chelsea");
    assert_eq!(coco[0]["category_id"], 17);
    let size = number(&coco[0]["bbox"][2]);
    assert!((size - (x_max - x_min)).abs() < 0.001, "{coco}");

    let folder = tempfile::tempdir().expect("a folder");
    let output = run(&["detect", CAT, "--format", "yolo", "--labels", path(folder.path())]);
    assert!(output.status.success(), "{}", stderr(&output));
    let label = std::fs::read_to_string(folder.path().join("skimage_chelsea.txt")).expect("labels");
    let centre = (x_min + x_max) / 2.0 / 451.0;
    assert!(label.starts_with(&format!("17 {centre:.6} ")), "{label}");
    assert_eq!(run(&["detect", CAT, "--format", "yolo"]).status.code(), Some(64));
}

#[test]
fn standard_input_is_one_picture_or_a_stream_of_jpegs() {
    let png = pictures::bytes("skimage_chelsea.png");
    let one = detect_from(&png, &["-", "--format", "jsonl"]);
    assert_eq!((lines(&one)[0]["file"].as_str(), label(&lines(&one)[0])), (Some("-"), "cat"));

    let (cat, photograph) = (pictures::jpeg(&pictures::cat()), pictures::photograph());
    let stream = [cat.as_slice(), &photograph, &cat].concat();
    let frames = lines(&detect_from(&stream, &["-", "--format", "jsonl"]));
    let found: Vec<_> =
        frames.iter().map(|frame| (frame["file"].as_str().unwrap(), label(frame))).collect();
    let expected = [("frame-000001", "cat"), ("frame-000002", "person"), ("frame-000003", "cat")];
    assert_eq!(found, expected);

    let cut = detect_from(&stream[..stream.len() - 10], &["-", "--format", "jsonl"]);
    assert_eq!(cut.status.code(), Some(1));
    assert_eq!(lines(&cut).len(), 3);
    assert!(stderr(&cut).contains("the stream ends within a picture"), "{}", stderr(&cut));
    let none = detect_from(b"", &["-"]);
    assert!(stderr(&none).contains("it is empty"), "{}", stderr(&none));
}

#[test]
fn what_follows_the_only_picture_of_standard_input_is_ignored_with_a_warning() {
    let mut cat = pictures::jpeg(&pictures::cat());
    cat.extend(b"\0\0a camera's own data");
    let output = detect_from(&cat, &["-", "--format", "jsonl"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("ignoring what follows the picture"), "{}", stderr(&output));
    let found = lines(&output);
    assert_eq!((found.len(), found[0]["file"].as_str(), label(&found[0])), (1, Some("-"), "cat"));
}

#[test]
fn the_only_picture_of_standard_input_is_drawn_into_the_file_and_a_stream_needs_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("boxes.png");
    let cat = pictures::jpeg(&pictures::cat());
    let output = detect_from(&cat, &["-", "-o", path(&file)]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(image::image_dimensions(&file).expect("a picture"), (451, 300));

    let stream = [cat.as_slice(), &cat].concat();
    let other = folder.path().join("other.png");
    let refused = detect_from(&stream, &["-", "-o", path(&other)]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("name a folder"), "{}", stderr(&refused));
    assert!(!other.exists());
    let frames = folder.path().join("frames");
    let drawn = detect_from(&stream, &["-", "-o", path(&frames)]);
    assert!(drawn.status.success(), "{}", stderr(&drawn));
    assert!(frames.join("frame-000002.jpg").is_file());
}

/// Runs `spotter detect` in a folder. Returns the names of the pictures in its results.
fn names_in(folder: &Path, arguments: &[&str]) -> Vec<String> {
    let app = root().join("spin.toml");
    let output = Command::new(spotter())
        .args(["detect", "--format", "jsonl", "-f", path(&app)])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("spotter starts");
    assert!(output.status.success(), "{}", stderr(&output));
    lines(&output)
        .iter()
        .map(|result| result["file"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn a_quoted_pattern_finds_exactly_the_files_that_match() {
    component();
    let folder = tempfile::tempdir().expect("a folder");
    let shots = folder.path().join("shots");
    std::fs::create_dir_all(shots.join("day 1/e.jpg")).expect("a folder");
    std::fs::create_dir_all(shots.join("night")).expect("a folder");
    let cat = pictures::jpeg(&pictures::cat());
    for name in ["b.jpg", "a.jpg", "c.jpeg", ".hidden.png", "day 1/d.jpg", "night/f.jpg"] {
        std::fs::write(shots.join(name), &cat).expect("a picture");
    }
    std::fs::write(shots.join("notes.txt"), "text").expect("a file");
    let cases: [(&str, &[&str]); 6] = [
        ("shots/*.jpg", &["shots/a.jpg", "shots/b.jpg"]),
        ("shots/[bc].jp*g", &["shots/b.jpg", "shots/c.jpeg"]),
        ("shots/?.jpg", &["shots/a.jpg", "shots/b.jpg"]),
        ("shots/day*/*.jpg", &["shots/day 1/d.jpg"]),
        ("*/*/*.jpg", &["shots/day 1/d.jpg", "shots/night/f.jpg"]),
        ("**/*.jpg", &["shots/a.jpg", "shots/b.jpg", "shots/day 1/d.jpg", "shots/night/f.jpg"]),
    ];
    for (pattern, expected) in cases {
        assert_eq!(names_in(folder.path(), &[pattern]), expected, "{pattern}");
    }
    let whole = format!("{}/*.jpg", path(&shots));
    let expected = ["a.jpg", "b.jpg"].map(|name| path(&shots.join(name)).to_owned());
    assert_eq!(names_in(root(), &[&whole]), expected);
}

#[test]
fn a_pattern_reads_no_deeper_than_it_matches() {
    // Somewhere below, there is always a folder that cannot be read.
    for pattern in ["/proc/*.png", "/proc/nothing-*/*/*/*/*.png"] {
        let output = run(&["detect", pattern]);
        let words = format!("no file matches {pattern}");
        assert!(stderr(&output).contains(&words), "{}", stderr(&output));
    }
}

#[test]
fn one_job_and_several_print_the_same_results_in_the_same_order() {
    component();
    let folder = tempfile::tempdir().expect("a folder");
    let cat = image::DynamicImage::ImageRgb8(pictures::cat());
    // The first takes the longest, and one fails.
    for (name, side) in [("0.jpg", 3000), ("1.jpg", 40), ("3.jpg", 600), ("4.jpg", 90)] {
        let picture = cat.resize_exact(side, side, image::imageops::FilterType::Triangle);
        let bytes = pictures::jpeg(&picture.to_rgb8());
        std::fs::write(folder.path().join(name), bytes).expect("a picture");
    }
    std::fs::write(folder.path().join("2.png"), "no picture").expect("a file");
    std::fs::write(folder.path().join("5.jpg"), pictures::photograph()).expect("a picture");
    for format in ["csv", "coco", "table"] {
        let printed = |jobs: &str| {
            let output = run(&["detect", path(folder.path()), "--jobs", jobs, "--format", format]);
            assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
            assert!(stderr(&output).contains("1 of 6 pictures failed"), "{}", stderr(&output));
            stdout(&output)
        };
        let one = printed("1");
        assert!(one.lines().count() > 0 && !one.contains("[]"), "{one}");
        for jobs in ["2", "6", "64"] {
            assert_eq!(printed(jobs), one, "{format} {jobs}");
        }
    }
    let none = run(&["detect", CAT, "--jobs", "0"]);
    assert_eq!(none.status.code(), Some(64), "{}", stderr(&none));
}

#[test]
fn colours_are_for_a_terminal_and_no_color_turns_them_off() {
    component();
    let printed = |environment: &[(&str, &str)]| {
        let mut command = Command::new(spotter());
        command.args(["detect", CAT]).current_dir(root());
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        stdout(&command.envs(environment.iter().copied()).output().expect("spotter starts"))
    };
    let plain = printed(&[]);
    assert!(plain.contains("  cat  ") && !plain.contains('\x1b'), "{plain:?}");
    let coloured = printed(&[("CLICOLOR_FORCE", "1")]);
    assert!(coloured.contains("\x1b[36mcat"), "{coloured:?}");
    assert_eq!(printed(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), plain);
}

#[test]
fn a_server_elsewhere_and_a_picture_elsewhere_give_the_same_result() {
    let server = Server::shared();
    let remote = run(&["detect", CAT, "--json", "--server", &server.url("")]);
    let detections = |reply: &Value| reply["detections"].clone();
    let through_server: Value = serde_json::from_str(&stdout(&remote)).expect("JSON");
    assert_eq!(detections(&through_server), detections(&reply()));

    let url = serve_once(pictures::bytes("skimage_chelsea.png"));
    let downloaded = run(&["detect", &url, "--json", "--server", &server.url("")]);
    let downloaded: Value = serde_json::from_str(&stdout(&downloaded)).expect("JSON");
    assert_eq!(detections(&downloaded), detections(&reply()));

    let nowhere = run(&["detect", CAT, "--server", "http://127.0.0.1:1"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(stderr(&nowhere).contains("cannot reach http://127.0.0.1:1/"), "{}", stderr(&nowhere));
}

/// Serves these bytes to one client. Returns their URL.
fn serve_once(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/cat.png", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut request = [0; 4096];
        let _ = client.read(&mut request).expect("a request");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len());
        client.write_all(head.as_bytes()).and_then(|()| client.write_all(&bytes)).expect("a reply");
    });
    url
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    component();
    let script = "{ \"$@\"; echo \"status $?\" >&2; } | true";
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(spotter())
        .args(["detect", "--format", "jsonl", CAT, CAT])
        .current_dir(root())
        .output()
        .expect("a shell");
    let said = stderr(&output);
    assert!(said.contains("status 0") && !said.contains("panicked"), "{said}");
}

#[test]
fn bench_measures_every_step_and_operator() {
    component();
    let output = run(&["bench", CAT, "--seconds", "1", "--operators"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    for row in
        ["decode ", "resize ", "network ", "whole request ", "CPU time ", "DepthwiseConvolution "]
    {
        let line = said.lines().find(|line| line.trim_start().starts_with(row));
        let line = line.unwrap_or_else(|| panic!("no {row} in {said}"));
        let number = line.split_whitespace().find_map(|word| word.parse::<f64>().ok());
        assert!(number.is_some_and(|number| number > 0.0), "{line}");
    }
    // Count, milliseconds, GMAC/s, share.
    let depthwise = said.lines().find(|line| line.contains("DepthwiseConvolution "));
    let numbers = depthwise.into_iter().flat_map(str::split_whitespace);
    let numbers: Vec<f64> = numbers.filter_map(|word| word.parse().ok()).collect();
    assert!(matches!(numbers[..], [_, _, gmacs, _] if (0.1..1000.0).contains(&gmacs)), "{said}");
}

#[test]
#[cfg_attr(not(script), ignore = "needs util-linux's `script`")]
fn a_terminal_shows_how_many_pictures_are_done() {
    component();
    let folder = tempfile::tempdir().expect("a folder");
    let results = folder.path().join("results.jsonl");
    let pictures = [CAT; 5].join(" ");
    let on_terminal = |redirection: &str| {
        let detect = format!("{} detect {pictures} --format jsonl", spotter().display());
        let line = format!("stty cols 100; {detect} {redirection}");
        let mut script = Command::new("script");
        // Every terminal sets TERM; a test's environment may lack it.
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
        let output = script.current_dir(root()).stdin(Stdio::null()).output();
        let output = output.expect("script starts");
        assert!(output.status.success(), "{}", stdout(&output));
        stdout(&output)
    };
    let screen = on_terminal(&format!("> {}", results.display()));
    assert!(screen.contains("Detecting") && screen.contains("1/5"), "{screen:?}");
    // The bar is removed at the end.
    let last = screen.trim_end().lines().last().unwrap_or_default().to_owned();
    assert!(last.contains("5 pictures in") && !last.ends_with("left"), "{screen:?}");
    assert_eq!(std::fs::read_to_string(&results).expect("results").lines().count(), 5);

    // Results on the terminal itself show the progress.
    let screen = on_terminal("");
    assert!(!screen.contains("Detecting") && screen.contains("\"cat\""), "{screen:?}");
}
