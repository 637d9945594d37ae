//! The address of a database in Redis or Valkey: `redis://user:password@host:6379/0`.

use std::fmt;

use anyhow::{Context, anyhow, bail, ensure};
use http::Uri;
use http::uri::Authority;
use percent_encoding::percent_decode_str;

const DEFAULT_PORT: u16 = 6379;
/// How a URL is to be written.
const FORM: &str = "redis://USER:PASSWORD@HOST:PORT/DATABASE";

/// One database of a server, and how to log in. What it displays lacks the user's name and password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisServer {
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: u32,
}

impl fmt::Display for RedisServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, database, .. } = self;
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}/{database}")
        } else {
            write!(formatter, "{host}:{port}/{database}")
        }
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl RedisServer {
    /// # Errors
    /// If the URL is not one of a Redis server. The error repeats no part of it: where a URL is malformed, any part may
    /// belong to a password.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        let uri = url.parse::<Uri>().map_err(|error| {
            anyhow!(
                "`url` is not a URL ({error}): write {FORM}, with `%` codes for special characters"
            )
        })?;
        match uri.scheme_str() {
            Some("redis" | "valkey") => {}
            Some("rediss" | "valkeys") => bail!(
                "`url`: TLS (rediss) is not supported: use redis:// on a network that you trust"
            ),
            _ => bail!("`url` does not begin with redis://: write {FORM}"),
        }
        ensure!(
            uri.query().is_none() && !url.contains('#'),
            "`url` has a query or a fragment: remove it, or, in a password, write %3F for `?` and %23 for `#`"
        );
        let authority =
            uri.authority().with_context(|| format!("`url` has no host: write {FORM}"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        ensure!(!host.is_empty(), "`url` has no host: write {FORM}");
        let (user, password) = login(authority)?;
        let database = match uri.path().trim_start_matches('/') {
            "" => 0,
            path => path.parse().ok().with_context(|| {
                format!("`url`: the database is not a number: write {FORM}, and %2F for `/` in a password")
            })?,
        };
        Ok(Self { host: host.to_owned(), port: port(authority)?, user, password, database })
    }
}

fn port(authority: &Authority) -> anyhow::Result<u16> {
    let address = authority.as_str().rsplit('@').next().unwrap_or_default();
    let after_host = address.rsplit_once(']').map_or(address, |(_, after)| after);
    match after_host.rsplit_once(':') {
        None => Ok(DEFAULT_PORT),
        Some((_, port)) => port.parse().ok().context("`url`: the port is not a number up to 65535"),
    }
}

/// The user's name and password.
fn login(authority: &Authority) -> anyhow::Result<(Option<String>, Option<String>)> {
    let Some((login, _)) = authority.as_str().rsplit_once('@') else { return Ok((None, None)) };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    let decode = |text: &str| -> anyhow::Result<Option<String>> {
        let text = percent_decode_str(text).decode_utf8().ok();
        let text = text.context("`url`: the user's name or the password is not UTF-8")?;
        Ok(Some(text.into_owned()).filter(|text| !text.is_empty()))
    };
    let password = password.map_or(Ok(None), decode)?;
    let user = decode(user)?;
    ensure!(
        user.is_none() || password.is_some(),
        "`url` has a user's name without a password: write redis://USER:PASSWORD@HOST, or redis://:PASSWORD@HOST"
    );
    Ok((user, password))
}

#[cfg(test)]
mod tests {
    use super::RedisServer;

    #[test]
    fn a_url_names_a_server_a_login_and_a_database() {
        for (url, user, password, address) in [
            ("redis://host", None, None, "host:6379/0"),
            ("redis://host/", None, None, "host:6379/0"),
            ("valkey://127.0.0.1:7000/12", None, None, "127.0.0.1:7000/12"),
            ("redis://[::1]:7000/1", None, None, "[::1]:7000/1"),
            ("redis://[::1]", None, None, "[::1]:6379/0"),
            ("redis://:a%2Fb@host", None, Some("a/b"), "host:6379/0"),
            ("redis://user:pa%40ss:word@host:1/2", Some("user"), Some("pa@ss:word"), "host:1/2"),
            ("redis://user:pa%C3%A9@[fe80::1]", Some("user"), Some("paé"), "[fe80::1]:6379/0"),
        ] {
            let server = RedisServer::parse(url).unwrap();
            assert_eq!((server.user.as_deref(), server.password.as_deref()), (user, password));
            assert_eq!(format!("{server:?}"), address);
        }
    }

    #[test]
    fn a_url_of_something_else_is_refused_and_no_password_is_repeated() {
        for (url, reason) in [
            ("", "is not a URL"),
            ("cache:6379", "does not begin with redis://"),
            ("s3cr3t", "does not begin with redis://"),
            ("http://s3cr3t@host", "does not begin with redis://"),
            ("rediss://:s3cr3t@host", "TLS (rediss) is not supported"),
            ("redis:///0", "`url`"),
            ("redis+unix:///run/redis.sock", "`url`"),
            ("redis://:s3cr3t@host:65536", "the port is not a number"),
            ("redis://:s3cr3t@host:", "the port is not a number"),
            ("redis://user:s3cr3t", "the port is not a number"),
            ("redis://:s3cr3t@host/first", "the database is not a number"),
            ("redis://:s3cr3t@host/-1", "the database is not a number"),
            ("redis://host:1/s3cr3t@host", "the database is not a number"),
            ("redis://:s3cr3t@host/0?protocol=resp3", "has a query"),
            ("redis://user:s3cr3t#@host", "%23 for `#`"),
            ("redis://s3cr3t@host", "a user's name without a password"),
            ("redis://:s3cr3t%FF@host", "is not UTF-8"),
            ("redis://:s3cr3t @host", "is not a URL"),
        ] {
            let said = format!("{:#}", RedisServer::parse(url).unwrap_err());
            assert!(said.contains(reason), "{url}: {said} lacks {reason}");
            assert!(!said.contains("s3cr3t"), "{said}");
        }
    }
}
