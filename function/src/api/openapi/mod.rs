//! Generates the OpenAPI 3.1 document from the route table and the types of requests and replies. Only the test here
//! does so; the component contains the result, `function/page/openapi.json`.

mod bodies;
mod operations;

use serde_json::{Map, Value, json};

use super::routes::{MODEL_SEGMENT, VERSION_SEGMENT, documented};
use operations::Operation;

const DOCUMENT_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/page/openapi.json");

/// The document as compact JSON.
fn document() -> String {
    let mut paths: Map<String, Value> = Map::new();
    for (method, path) in documented() {
        let operation = Operation::for_route(method, path).to_json(path);
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[method] = operation;
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Spotter",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Detects objects in pictures. One detector, with an API of its own and those of DeepStack \
                and CodeProject.AI, the Open Inference Protocol, Hugging Face and Roboflow.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        // Relative to this document, so that it holds below any route.
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {
            "parameters": operations::parameters(),
            "responses": operations::responses(),
        },
    });
    let mut schemas = Map::new();
    name_schemas(&mut document, &mut schemas);
    schemas.sort_keys();
    document["components"]["schemas"] = schemas.into();
    format!("{document}\n")
}

/// Moves each schema with a title out of the document, and refers to it by its title.
fn name_schemas(value: &mut Value, schemas: &mut Map<String, Value>) {
    let title = value
        .get("title")
        .and_then(Value::as_str)
        .filter(|title| title.contains('.'))
        .map(str::to_owned);
    if let Some(title) = title {
        let reference = json!({"$ref": format!("#/components/schemas/{title}")});
        let mut schema = std::mem::replace(value, reference);
        schema.as_object_mut().expect("an object").remove("title");
        let earlier = schemas.insert(title.clone(), schema.clone());
        assert!(earlier.is_none_or(|earlier| earlier == schema), "two schemas are named {title}");
        return;
    }
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| name_schemas(field, schemas));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| name_schemas(value, schemas)),
        _ => {}
    }
}

/// The parameters in a path, by reference.
fn path_parameters(path: &str) -> impl Iterator<Item = Value> {
    let names =
        path.split('/').filter(|segment| [MODEL_SEGMENT, VERSION_SEGMENT].contains(segment));
    names.map(|name| {
        let name = name.trim_matches(['{', '}']);
        json!({"$ref": format!("#/components/parameters/{name}")})
    })
}

#[test]
fn the_document_is_up_to_date() {
    let document = document();
    if std::env::var_os("SPOTTER_UPDATE_OPENAPI").is_some() {
        std::fs::write(DOCUMENT_PATH, &document).expect("a file");
    }
    let written = std::fs::read_to_string(DOCUMENT_PATH).expect("a document");
    assert!(
        written == document,
        "function/page/openapi.json is out of date: run `SPOTTER_UPDATE_OPENAPI=1 cargo test --release -p detector`"
    );
}
