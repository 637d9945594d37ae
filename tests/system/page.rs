//! The page in a browser.

use std::process::Command;

use serde_json::Value;
use spotter_tests::found::{self, Found};
use spotter_tests::server::Server;
use spotter_tests::{peer, pictures, root, system};

const PICTURE: &str = "skimage_coffee.png";

/// Width and height of the picture, in pixels.
const SIZE: (f64, f64) = (600.0, 400.0);

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_picture_chosen_in_chromium_gets_its_boxes_at_the_right_places() {
    system::program("chromium", "chromium");
    system::program("chromedriver", "chromium-driver");
    let packages =
        peer::python_packages("browser", &["axe-selenium-python==2.1.6", "selenium==4.51.0"]);
    let server = Server::shared();
    let output = Command::new("python3")
        .arg(root().join("tests/clients/page.py"))
        .arg(server.url("/"))
        .arg(root().join("tests/pictures").join(PICTURE))
        .env("PYTHONPATH", packages)
        .output()
        .expect("python3 starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let query = "min_confidence=0.4";
    let ours = found::by_detect(&server.url(""), query, &pictures::bytes(PICTURE));
    let boxes = printed.as_array().expect("a list");
    assert_eq!(boxes.len(), ours.len(), "{printed}");
    for (entry, Found { label, corners, .. }) in boxes.iter().zip(&ours) {
        assert_eq!(entry["label"], label.as_str());
        let sides = [SIZE.0, SIZE.1, SIZE.0, SIZE.1];
        for ((index, corner), side) in corners.iter().enumerate().zip(sides) {
            let on_screen = entry["corners"][index].as_f64().expect("a number");
            // The outline's width, and pixels of the screen.
            assert!((on_screen - corner / side).abs() < 0.01, "{entry}: {corners:?}");
        }
    }
}
