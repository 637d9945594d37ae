//! Checks components before they are compiled, which takes far longer.

use std::fs;

use anyhow::Context;

use crate::app::{App, Component, check};

/// Checks every component that requests can reach.
///
/// # Errors
/// Those of [`component`].
pub fn application(app: &App) -> anyhow::Result<()> {
    app.components.values().try_for_each(component)
}

/// Checks a component's file.
///
/// # Errors
/// If it cannot be read or is not a component, exports no HTTP handler, or imports something that the host does not
/// provide. The error lists all such imports.
pub fn component(component: &Component) -> anyhow::Result<()> {
    let path = component.source.display();
    let bytes = fs::read(&component.source).with_context(|| {
        format!("cannot read the component {path}; build it first: `spotter build`, or `spotter up --build`")
    })?;
    check::component(&bytes).with_context(|| format!("component `{}` ({path})", component.id))
}
