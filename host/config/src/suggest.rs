//! "Did you mean": suggestions for misspelt names.

use anyhow::anyhow;
use serde::de::DeserializeOwned;

/// The candidate closest to `name`, if one is close enough to be a likely misspelling.
pub fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Parses TOML. The error for an unknown key suggests the nearest valid one.
pub fn parse_toml<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    toml::from_str(text).map_err(|error| with_suggestion(&error))
}

/// Adds the nearest valid key to serde's "unknown field `x`, expected one of `a`, `b`".
fn with_suggestion(error: &toml::de::Error) -> anyhow::Error {
    let message = error.message();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") => {
            let hint = nearest(unknown, known.iter().copied())
                .map(|name| format!("\ndid you mean `{name}`?"))
                .unwrap_or_default();
            anyhow!("{error}{hint}")
        }
        _ => anyhow!("{error}"),
    }
}
