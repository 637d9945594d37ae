//! A store's keys and values, and how large they may be.

use anyhow::ensure;
use blake3::Hash;

/// The longest key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 1 << 10;
/// The largest value, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 1 << 20;
/// The most that the keys of one store may have together, in bytes, to be read at once.
pub(crate) const MAX_LISTED_KEYS_BYTES: usize = 4 << 20;
/// What the values of one call may have together, in bytes.
const MAX_VALUES_BYTES: usize = 16 << 20;

/// A key, and its value if it has one.
pub(crate) type Entry = (String, Option<Vec<u8>>);

/// Some of a store's keys.
pub(crate) struct KeyPage {
    pub(crate) keys: Vec<String>,
    /// Where the next page begins; `None` after the last one.
    pub(crate) next: Option<String>,
}

/// Entries that are read in one call.
#[derive(Default)]
pub(crate) struct ReadEntries {
    pub(crate) entries: Vec<Entry>,
    bytes: usize,
}

impl ReadEntries {
    /// # Errors
    /// If the values have more than [`MAX_VALUES_BYTES`] together.
    pub(crate) fn push(&mut self, key: String, value: Option<Vec<u8>>) -> anyhow::Result<()> {
        self.bytes += value.as_ref().map_or(0, Vec::len);
        ensure!(
            self.bytes <= MAX_VALUES_BYTES,
            "the values have more than {MAX_VALUES_BYTES} bytes: read them with more calls"
        );
        self.entries.push((key, value));
        Ok(())
    }
}

/// The hash of a value, if there is one.
pub(crate) fn hash(value: Option<&[u8]>) -> Option<Hash> {
    value.map(blake3::hash)
}

/// # Errors
/// If the key is too long.
pub(crate) fn check_key(key: &str) -> anyhow::Result<()> {
    let length = key.len();
    ensure!(length <= MAX_KEY_BYTES, "the key has {length} bytes; the limit is {MAX_KEY_BYTES}");
    Ok(())
}

/// # Errors
/// If the value is too large.
pub(crate) fn check_value(value: &[u8]) -> anyhow::Result<()> {
    let length = value.len();
    ensure!(
        length <= MAX_VALUE_BYTES,
        "the value has {length} bytes; the limit is {MAX_VALUE_BYTES}"
    );
    Ok(())
}

/// # Errors
/// If this is too much for the keys of a store that are read at once.
pub(crate) fn check_listed(label: &str, bytes: usize) -> anyhow::Result<()> {
    ensure!(
        bytes <= MAX_LISTED_KEYS_BYTES,
        "the keys of {label:?} have more than {MAX_LISTED_KEYS_BYTES} bytes: read them in steps, with `list-keys` of \
         wasi:keyvalue"
    );
    Ok(())
}
