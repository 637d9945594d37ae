//! Who sent a request and for which host: from its connection, and from what trusted proxies say.

pub(crate) mod address;
pub mod connection_info;
pub(crate) mod forwarded;
pub(crate) mod host_header;
pub mod proxies;
