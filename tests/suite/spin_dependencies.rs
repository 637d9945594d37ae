//! `[component.ID.dependencies]`: components that are composed with others when they are loaded.

use spotter_tests::application::Application;
use spotter_tests::{client, stderr};

/// A component whose imports a dependency is to provide; the dependencies follow.
const DEPENDENT: &str = r#"
[[trigger.http]]
route = "/..."
component = "dependent"
[component.dependent]
source = "dependent.wasm"
environment = { GREETING = "good day" }
files = [{ source = "texts", destination = "/texts" }]
"#;

fn application(dependencies: &str) -> Application {
    Application::new(&format!("{DEPENDENT}{dependencies}")).with("texts/one.txt", "a text")
}

fn reply(dependencies: &str) -> String {
    let server = application(dependencies).up(&[]);
    String::from_utf8(client::get(&server.url("/")).body).expect("text")
}

#[test]
fn a_dependency_provides_imports_and_sees_nothing_of_its_component() {
    const ISOLATED: &str = r#"5 Some("good day") [] None"#;
    let by_package =
        "[component.dependent.dependencies]\n\"example:sums\" = { path = \"dependency.wasm\" }";
    assert_eq!(reply(by_package), ISOLATED);
    let by_interface = r#"
        [component.dependent.dependencies]
        "example:sums/add@1.0.0" = { component = "provider", export = "example:sums/add@1.0.0" }
        "example:sums/surroundings" = { component = "provider" }
        [component.provider]
        source = "dependency.wasm"
        "#;
    assert_eq!(reply(by_interface), ISOLATED);
}

#[test]
fn a_dependency_that_inherits_sees_what_its_component_sees() {
    const INHERITED: &str = r#"5 Some("good day") ["GREETING=good day"] Some("a text")"#;
    let all = "dependencies_inherit_configuration = true\n[component.dependent.dependencies]\n\
               \"example:sums\" = { path = \"dependency.wasm\" }";
    assert_eq!(reply(all), INHERITED);
    let one = "[component.dependent.dependencies]\n\
               \"example:sums\" = { path = \"dependency.wasm\", inherit_configuration = true }";
    assert_eq!(reply(one), INHERITED);
}

#[test]
fn dependencies_that_do_not_fit_are_refused_with_the_reason() {
    for (dependencies, reason) in [
        (r#""example:sums" = "1.0.0""#, "would come from a registry"),
        (r#""example:sums" = { version = "1", registry = "a.b" }"#, "would come from a registry"),
        (r#""example:sums" = { url = "https://a.b/c.wasm" }"#, "no `digest`"),
        (r#""example:sums" = { url = "https://a.b/c.wasm", digest = "d" }"#, "`digest` is \"d\""),
        (r#""example:sums" = { path = "dependency.wasm", digest = "d" }"#, "with its `digest`"),
        (r#""example:sums" = {}"#, "needs a `path`, a `component`, or a `url`"),
        (r#""example:sums" = { component = "nobody" }"#, "[component.nobody] does not exist"),
        (r#""example:sums" = { paht = "dependency.wasm" }"#, "paht"),
        (
            r#""example:sums" = { path = "dependency.wasm", inherit_configuration = ["files"] }"#,
            "`inherit_configuration`",
        ),
        (r#""example:sums" = { path = "nothing.wasm" }"#, "nothing.wasm"),
        (r#""example:sums" = { path = "texts/one.txt" }"#, "not WebAssembly"),
        (
            r#""other:sums" = { path = "dependency.wasm" }"#,
            "exports nothing that the component imports",
        ),
        (r#""example:sums" = { path = "hello.wasm" }"#, "does not export `example:sums/"),
        (
            r#""example:sums/add" = { path = "dependency.wasm", export = "example:sums/surroundings@1.0.0" }"#,
            "is not what the import",
        ),
        (
            "\"example:sums\" = { path = \"dependency.wasm\" }\n\
             \"example:sums/add\" = { path = \"dependency.wasm\" }",
            "which another dependency already provides",
        ),
        (
            r#""example:sums" = { path = "guest.wasm" }"#,
            "only with `dependencies_inherit_configuration = true`",
        ),
        // An import that no dependency provides is missing, as always.
        (r#""example:sums/add" = { path = "dependency.wasm" }"#, "example:sums/surroundings@1.0.0"),
    ] {
        let manifest = format!("[component.dependent.dependencies]\n{dependencies}");
        let output = application(&manifest).run(&["check"]);
        let said = stderr(&output);
        assert!(!output.status.success() && said.contains(reason), "{said} lacks {reason}");
    }
}
