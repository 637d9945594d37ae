//! What the server tells its operator: metrics, log lines and traces.

pub mod label;
pub(crate) mod metrics;
pub(crate) mod request_log;
pub mod traces;
