//! A server's address, as a URL (`postgres://user:password@host:5432/database`) or as libpq writes it (`host=localhost
//! user=postgres`).

use std::net::IpAddr;

use percent_encoding::percent_decode_str;

const DEFAULT_PORT: u16 = 5432;
/// The longest address, in bytes. A login hashes the password thousands of times.
const MAX_ADDRESS_BYTES: usize = 4 << 10;
/// Settings of libpq's that do not matter here: the host has its own time-outs, and there is one server.
const IGNORED_SETTINGS: [&str; 8] = [
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "sslnegotiation",
    "tcp_user_timeout",
];

/// Where a server is, and who logs in to it.
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Option<String>,
    /// What else the server gets to know before the login: its own names, and their values.
    pub(super) parameters: Vec<(&'static str, String)>,
}

impl Address {
    /// An error says what is wrong, without the password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_ADDRESS_BYTES {
            return Err(format!(
                "the address has {} bytes: at most {MAX_ADDRESS_BYTES} are allowed",
                text.len()
            ));
        }
        let mut settings = Settings::default();
        let url =
            ["postgres://", "postgresql://"].iter().find_map(|start| text.strip_prefix(start));
        match url {
            Some(url) => settings.read_url(url)?,
            None => settings.read_pairs(text)?,
        }
        settings.into_address()
    }
}

/// What an address says.
#[derive(Default)]
struct Settings {
    host: Option<String>,
    /// Takes precedence over `host`.
    host_address: Option<IpAddr>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<String>,
    parameters: Vec<(&'static str, String)>,
}

impl Settings {
    /// Reads what follows a URL's scheme. Each part can be absent.
    fn read_url(&mut self, url: &str) -> Result<(), String> {
        let (credentials, rest) = match url.split_once('@') {
            Some((credentials, rest)) => (credentials, rest),
            None => ("", url),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (server, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (server, ""),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        for (name, value) in [("host", host), ("port", port), ("user", user), ("dbname", database)]
        {
            if !value.is_empty() {
                self.set(name, percent_decode(name, value)?)?;
            }
        }
        if let Some(password) = password {
            self.set("password", percent_decode("password", password)?)?;
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.set(&percent_decode("query", name)?, percent_decode(name, value)?)?;
        }
        Ok(())
    }

    /// Reads pairs of names and values, such as `host=localhost password='two words'`.
    fn read_pairs(&mut self, text: &str) -> Result<(), String> {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let pair = rest.split_once('=').map(|(name, after)| (name.trim_end(), after));
            let (name, after) = pair
                .filter(|(name, _)| !name.contains(char::is_whitespace))
                .ok_or("the address is neither postgres://… nor pairs such as `host=localhost`")?;
            let (value, after) = read_value(after.trim_start())
                .ok_or_else(|| format!("the value of `{name}` is incomplete"))?;
            self.set(name, value)?;
            rest = after.trim_start();
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "host" => self.host = Some(one_host(value)?),
            "hostaddr" => {
                let address = value.parse().map_err(|_| {
                    format!("hostaddr={value} is not a single IP address; use `host` for a name")
                })?;
                self.host_address = Some(address);
            }
            "port" if value.is_empty() => {}
            "port" => {
                let port =
                    value.parse().map_err(|_| format!("port={value} is not a single port"))?;
                self.port = Some(port);
            }
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "dbname" => self.parameters.push(("database", value)),
            "options" => self.parameters.push(("options", value)),
            "application_name" => self.parameters.push(("application_name", value)),
            "sslmode" => check_tls(&value)?,
            "channel_binding" if value == "require" => {
                return Err(no_tls("channel_binding", &value));
            }
            "channel_binding" => {}
            "target_session_attrs" if value != "any" => {
                return Err(format!("target_session_attrs={value} is not supported: leave it out"));
            }
            "target_session_attrs" => {}
            name if IGNORED_SETTINGS.contains(&name) => {}
            name => return Err(format!("the address has an unknown setting, `{name}`")),
        }
        Ok(())
    }

    fn into_address(self) -> Result<Address, String> {
        let host = self.host_address.map(|address| address.to_string()).or(self.host);
        Ok(Address {
            host: host.ok_or("the address names no host: add host=NAME")?,
            port: self.port.unwrap_or(DEFAULT_PORT),
            user: self.user.ok_or("the address names no user: add user=NAME")?,
            password: self.password,
            parameters: self.parameters,
        })
    }
}

fn one_host(host: String) -> Result<String, String> {
    if host.starts_with(['/', '@']) {
        return Err(format!("host={host} is a Unix socket, which is not supported: use TCP"));
    }
    if host.is_empty() || host.contains(',') {
        return Err(format!("host={host} is not a single host"));
    }
    Ok(host)
}

fn check_tls(mode: &str) -> Result<(), String> {
    match mode {
        "disable" | "allow" | "prefer" => Ok(()),
        "require" | "verify-ca" | "verify-full" => Err(no_tls("sslmode", mode)),
        _ => Err(format!("sslmode={mode} is unknown: use disable or prefer")),
    }
}

fn no_tls(name: &str, value: &str) -> String {
    format!("{name}={value} needs TLS, which is not supported: connect on a network that you trust")
}

/// A value and what follows it: up to white space, or in single quotes. `\` takes the meaning from the next character.
fn read_value(text: &str) -> Option<(String, &str)> {
    let quoted = text.strip_prefix('\'');
    let mut characters = quoted.unwrap_or(text).chars();
    let mut value = String::new();
    loop {
        let before = characters.as_str();
        match characters.next() {
            Some('\\') => value.push(characters.next()?),
            Some('\'') if quoted.is_some() => return Some((value, characters.as_str())),
            Some(space) if quoted.is_none() && space.is_whitespace() => {
                return Some((value, before));
            }
            Some(character) => value.push(character),
            None if quoted.is_some() => return None,
            None => return Some((value, "")),
        }
    }
}

fn percent_decode(name: &str, text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| format!("the address's {name} is not UTF-8"))?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::Address;

    fn parse(text: &str) -> (String, u16, String, Option<String>, String) {
        let Address { host, port, user, password, parameters } =
            Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let pairs = parameters.iter().map(|(name, value)| format!("{name}={value}"));
        (host, port, user, password, pairs.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn an_address_is_a_url_or_pairs() {
        for (text, host, port, user, password, parameters) in [
            ("host=localhost user=me", "localhost", 5432, "me", None, ""),
            (
                " host = 127.0.0.1  port=7 user=me password='it\\'s \\\\ mine' dbname=one\\ two ",
                "127.0.0.1",
                7,
                "me",
                Some("it's \\ mine"),
                "database=one two",
            ),
            ("host=a hostaddr=::1 user='' password=''", "::1", 5432, "", Some(""), ""),
            ("postgres://me@localhost", "localhost", 5432, "me", None, ""),
            ("postgresql://me:a%20b#c@[::1]:7/db", "::1", 7, "me", Some("a b#c"), "database=db"),
            ("postgres://me@[::1]/", "::1", 5432, "me", None, ""),
            (
                "postgres://localhost/db?user=me&password=a%26b&application_name=x&sslmode=prefer",
                "localhost",
                5432,
                "me",
                Some("a&b"),
                "database=db application_name=x",
            ),
            ("postgres:///?host=a&port=&user=me&connect_timeout=3", "a", 5432, "me", None, ""),
        ] {
            let (host, user) = (host.to_owned(), user.to_owned());
            let expected = (host, port, user, password.map(str::to_owned), parameters.to_owned());
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_is_refused_with_the_reason_and_without_the_password() {
        for (text, reason) in [
            ("", "names no host"),
            ("s3cr3t", "neither postgres://"),
            ("host=localhost password s3cr3t user=me", "neither postgres://"),
            ("host=localhost password=s3cr3t", "names no user"),
            ("host=localhost user=me password='s3cr3t", "value of `password` is incomplete"),
            ("host=localhost user=me password=s3cr3t\\", "value of `password` is incomplete"),
            ("host=one,two user=me", "not a single host"),
            ("host='' user=me", "not a single host"),
            ("host=/run/postgresql user=me", "Unix socket"),
            ("postgres://me:s3cr3t@%2Frun%2Fpostgresql/db", "Unix socket"),
            ("postgres://me:s3cr3t@one:1,two:2/db", "not a single"),
            ("postgres://me:s3cr3t@localhost:port/db", "port=port is not a single port"),
            ("postgres://me:%FF@localhost/db", "password is not UTF-8"),
            ("postgres://me:s3cr3t@localhost/db?sslmode=require", "sslmode=require needs TLS"),
            ("host=localhost user=me sslmode=verify-full", "sslmode=verify-full needs TLS"),
            ("host=localhost user=me sslmode=maybe", "sslmode=maybe is unknown"),
            ("host=localhost user=me channel_binding=require", "needs TLS"),
            ("host=localhost user=me target_session_attrs=read-write", "is not supported"),
            ("host=localhost user=me nonsense=1", "unknown setting, `nonsense`"),
            (&format!("host={}", "a".repeat(5000)), "at most 4096"),
        ] {
            let error = Address::parse(text).err().unwrap_or_else(|| panic!("{text} is accepted"));
            assert!(error.contains(reason) && !error.contains("s3cr3t"), "{text}: {error}");
        }
    }
}
