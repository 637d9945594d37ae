//! Spin's HTTP routes: exact paths, `/:param` segments and a trailing `/...`. The most specific route wins
//! (<https://spinframework.dev/http-trigger#http-trigger-routing>). The query may select a model.

use std::fmt;

use anyhow::{Context, bail, ensure};
use http::{HeaderName, HeaderValue, StatusCode, Uri};

use super::triggers::StaticResponse;

/// A parsed route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    segments: Vec<Segment>,
    /// Whether it ends in `/...` and so matches any path below it too.
    is_wildcard: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
}

/// What handles a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The name of a component.
    Component(String),
    Static(StaticReply),
}

/// A fixed reply without a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticReply {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: String,
}

impl StaticReply {
    /// Validates a `static_response`.
    ///
    /// # Errors
    /// If the status or a header is not valid in HTTP.
    pub fn new(raw: StaticResponse) -> anyhow::Result<Self> {
        let status = raw.status_code.unwrap_or(200);
        let headers = raw
            .headers
            .iter()
            .map(|(name, value)| {
                let context =
                    || format!("`static_response` has the invalid header {name:?}: {value:?}");
                let name = HeaderName::try_from(name).with_context(context)?;
                Ok((name, HeaderValue::try_from(value).with_context(context)?))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            status: StatusCode::from_u16(status).with_context(|| {
                format!("`static_response` has the status {status}; write one from 100 to 999")
            })?,
            headers,
            body: raw.body,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Component(id) => write!(formatter, "{id}"),
            Self::Static(_) => write!(formatter, "a static response"),
        }
    }
}

/// Patterns with their targets.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    entries: Vec<(Pattern, Target)>,
}

/// The route that matched a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<'t> {
    pub pattern: &'t Pattern,
    /// The values of the `:param` segments, by name.
    pub parameters: Vec<(String, String)>,
    /// The rest of the path below a `/...` route, or the whole path for `/...` itself; otherwise empty.
    pub path_info: String,
}

impl Match<'static> {
    /// The match of a request that another component sent to a component by name.
    pub fn whole(path: &str) -> Self {
        static EVERYTHING: Pattern = Pattern { segments: Vec::new(), is_wildcard: true };
        Self { pattern: &EVERYTHING, parameters: Vec::new(), path_info: path.to_owned() }
    }
}

impl Pattern {
    /// Parses a route such as `/users/:id/...`.
    ///
    /// # Errors
    /// If the route does not begin with `/`, or has `...` before its end.
    pub fn parse(route: &str) -> anyhow::Result<Self> {
        ensure!(route.starts_with('/'), "the route {route:?} does not begin with `/`");
        let (path, is_wildcard) = match route.strip_suffix("/...") {
            Some(path) => (path, true),
            None => (route, false),
        };
        let mut segments = Vec::new();
        for segment in path.split('/').skip(1).filter(|segment| !segment.is_empty()) {
            if segment == "..." {
                bail!("the route {route:?} has `...` before its end");
            }
            segments.push(match segment.strip_prefix(':') {
                Some("") => bail!("the route {route:?} has a parameter without a name"),
                Some(name) => Segment::Parameter(name.to_owned()),
                None => Segment::Literal(segment.to_owned()),
            });
        }
        Ok(Self { segments, is_wildcard })
    }

    /// The part before `/...`, as in Spin's `spin-component-route` header.
    pub fn base(&self) -> String {
        self.segments.iter().map(|segment| format!("/{segment}")).collect()
    }

    pub fn is_wildcard(&self) -> bool {
        self.is_wildcard
    }

    /// Equal for two patterns that match the same paths.
    fn key(&self) -> (Vec<Option<&str>>, bool) {
        let segments = self
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => Some(text.as_str()),
                Segment::Parameter(_) => None,
            })
            .collect();
        (segments, self.is_wildcard)
    }

    /// Ranks literals before parameters (from the left), longer before shorter, and exact before `/...`.
    fn precedence(&self) -> (Vec<u8>, bool) {
        let ranks = self
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(_) => 2,
                Segment::Parameter(_) => 1,
            })
            .collect();
        (ranks, !self.is_wildcard)
    }

    fn matches(&self, path: &[&str]) -> Option<Vec<(String, String)>> {
        let fits = if self.is_wildcard {
            path.len() >= self.segments.len()
        } else {
            path.len() == self.segments.len()
        };
        if !fits {
            return None;
        }
        let mut parameters = Vec::new();
        for (segment, part) in self.segments.iter().zip(path) {
            match segment {
                Segment::Literal(text) if text == part => {}
                Segment::Literal(_) => return None,
                Segment::Parameter(name) => parameters.push((name.clone(), (*part).to_owned())),
            }
        }
        Some(parameters)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => write!(formatter, "{text}"),
            Self::Parameter(name) => write!(formatter, ":{name}"),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base();
        match (base.as_str(), self.is_wildcard) {
            (_, true) => write!(formatter, "{base}/..."),
            ("", false) => write!(formatter, "/"),
            (_, false) => write!(formatter, "{base}"),
        }
    }
}

impl RouteTable {
    /// Adds a route.
    ///
    /// # Errors
    /// If another route matches the same paths.
    pub fn insert(&mut self, pattern: Pattern, target: Target) -> anyhow::Result<()> {
        if let Some((other, owner)) =
            self.entries.iter().find(|(other, _)| other.key() == pattern.key())
        {
            bail!(
                "the routes `{other}` (of {owner}) and `{pattern}` (of {target}) conflict, because they match the same \
                 paths; remove or change one"
            );
        }
        self.entries.push((pattern, target));
        self.entries.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.precedence()));
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All routes, the most specific first.
    pub fn entries(&self) -> impl Iterator<Item = (&Pattern, &Target)> {
        self.entries.iter().map(|(pattern, target)| (pattern, target))
    }

    /// The most specific route that matches the path. If the query has `model=NAME` and the application has the route
    /// `/v2/models/NAME`, the component of that route takes the place of the matching route's component.
    pub fn resolve(&self, uri: &Uri) -> Option<(&Target, Match<'_>)> {
        let (target, found) = self.find(uri.path())?;
        let of_model = match target {
            Target::Component(_) => uri.query().and_then(|query| self.find_model(query)),
            Target::Static(_) => None,
        };
        Some((of_model.unwrap_or(target), found))
    }

    /// The component that serves the model that a query names.
    fn find_model(&self, query: &str) -> Option<&Target> {
        let (_, name) = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "model")?;
        let literal = |text: &str| Segment::Literal(text.to_owned());
        let wanted = [literal("v2"), literal("models"), literal(&name)];
        let (_, target) = self
            .entries
            .iter()
            .find(|(pattern, _)| !pattern.is_wildcard && pattern.segments == wanted)?;
        matches!(target, Target::Component(_)).then_some(target)
    }

    /// The most specific route that matches `path`, which must not include the query.
    pub fn find(&self, path: &str) -> Option<(&Target, Match<'_>)> {
        // Slashes around the path do not count; those within it do, so `/a//b` has three segments.
        let inner = path.trim_matches('/');
        let parts: Vec<&str> =
            if inner.is_empty() { Vec::new() } else { inner.split('/').collect() };
        self.entries.iter().find_map(|(pattern, target)| {
            let parameters = pattern.matches(&parts)?;
            let below = parts.get(pattern.segments.len()..).unwrap_or_default();
            let path_info =
                if pattern.is_wildcard { path_info(path, below) } else { String::new() };
            Some((target, Match { pattern, parameters, path_info }))
        })
    }
}

/// The segments of `path` below a route, with a slash before each, and one at the end if `path` has one.
fn path_info(path: &str, below: &[&str]) -> String {
    let mut info: String = below.iter().flat_map(|part| ["/", *part]).collect();
    if path.ends_with('/') {
        info.push('/');
    }
    info
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Pattern, RouteTable, StaticReply, StaticResponse, Target};

    fn table(routes: &[&str]) -> RouteTable {
        let mut table = RouteTable::default();
        for route in routes {
            table
                .insert(Pattern::parse(route).unwrap(), Target::Component((*route).to_owned()))
                .unwrap();
        }
        table
    }

    #[test]
    fn the_most_specific_route_wins() {
        let table =
            table(&["/...", "/users/...", "/users/:id", "/users/me", "/users/:id/posts", "/"]);
        let cases = [
            ("/", "/"),
            ("/other", "/..."),
            ("/users", "/users/..."),
            ("/users/me", "/users/me"),
            ("/users/7", "/users/:id"),
            ("/users/7/posts", "/users/:id/posts"),
            ("/users/7/posts/9", "/users/..."),
        ];
        for (path, route) in cases {
            assert_eq!(table.find(path).unwrap().0.to_string(), route, "{path}");
        }
    }

    #[test]
    fn a_match_tells_parameters_and_the_path_below() {
        let table = table(&["/a/:name/..."]);
        let (_, found) = table.find("/a/b%20c/d/e/").unwrap();
        assert_eq!(found.parameters, [("name".to_owned(), "b%20c".to_owned())]);
        assert_eq!(found.path_info, "/d/e/");
        assert_eq!(found.pattern.to_string(), "/a/:name/...");
    }

    #[test]
    fn the_path_below_keeps_empty_segments_and_one_slash_at_the_end() {
        let table = table(&["/...", "/a/..."]);
        for (path, route, below) in [
            ("/", "/...", "/"),
            ("//x//", "/...", "/x/"),
            ("/x//y", "/...", "/x//y"),
            ("/a", "/a/...", ""),
            ("/a/", "/a/...", "/"),
            ("/a//b", "/a/...", "//b"),
        ] {
            let (target, found) = table.find(path).unwrap();
            assert_eq!((target.to_string().as_str(), found.path_info.as_str()), (route, below));
        }
    }

    #[test]
    fn an_exact_route_matches_nothing_else() {
        assert!(table(&["/a"]).find("/a/b").is_none());
        assert!(table(&["/a"]).find("/").is_none());
    }

    #[test]
    fn a_query_selects_the_component_that_serves_a_model() {
        let mut table = table(&["/...", "/v2/models/street cars", "/v2/models/:other/ready"]);
        let fixed =
            StaticResponse { status_code: None, headers: BTreeMap::new(), body: String::new() };
        let fixed = StaticReply::new(fixed).unwrap();
        table.insert(Pattern::parse("/fixed").unwrap(), Target::Static(fixed)).unwrap();
        for (uri, target) in [
            ("/detect?min_confidence=0.5&model=street+cars", "/v2/models/street cars"),
            ("/detect?model=street%20cars", "/v2/models/street cars"),
            ("/detect?model=street", "/..."),
            ("/detect?model=", "/..."),
            ("/detect?models=street+cars", "/..."),
            ("/fixed?model=street+cars", "a static response"),
        ] {
            let (found, matched) = table.resolve(&uri.parse().unwrap()).unwrap();
            assert_eq!(found.to_string(), target, "{uri}");
            assert_ne!(matched.pattern.to_string(), "/v2/models/street cars", "{uri}");
        }
    }

    #[test]
    fn routes_that_match_the_same_paths_conflict() {
        let mut table = table(&["/a/:x"]);
        let error = table
            .insert(Pattern::parse("/a/:y").unwrap(), Target::Component("b".into()))
            .unwrap_err();
        assert!(error.to_string().contains("conflict"), "{error}");
    }

    #[test]
    fn malformed_routes_are_refused() {
        for route in ["a", "", "/.../a", "/:"] {
            assert!(Pattern::parse(route).is_err(), "{route}");
        }
    }
}
