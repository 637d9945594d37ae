//! A component's settings for browsers: `page` and `cross_origin` of `tool.spotter`. Both may contain variables, so
//! that whoever runs an application can change them without editing its manifest.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use http::{HeaderValue, Uri};

use super::component_manifest::SpotterTool;
use super::variables::{self, MissingVariable};

/// A component's settings for browsers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Browsers {
    pub page: Page,
    pub cross_origin: Origins,
}

/// Whether the component's page, its `GET /`, is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Page {
    #[default]
    On,
    Off,
}

/// Whose pages may read a component's replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Pages of the component's own origin, and of the origins in this list.
    Listed(Vec<HeaderValue>),
    Any,
}

impl Default for Origins {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl Browsers {
    /// Expands and parses the settings. If the application is only packaged, values that are not known yet are left
    /// out.
    ///
    /// # Errors
    /// If a value is invalid, or names a variable that is not declared.
    pub(super) fn resolve(
        tool: &SpotterTool,
        values: &BTreeMap<String, String>,
        missing: MissingVariable,
    ) -> anyhow::Result<Self> {
        let expand = |template: &Option<String>| {
            let Some(template) = template else { return anyhow::Ok(None) };
            let expanded = variables::expand(template, values)?;
            let is_known = missing == MissingVariable::Error || expanded == *template;
            Ok(is_known.then_some(expanded))
        };
        let page = expand(&tool.page)?.map(|text| Page::parse(&text)).transpose();
        let cross_origin =
            expand(&tool.cross_origin)?.map(|text| Origins::parse(&text)).transpose();
        Ok(Self {
            page: page.context("`tool.spotter.page`")?.unwrap_or_default(),
            cross_origin: cross_origin.context("`tool.spotter.cross_origin`")?.unwrap_or_default(),
        })
    }
}

impl Page {
    fn parse(text: &str) -> anyhow::Result<Self> {
        match text.trim() {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            other => bail!("it is {other:?}; it must be `on` or `off`"),
        }
    }
}

impl Origins {
    /// Parses `*`, or origins with spaces or commas between them.
    fn parse(text: &str) -> anyhow::Result<Self> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let origins = text.split([',', ' ']).filter(|origin| !origin.is_empty());
        origins.map(origin).collect::<anyhow::Result<_>>().map(Self::Listed)
    }

    /// Whether pages of no other origin may read the replies.
    pub fn is_own_only(&self) -> bool {
        matches!(self, Self::Listed(others) if others.is_empty())
    }
}

/// An origin as browsers write it, in lower case.
fn origin(text: &str) -> anyhow::Result<HeaderValue> {
    let expected = || {
        format!(
            "{text:?} is not an origin: write `https://example.com`, without a path, or `*` for all"
        )
    };
    let uri: Uri = text.to_ascii_lowercase().parse().with_context(expected)?;
    let parts = (uri.scheme_str(), uri.authority());
    let (Some(scheme @ ("http" | "https")), Some(authority)) = parts else { bail!(expected()) };
    let origin = format!("{scheme}://{authority}");
    ensure!(origin == text.to_ascii_lowercase() && !origin.contains('@'), expected());
    HeaderValue::try_from(origin).with_context(expected)
}

#[cfg(test)]
mod tests {
    use super::{Browsers, Origins, Page};
    use crate::component_manifest::SpotterTool;
    use crate::variables::MissingVariable;

    fn resolved(page: &str, cross_origin: &str) -> anyhow::Result<Browsers> {
        let (page, cross_origin) = (Some(page.to_owned()), Some(cross_origin.to_owned()));
        let tool = SpotterTool { page, cross_origin, ..SpotterTool::default() };
        let values = [("page".to_owned(), "off".to_owned())].into();
        Browsers::resolve(&tool, &values, MissingVariable::Error)
    }

    #[test]
    fn settings_take_variables_and_say_what_is_wrong() {
        let off = resolved("{{ page }}", "").unwrap();
        assert_eq!((off.page, off.cross_origin.is_own_only()), (Page::Off, true));
        let listed = resolved("on", "https://A.example, http://b.example:8080").unwrap();
        let origins =
            ["https://a.example", "http://b.example:8080"].map(|origin| origin.parse().unwrap());
        assert_eq!(listed.cross_origin, Origins::Listed(origins.to_vec()));
        assert_eq!(resolved("on", " * ").unwrap().cross_origin, Origins::Any);
        let refused = format!("{:#}", resolved("no", "").unwrap_err());
        assert!(refused.contains("`tool.spotter.page`: it is \"no\""), "{refused}");
        for wrong in ["example.com", "https://a.example/", "ftp://a", "https://u@a", "null", "*,*"]
        {
            let refused = format!("{:#}", resolved("on", wrong).unwrap_err());
            assert!(refused.contains("is not an origin"), "{wrong}: {refused}");
        }
        let undeclared = format!("{:#}", resolved("{{ pages }}", "").unwrap_err());
        assert!(undeclared.contains("pages"), "{undeclared}");
    }

    #[test]
    fn what_is_not_known_yet_is_left_out() {
        let tool = SpotterTool { page: Some("{{ page }}".to_owned()), ..SpotterTool::default() };
        let values = [("page".to_owned(), "page".to_owned())].into();
        let resolved = Browsers::resolve(&tool, &values, MissingVariable::Placeholder).unwrap();
        assert_eq!(resolved, Browsers::default());
    }
}
