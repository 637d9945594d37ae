//! Reads what `spotter model inspect` needs from an ONNX file: its inputs, its outputs and its operators.
//!
//! The messages are those of `onnx.proto` (ONNX 1.16), with only the fields that are read; weights are skipped.

pub mod guess;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use prost::Message;

/// A network, seen from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Without those that are constants.
    pub inputs: Vec<Value>,
    pub outputs: Vec<Value>,
    /// How often each operator is used, in the bodies of loops and branches too.
    pub operators: BTreeMap<String, usize>,
    /// What the exporter states about the model.
    pub metadata: BTreeMap<String, String>,
}

/// An input or an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub name: String,
    pub element: Element,
    /// `None` for an axis whose length is not fixed.
    pub shape: Vec<Option<u64>>,
}

/// The type of a tensor's elements (`TensorProto.DataType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    F16,
    U8,
    I32,
    I64,
    /// Any other, by its number.
    Other(i32),
}

impl Network {
    /// Reads a file.
    ///
    /// # Errors
    /// If it is not an ONNX file.
    pub fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let model = Model::decode(bytes).context("this is not an ONNX file")?;
        let graph = model.graph.context("this ONNX file has no graph")?;
        ensure!(!graph.output.is_empty(), "this is not an ONNX file, or its graph has no output");
        let constants: BTreeSet<&str> =
            graph.initializer.iter().map(|constant| constant.name.as_str()).collect();
        let is_input = |value: &&ValueInfo| !constants.contains(value.name.as_str());
        let mut operators = BTreeMap::new();
        graph.count(&mut operators);
        Ok(Self {
            inputs: graph.input.iter().filter(is_input).map(Value::from_info).collect(),
            outputs: graph.output.iter().map(Value::from_info).collect(),
            operators,
            metadata: model.metadata.into_iter().map(|entry| (entry.key, entry.value)).collect(),
        })
    }
}

impl Graph {
    /// Adds the operators of the graph and of all graphs in it. Their depth is limited by the decoder.
    fn count(&self, operators: &mut BTreeMap<String, usize>) {
        for node in &self.node {
            *operators.entry(node.op_type.clone()).or_default() += 1;
            for attribute in &node.attribute {
                attribute
                    .graph
                    .iter()
                    .chain(&attribute.graphs)
                    .for_each(|body| body.count(operators));
            }
        }
    }
}

impl Value {
    fn from_info(info: &ValueInfo) -> Self {
        let tensor = info.value_type.clone().and_then(|kind| kind.tensor).unwrap_or_default();
        let shape = tensor.shape.unwrap_or_default();
        Self {
            name: info.name.clone(),
            element: match tensor.element {
                1 => Element::F32,
                2 => Element::U8,
                6 => Element::I32,
                7 => Element::I64,
                10 => Element::F16,
                other => Element::Other(other),
            },
            shape: shape.axes.iter().map(Axis::fixed).collect(),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let axes: Vec<String> = self
            .shape
            .iter()
            .map(|axis| axis.map_or("?".to_owned(), |length| length.to_string()))
            .collect();
        write!(formatter, "{}: {} [{}]", self.name, self.element, axes.join(", "))
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::F32 => formatter.write_str("f32"),
            Self::F16 => formatter.write_str("f16"),
            Self::U8 => formatter.write_str("u8"),
            Self::I32 => formatter.write_str("i32"),
            Self::I64 => formatter.write_str("i64"),
            Self::Other(number) => write!(formatter, "type {number}"),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "14")]
    metadata: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Constant>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

/// An attribute that holds graphs, such as the branches of an `If`.
#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "6")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
}

#[derive(Clone, PartialEq, Message)]
struct Constant {
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value_type: Option<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    axes: Vec<Axis>,
}

#[derive(Clone, PartialEq, Message)]
struct Axis {
    #[prost(int64, optional, tag = "1")]
    length: Option<i64>,
}

impl Axis {
    fn fixed(&self) -> Option<u64> {
        self.length.and_then(|length| u64::try_from(length).ok()).filter(|length| *length > 0)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::{Attribute, Graph, Model, Network, Node, ValueInfo};

    fn graph(nodes: Vec<Node>) -> Graph {
        let output = vec![ValueInfo { name: "output".to_owned(), value_type: None }];
        Graph { node: nodes, output, ..Graph::default() }
    }

    fn node(op_type: &str, bodies: Vec<Graph>) -> Node {
        let attribute =
            bodies.into_iter().map(|graph| Attribute { graph: Some(graph), graphs: vec![] });
        Node { op_type: op_type.to_owned(), attribute: attribute.collect() }
    }

    #[test]
    fn operators_in_the_bodies_of_loops_and_branches_are_counted() {
        let branch =
            graph(vec![node("Add", vec![]), node("Loop", vec![graph(vec![node("Exp", vec![])])])]);
        let outer = graph(vec![node("Add", vec![]), node("If", vec![branch])]);
        let bytes = Model { graph: Some(outer), metadata: vec![] }.encode_to_vec();
        let network = Network::read(&bytes).unwrap();
        let counted: Vec<(&str, usize)> =
            network.operators.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(counted, [("Add", 2), ("Exp", 1), ("If", 1), ("Loop", 1)]);
    }
}
