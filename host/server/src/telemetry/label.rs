//! The value of a metric's label. It is escaped when it is written, because `prometheus-client` escapes no labels.

use std::fmt::Write;

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// A label's value. Whatever it holds, a scrape can be parsed
/// (<https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md#escaping>).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelValue<T>(pub T);

impl<T: AsRef<str>> EncodeLabelValue for LabelValue<T> {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        for character in self.0.as_ref().chars() {
            match character {
                '\\' => encoder.write_str("\\\\")?,
                '"' => encoder.write_str("\\\"")?,
                '\n' => encoder.write_str("\\n")?,
                _ => encoder.write_char(character)?,
            }
        }
        Ok(())
    }
}
