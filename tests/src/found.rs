//! Converts each API's detections to one form, to compare them with those of `POST /detect`.

use serde_json::Value;

use crate::client;

/// One object: its label, confidence and corners (`x_min, y_min, x_max, y_max`, pixels).
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub label: String,
    pub confidence: f64,
    pub corners: [f64; 4],
}

/// What `POST /detect` finds. The query has all options, and no default is relied on.
pub fn by_detect(url: &str, query: &str, picture: &[u8]) -> Vec<Found> {
    let reply = client::post_picture(&format!("{url}/detect?{query}"), picture);
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    of_list(&reply.json()["detections"], |detection| {
        let corners = ["x_min", "y_min", "x_max", "y_max"];
        (&detection["label"], &detection["confidence"], corners.map(|name| &detection["box"][name]))
    })
}

/// Reads a JSON list with this function, which returns the label, the confidence and the corners of an entry.
pub fn of_list<'v>(
    list: &'v Value,
    read: impl Fn(&'v Value) -> (&'v Value, &'v Value, [&'v Value; 4]),
) -> Vec<Found> {
    let list = list.as_array().unwrap_or_else(|| panic!("{list} is no list"));
    list.iter()
        .map(|entry| {
            let (label, confidence, corners) = read(entry);
            let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{entry}"));
            Found {
                label: label.as_str().unwrap_or_else(|| panic!("{entry}")).to_owned(),
                confidence: number(confidence),
                corners: corners.map(number),
            }
        })
        .collect()
}

/// Asserts that two APIs found the same objects in the same order: corners may be rounded to whole pixels.
pub fn assert_same(ours: &[Found], theirs: &[Found]) {
    assert!(!ours.is_empty(), "nothing was found, so nothing is compared");
    assert_eq!(ours.len(), theirs.len(), "{ours:?}\n{theirs:?}");
    for (a, b) in ours.iter().zip(theirs) {
        assert_eq!(a.label, b.label);
        assert!((a.confidence - b.confidence).abs() < 0.0001, "{a:?} {b:?}");
        let is_near = |(a, b): (&f64, &f64)| (a - b).abs() < 0.51;
        assert!(a.corners.iter().zip(&b.corners).all(is_near), "{a:?} {b:?}");
    }
}
