//! `{ url = "…", digest = "sha256:…" }` in `spin.toml`: a component that is downloaded.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

/// Finds the folder for downloaded components. In a pod there is none, so it is called only if it is needed.
pub type DownloadsFolder = fn() -> anyhow::Result<PathBuf>;

/// Where a component is downloaded from, and the digest that the file must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSource {
    /// An HTTP or HTTPS URL.
    pub url: String,
    /// The SHA-256 digest, as `sha256:` and 64 lower-case hexadecimal digits.
    pub digest: String,
}

impl RemoteSource {
    /// Reads the keys of the table.
    ///
    /// # Errors
    /// If the table names a package in a registry, or a key is missing, unknown or invalid.
    pub fn parse(keys: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        if keys.contains_key("registry") || keys.contains_key("package") {
            bail!(
                "it is a package in a registry, which is not supported: download it, for example with `wkg get`, \
                 and name the file"
            );
        }
        let (mut url, mut digest) = (None, None);
        for (key, value) in keys {
            match key.as_str() {
                "url" => url = Some(value),
                "digest" => digest = Some(value),
                _ => bail!("the key `{key}` is unknown; write {{ url, digest }}"),
            }
        }
        let url = url.context("there is no `url`; write { url, digest }")?;
        ensure!(
            url.starts_with("https://") || url.starts_with("http://"),
            "the `url` is {url:?}; write an http:// or https:// URL"
        );
        let digest = digest.with_context(|| {
            format!("there is no `digest`; add the SHA-256 of what {url} serves: sha256:…")
        })?;
        ensure!(
            hexadecimal(digest).is_some(),
            "the `digest` is {digest:?}; write sha256: and 64 lower-case hexadecimal digits"
        );
        Ok(Self { url: url.clone(), digest: digest.clone() })
    }

    /// The name of the file that holds the component in a folder of downloads.
    pub fn file_name(&self) -> String {
        format!("{}.wasm", hexadecimal(&self.digest).unwrap_or_default())
    }
}

/// The digits of a SHA-256 digest.
fn hexadecimal(digest: &str) -> Option<&str> {
    const DIGITS: usize = 64;
    let digits = digest.strip_prefix("sha256:")?;
    let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    (digits.len() == DIGITS && digits.bytes().all(is_digit)).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::RemoteSource;

    fn parse(keys: &[(&str, &str)]) -> anyhow::Result<RemoteSource> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        RemoteSource::parse(&keys.iter().map(owned).collect())
    }

    #[test]
    fn a_source_needs_a_url_and_a_digest() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        let source = parse(&[("url", "https://a.b/c.wasm"), ("digest", &digest)]).unwrap();
        assert_eq!(source.file_name(), format!("{}.wasm", "0f".repeat(32)));
        let upper_case = digest.to_uppercase();
        for (keys, reason) in [
            (vec![("url", "https://a.b/c.wasm")], "no `digest`"),
            (vec![("digest", digest.as_str())], "no `url`"),
            (vec![("url", "ftp://a.b/c"), ("digest", &digest)], "ftp://a.b/c"),
            (vec![("url", "https://a.b/c"), ("digest", "sha256:../../x")], "sha256:../../x"),
            (vec![("url", "https://a.b/c"), ("digest", &upper_case)], "lower-case"),
            (vec![("url", "https://a.b/c"), ("digest", &digest), ("sha", "")], "`sha`"),
            (vec![("registry", "a.b"), ("package", "c:d"), ("version", "1.0.0")], "wkg get"),
        ] {
            let error = parse(&keys).unwrap_err().to_string();
            assert!(error.contains(reason), "{keys:?}: {error}");
        }
    }
}
