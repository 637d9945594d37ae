//! `[outbound_http]` of the runtime configuration file: components' outgoing HTTP requests
//! (<https://spinframework.dev/dynamic-configuration#outbound-http-runtime-configuration>).

use anyhow::{bail, ensure};
use serde::Deserialize;

/// How many outgoing connections all components together may have, whatever they speak. Each is an open file of this
/// process.
pub const MAX_OUTBOUND_CONNECTIONS: usize = 256;

/// The settings of outgoing requests.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "RawOutboundHttp")]
pub struct OutboundHttp {
    /// How many may be in flight at once; [`MAX_OUTBOUND_CONNECTIONS`] if it is not set.
    pub max_connections: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOutboundHttp {
    connection_pooling: Option<bool>,
    max_connections: Option<usize>,
    /// The old name, which Spin deprecates.
    max_concurrent_requests: Option<usize>,
}

impl TryFrom<RawOutboundHttp> for OutboundHttp {
    type Error = anyhow::Error;

    fn try_from(raw: RawOutboundHttp) -> anyhow::Result<Self> {
        ensure!(
            raw.connection_pooling != Some(true),
            "`connection_pooling = true` is not supported: each outgoing request has a connection of its own; remove this \
             key"
        );
        // In Spin, the old name allows one request more than it says.
        let (key, value, extra) = match (raw.max_connections, raw.max_concurrent_requests) {
            (Some(_), Some(_)) => bail!(
                "`max_connections` and `max_concurrent_requests` are two names of one setting: remove the latter"
            ),
            (Some(connections), None) => ("max_connections", connections, 0),
            (None, Some(requests)) => ("max_concurrent_requests", requests, 1),
            (None, None) => return Ok(Self::default()),
        };
        let max = MAX_OUTBOUND_CONNECTIONS - extra;
        ensure!(
            value <= max,
            "`{key}` is {value}: all components together can have {MAX_OUTBOUND_CONNECTIONS} outgoing connections; write \
             {max} or less"
        );
        Ok(Self { max_connections: Some(value + extra) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::runtime_config::RuntimeConfig;

    fn parse(table: &str) -> anyhow::Result<RuntimeConfig> {
        RuntimeConfig::parse(&format!("[outbound_http]\n{table}"), Path::new("config.toml"))
    }

    #[test]
    fn requests_are_limited_under_either_name() {
        for (table, expected) in [
            ("", None),
            ("connection_pooling = false", None),
            ("max_connections = 0", Some(0)),
            ("max_connections = 256", Some(256)),
            ("max_concurrent_requests = 0", Some(1)),
        ] {
            assert_eq!(parse(table).unwrap().outbound_http.max_connections, expected, "{table}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for (table, reason) in [
            ("connection_pooling = true", "a connection of its own"),
            ("max_connections = 1\nmax_concurrent_requests = 1", "two names of one setting"),
            ("max_connections = 257", "write 256 or less"),
            ("max_concurrent_requests = 256", "write 255 or less"),
            ("max_connection = 1", "did you mean `max_connections`?"),
        ] {
            let said = format!("{:#}", parse(table).err().unwrap());
            assert!(said.contains(reason), "{said}");
        }
    }
}
