//! The page on capacity: each of its figures follows from the README's.

use spotter_tests::root;

const SECONDS_PER_DAY: f64 = 86_400.0;
/// The average load over the peak.
const AVERAGE: f64 = 0.6;
/// The load of a pod at the peak over what it can carry.
const TARGET: f64 = 0.8;
const CORES_PER_NODE: f64 = 7.0;
const PICTURE_BYTES: f64 = 135_000.0;
const NODE_WATTS: f64 = 115.0;
const NODE_DOLLARS_PER_HOUR: f64 = 0.34;
const MIN_PODS: f64 = 2.0;

/// The cells of a table's row, without the first, as numbers. Text around a number does not count.
fn row(page: &str, title: &str) -> Vec<f64> {
    let start = format!("| {title} |");
    let line = page.lines().find(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("no row `{title}`"));
    let cells = line[start.len()..].split('|').map(str::trim).filter(|cell| !cell.is_empty());
    cells.map(|cell| number(cell).unwrap_or_else(|| panic!("no number in `{cell}`"))).collect()
}

fn number(cell: &str) -> Option<f64> {
    let is_digit = |letter: char| letter.is_ascii_digit() || letter == '.';
    let digits: String =
        cell.chars().skip_while(|letter| !is_digit(*letter)).take_while(|l| is_digit(*l)).collect();
    digits.parse().ok()
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).expect(name)
}

/// The lines of a section.
fn section<'a>(page: &'a str, title: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("## {title}\n")).expect(title);
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

fn assert_near(found: f64, expected: f64, unit: f64, what: &str) {
    assert!((found - expected).abs() <= unit / 2.0 + 1e-9, "{what}: {found}, not {expected}");
}

#[test]
fn the_page_on_capacity_follows_from_the_measured_figures() {
    let readme = page("README.md");
    let capacity = page("docs/capacity.md");
    let throughput = row(&readme, "pictures a second, two cores, four clients");
    assert_eq!(throughput.len(), 3);
    for (title, pictures) in
        [("A million pictures a day", 1e6), ("A hundred million pictures a day", 1e8)]
    {
        let section = section(&capacity, title);
        let peak = pictures / SECONDS_PER_DAY / AVERAGE;
        for (server, of_two_cores) in throughput.iter().enumerate() {
            let found = |title: &str| row(section, title)[server];
            let pods = (peak / (of_two_cores / 2.0 * TARGET)).ceil().max(MIN_PODS);
            let nodes = (pods / CORES_PER_NODE).ceil();
            let day = nodes * 24.0;
            assert_near(found("pods"), pods, 0.0, "pods");
            assert_near(found("nodes"), nodes, 0.0, "nodes");
            assert_near(found("link at the peak"), peak * PICTURE_BYTES * 8.0 / 1e6, 1.0, "link");
            assert_near(found("energy a day"), day * NODE_WATTS / 1000.0, 0.1, "energy");
            assert_near(found("cost a day"), day * NODE_DOLLARS_PER_HOUR, 1.0, "cost");
        }
    }
}

#[test]
fn the_time_of_a_batch_follows_from_the_processor_time_of_a_picture() {
    let text = page("docs/capacity.md");
    let batch = section(&text, "A batch");
    for milliseconds in row(&page("README.md"), "CPU time of one detection") {
        let hours = format!("{:.1}", milliseconds / 1000.0 * 1e6 / 3600.0);
        assert!(batch.contains(&hours), "{hours} hours are not in the section on batches");
    }
}
