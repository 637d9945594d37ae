//! Application variables: declared in `[variables]`, set by flag or environment, and passed to components through
//! templates (<https://spinframework.dev/variables>).

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use spotter_config::suggest::nearest;

/// One entry of `[variables]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Declaration {
    pub description: String,
    pub default: Option<String>,
    pub required: bool,
    pub secret: bool,
}

/// The sources of variables' values. Flags take precedence over the environment.
#[derive(Clone, Debug, Default)]
pub struct VariableSources {
    /// From `--variable`.
    pub flags: BTreeMap<String, String>,
    /// From `SPIN_VARIABLE_NAME`, by lowercase name.
    pub environment: BTreeMap<String, String>,
    pub missing: MissingVariable,
}

/// How to treat a required variable without a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingVariable {
    #[default]
    Error,
    /// Use its name as its value, for an application that is packaged rather than run.
    Placeholder,
}

impl VariableSources {
    /// The flags' values, and those of the environment in which the application will run.
    pub fn new(
        flags: BTreeMap<String, String>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Self {
        let environment = environment
            .filter_map(|(name, value)| {
                Some((name.strip_prefix("SPIN_VARIABLE_")?.to_lowercase(), value))
            })
            .collect();
        Self { flags, environment, missing: MissingVariable::Error }
    }

    fn get(&self, name: &str) -> Option<&String> {
        self.flags.get(name).or_else(|| self.environment.get(name))
    }
}

/// The values of all declared variables.
///
/// # Errors
/// If a required variable has no value, a flag names an undeclared variable, or a name is not valid in Spin.
pub fn resolve(
    declared: &BTreeMap<String, Declaration>,
    sources: &VariableSources,
) -> anyhow::Result<BTreeMap<String, String>> {
    for name in sources.flags.keys() {
        if !declared.contains_key(name) {
            let hint = nearest(name, declared.keys().map(String::as_str))
                .map(|name| format!("; did you mean `{name}`?"))
                .unwrap_or_default();
            bail!("--variable names `{name}`, which [variables] does not declare{hint}");
        }
    }
    declared
        .iter()
        .map(|(name, declaration)| {
            ensure!(is_valid_name(name), "`{name}` is not a valid variable name: use {VALID_NAME}");
            ensure!(
                declaration.required != declaration.default.is_some(),
                "the variable `{name}` must have either `required = true` or a default"
            );
            let stand_in = Some(name).filter(|_| sources.missing == MissingVariable::Placeholder);
            let value = sources.get(name).or(declaration.default.as_ref()).or(stand_in);
            let value = value.with_context(|| {
                format!(
                    "the variable `{name}` is required but has no value: set it with --variable \
                     {name}=VALUE or SPIN_VARIABLE_{}",
                    name.to_uppercase()
                )
            })?;
            Ok((name.clone(), value.clone()))
        })
        .collect()
}

/// How a variable's name is written.
pub const VALID_NAME: &str = "words of a-z and 0-9 joined by single _, beginning with a letter";

/// Whether a variable can have this name in Spin.
pub fn is_valid_name(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    name.starts_with(|first: char| first.is_ascii_lowercase()) && name.split('_').all(is_word)
}

/// Replaces each `{{ name }}` with the variable's value.
///
/// # Errors
/// If a variable is not declared, or braces are not closed.
pub fn expand(template: &str, values: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let mut expanded = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after
            .split_once("}}")
            .with_context(|| format!("the template {template:?} has `{{{{` without `}}}}`"))?;
        let value = values.get(name.trim()).with_context(|| {
            format!(
                "the template {template:?} names `{}`, which [variables] does not declare",
                name.trim()
            )
        })?;
        expanded.push_str(before);
        expanded.push_str(value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::{Declaration, MissingVariable, VariableSources, expand, is_valid_name, resolve};
    use std::collections::BTreeMap;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn declared() -> BTreeMap<String, Declaration> {
        toml::from_str("a = { default = \"1\" }\nb = { required = true, secret = true }").unwrap()
    }

    #[test]
    fn a_flag_goes_before_the_environment_and_that_before_the_default() {
        let sources = VariableSources {
            flags: map(&[("b", "flag")]),
            environment: map(&[("b", "env"), ("a", "env")]),
            ..VariableSources::default()
        };
        assert_eq!(resolve(&declared(), &sources).unwrap(), map(&[("a", "env"), ("b", "flag")]));
    }

    #[test]
    fn a_required_variable_must_have_a_value() {
        let error = resolve(&declared(), &VariableSources::default()).unwrap_err().to_string();
        assert!(error.contains("SPIN_VARIABLE_B"), "{error}");
        let sources =
            VariableSources { missing: MissingVariable::Placeholder, ..VariableSources::default() };
        assert_eq!(resolve(&declared(), &sources).unwrap(), map(&[("a", "1"), ("b", "b")]));
        let sources = VariableSources { flags: map(&[("bb", "1")]), ..VariableSources::default() };
        assert!(resolve(&declared(), &sources).unwrap_err().to_string().contains("names `bb`"));
    }

    #[test]
    fn names_are_words_joined_by_underscores() {
        for name in ["a", "a1", "user_id", "a_1"] {
            assert!(is_valid_name(name), "{name}");
        }
        for name in ["", "1a", "_a", "a_", "a__b", "A", "a-b", "é"] {
            assert!(!is_valid_name(name), "{name}");
        }
    }

    #[test]
    fn templates_are_expanded() {
        let values = map(&[("host", "example.com"), ("port", "80")]);
        assert_eq!(
            expand("http://{{ host }}:{{port}}/", &values).unwrap(),
            "http://example.com:80/"
        );
        assert_eq!(expand("plain", &values).unwrap(), "plain");
        assert!(expand("{{ nothing }}", &values).is_err());
        assert!(expand("{{ host", &values).is_err());
    }
}
