//! An HTTP client that returns every status as it is, without turning any into an error.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

/// A reply.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The first header of this name; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The error's code; empty if there is none.
    pub fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Whether the `/readyz` at this URL reports that the server is ready.
pub fn is_ready(url: &str) -> bool {
    try_send("GET", url, &[], &[]).is_ok_and(|reply| reply.status == 200)
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .build()
        .into()
}

/// Sends a request with these headers and this body.
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    try_send(method, url, headers, body).expect("a reply")
}

/// The same, for a server that may send no reply, or only a part of one.
pub fn try_send(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Reply, ureq::Error> {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body).expect("a request");
    let mut response = agent().run(request)?;
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(1 << 28).read_to_vec()?;
    Ok(Reply { status, headers, body })
}

/// `GET`.
pub fn get(url: &str) -> Reply {
    send("GET", url, &[], &[])
}

/// `POST` of a picture's bytes.
pub fn post_picture(url: &str, picture: &[u8]) -> Reply {
    send("POST", url, &[("content-type", "application/octet-stream")], picture)
}

/// A `multipart/form-data` body with these parts: name, optional file name, content.
pub fn form(parts: &[(&str, Option<&str>, &[u8])]) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "----a-boundary-of-the-tests";
    let mut body = Vec::new();
    for (name, file, content) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        body.extend_from_slice(
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n"
            )
            .as_bytes(),
        );
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

/// `POST` of a form.
pub fn post_form(url: &str, parts: &[(&str, Option<&str>, &[u8])]) -> Reply {
    let (content_type, body) = form(parts);
    send("POST", url, &[("content-type", &content_type)], &body)
}

/// `GET`, from a server that may not have started yet.
pub fn try_get(url: &str) -> Option<Reply> {
    try_send("GET", url, &[], &[]).ok()
}

/// The status of a `GET` over a connection of its own; `None` if there is no reply in time.
pub fn status_within(url: &str, timeout: Duration) -> Option<u16> {
    let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(timeout));
    let agent: Agent = config.build().into();
    Some(agent.get(url).call().ok()?.status().as_u16())
}

/// `POST` of JSON.
pub fn post_json(url: &str, value: &Value) -> Reply {
    send("POST", url, &[("content-type", "application/json")], value.to_string().as_bytes())
}
