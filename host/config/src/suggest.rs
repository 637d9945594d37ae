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
    toml::from_str(text).map_err(|error| anyhow!("{error}{}", suggestion(&error)))
}

/// Parses TOML that may hold secrets: errors name the line, but do not show it.
pub fn parse_secret_toml<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
        anyhow!("{}{}{}", line.unwrap_or_default(), error.message(), suggestion(&error))
    })
}

/// The nearest valid key, for serde's "unknown field `x`, expected one of `a`, `b`".
fn suggestion(error: &toml::de::Error) -> String {
    let message = error.message();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") => {
            nearest(unknown, known.iter().copied())
                .map(|name| format!("\ndid you mean `{name}`?"))
                .unwrap_or_default()
        }
        _ => String::new(),
    }
}
