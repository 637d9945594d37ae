//! Renames a component's imports and exports, for example from a release candidate's names to the release's if the
//! interfaces are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::{Context, bail};
use spotter_app::check::{self, Interfaces};
use wasm_encoder::Encode;
use wasmparser::{BinaryReader, Encoding, Parser, Payload};

/// The release candidates, and the series of their releases. The interfaces differ only in their names, except for
/// [`OTHER_TYPES`] and for functions that 0.2 lacks ([`crate::release_candidates::sockets_2023`]).
const RELEASE_CANDIDATES: [(&str, &str); 3] = [
    ("@0.2.0-rc-2023-11-10", "@0.2"),
    ("@0.2.0-rc-2023-12-05", "@0.2"),
    // Spin 4.0 and its Rust SDK 6.
    ("@0.3.0-rc-2026-03-15", "@0.3"),
];

/// An interface that keeps its name, because its types differ from the release's: see [`crate::release_candidates::http_2023_11_10`].
const OTHER_TYPES: &str = "wasi:http/types@0.2.0-rc-2023-11-10";

/// An export of Spin's Rust SDK 2, and the series of its release. Only what the handler imports differs: see
/// [`crate::release_candidates::http_2023_10_18`].
const HANDLER_2023_10_18: (&str, &str) =
    ("wasi:http/incoming-handler@0.2.0-rc-2023-10-18", "wasi:http/incoming-handler@0.2");

/// The bytes before the first section: magic number and version.
const PREAMBLE_BYTES: usize = 8;

/// The component with its release's names; `None` if it has them already.
///
/// # Errors
/// If the bytes are not a component.
pub(super) fn to_release(component: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let Interfaces { imports, exports } = check::interfaces(component)?;
    let names: BTreeSet<String> = imports.into_iter().chain(exports).collect();
    let mut renamed = BTreeMap::new();
    for name in &names {
        if let Some(series) = release_series(name) {
            // A component that was wrapped imports some interfaces under the release's name already.
            let versions = (0..).map(|patch| format!("{series}.{patch}"));
            let mut free = versions.filter(|release| !names.contains(release));
            renamed.insert(name.as_str(), free.next().context("no version is free")?);
        }
    }
    let renamed = |name: &str| renamed.get(name).cloned();
    rename(component, renamed, renamed)
}

/// The name of a release candidate's interface in its release, without the last number of its version; `None` if it is
/// not of a release candidate, or keeps its name.
fn release_series(name: &str) -> Option<String> {
    if name == OTHER_TYPES {
        return None;
    }
    let (candidate, series) = HANDLER_2023_10_18;
    if name == candidate {
        return Some(series.to_owned());
    }
    RELEASE_CANDIDATES
        .iter()
        .find_map(|(candidate, series)| Some(format!("{}{series}", name.strip_suffix(candidate)?)))
}

/// The component with other names for its imports, where `renamed` gives one; `None` if it gives none.
///
/// # Errors
/// If the bytes are not a component.
pub(crate) fn imports(
    component: &[u8],
    renamed: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<Vec<u8>>> {
    rename(component, renamed, |_| None)
}

fn rename(
    component: &[u8],
    import: impl Fn(&str) -> Option<String>,
    export: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<Vec<u8>>> {
    let mut renamed = component.get(..PREAMBLE_BYTES).context("it is not WebAssembly")?.to_vec();
    let (mut depth, mut is_changed) = (0_usize, false);
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.context("it is not WebAssembly")?;
        if depth > 0 {
            match payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                _ => {}
            }
            continue;
        }
        let Some((id, range)) = payload.as_section() else {
            if let Payload::Version { encoding: Encoding::Module, .. } = payload {
                bail!("it is a core module, not a component");
            }
            continue;
        };
        let body = match &payload {
            Payload::ComponentImportSection(section) => {
                let offsets = section.clone().into_iter_with_offsets().map(|item| Ok(item?.0));
                rename_items(component, &range, offsets.collect::<anyhow::Result<_>>()?, &import)?
            }
            Payload::ComponentExportSection(section) => {
                let offsets = section.clone().into_iter_with_offsets().map(|item| Ok(item?.0));
                rename_items(component, &range, offsets.collect::<anyhow::Result<_>>()?, &export)?
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth += 1;
                None
            }
            _ => None,
        };
        is_changed |= body.is_some();
        // A module's range is the one that the file states, which may be longer than the file.
        let original = component.get(range).context("it is truncated")?;
        renamed.push(id);
        body.as_deref().unwrap_or(original).encode(&mut renamed);
    }
    Ok(is_changed.then_some(renamed))
}

/// A section's body, each item of which begins with a name
/// (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md>); `None` if there is nothing to
/// rename.
fn rename_items(
    component: &[u8],
    section: &Range<usize>,
    offsets: Vec<usize>,
    renamed: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    u32::try_from(offsets.len())?.encode(&mut body);
    let mut is_changed = false;
    let ends = offsets.iter().skip(1).copied().chain([section.end]);
    for (start, end) in offsets.iter().copied().zip(ends) {
        let item = component.get(start..end).context("a malformed section")?;
        let mut reader = BinaryReader::new(item, start);
        let kind = reader.read_u8()?;
        let name = reader.read_string()?;
        let rest = &item[reader.current_position()..];
        let renamed = renamed(name);
        is_changed |= renamed.is_some();
        body.push(kind);
        renamed.as_deref().unwrap_or(name).encode(&mut body);
        body.extend_from_slice(rest);
    }
    Ok(is_changed.then_some(body))
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;
    use wasmtime::component::Component;

    use super::to_release;

    /// A component with a core module, and an import of the release candidate.
    fn component() -> Vec<u8> {
        wat::parse_str(
            r#"(component
                (core module (func (export "f")))
                (import "wasi:http/types@0.3.0-rc-2026-03-15" (instance))
            )"#,
        )
        .unwrap()
    }

    /// The bytes of a component with its release's names, as far as they are text. It is a valid one.
    fn text(component: &str) -> String {
        let component = wat::parse_str(component).unwrap();
        let renamed = to_release(&component).unwrap().unwrap();
        Component::new(&Engine::default(), &renamed).unwrap();
        String::from_utf8_lossy(&renamed).into_owned()
    }

    #[test]
    fn an_import_of_the_release_candidate_gets_the_releases_name() {
        let renamed = to_release(&component()).unwrap().unwrap();
        assert!(String::from_utf8_lossy(&renamed).contains("wasi:http/types@0.3.0"));
        assert!(!String::from_utf8_lossy(&renamed).contains("rc-2026"));
        assert_eq!(to_release(&renamed).unwrap(), None);
    }

    #[test]
    fn the_handler_of_2023_is_renamed_and_what_it_imports_is_not() {
        let text = text(
            r#"(component
                (import "wasi:http/types@0.2.0-rc-2023-10-18" (instance))
                (instance $handler)
                (export "wasi:http/incoming-handler@0.2.0-rc-2023-10-18" (instance $handler))
            )"#,
        );
        assert!(text.contains("wasi:http/types@0.2.0-rc-2023-10-18"), "{text}");
        assert!(!text.contains("incoming-handler@0.2.0-rc"), "{text}");
        assert!(text.contains("wasi:http/incoming-handler@0.2.0"), "{text}");
    }

    #[test]
    fn what_has_other_types_keeps_its_name() {
        let text = text(
            r#"(component
                (import "wasi:http/types@0.2.0-rc-2023-11-10" (instance))
                (import "wasi:http/outgoing-handler@0.2.0-rc-2023-11-10" (instance))
            )"#,
        );
        assert_eq!(text.matches("rc-2023-11-10").count(), 1, "{text}");
        assert!(!text.contains("outgoing-handler@0.2.0-rc"), "{text}");
    }

    #[test]
    fn an_interface_that_is_imported_under_both_names_is_imported_twice() {
        let text = text(
            r#"(component
                (import "wasi:io/poll@0.2.0" (instance))
                (import "wasi:io/poll@0.2.0-rc-2023-11-10" (instance))
                (instance $handler)
                (export "wasi:http/incoming-handler@0.2.0-rc-2023-10-18" (instance $handler))
            )"#,
        );
        assert!(text.contains("wasi:io/poll@0.2.1") && !text.contains("-rc-"), "{text}");
    }

    #[test]
    fn a_component_that_is_cut_short_anywhere_is_an_error_and_no_panic() {
        let whole = component();
        for length in 0..whole.len() {
            // Between two sections, the rest is a component too.
            let _ = to_release(&whole[..length]);
        }
        let module = whole.windows(4).rposition(|bytes| bytes == b"\0asm").unwrap();
        assert!(to_release(&whole[..module + 8]).is_err());
    }
}
