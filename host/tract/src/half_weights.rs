//! Converts weights that are stored as f16 to f32 before tract reads them: tract would convert them one by one.

use std::collections::{HashMap, HashSet};

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

/// Converts each f16 initialiser that is only ever cast to f32, and removes the casts. tract's analysis of a network
/// takes time for each node.
pub(super) fn widen(model: &mut ModelProto) {
    let Some(graph) = &mut model.graph else { return };
    // The bodies of loops and conditions may use the weights too.
    if graph.node.iter().any(has_body) {
        return;
    }
    let kept = used_otherwise(graph);
    let mut widened = HashSet::new();
    for tensor in &mut graph.initializer {
        if !kept.contains(&tensor.name) && widen_tensor(tensor) {
            widened.insert(tensor.name.clone());
        }
    }
    remove_casts(graph, &widened);
}

/// Removes each cast of these tensors, which are f32 already, and passes the tensors themselves to its successors.
fn remove_casts(graph: &mut GraphProto, tensors: &HashSet<String>) {
    let outputs: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut sources = HashMap::new();
    graph.node.retain(|node| {
        let (Some(source), Some(output)) = (node.input.first(), node.output.first()) else {
            return true;
        };
        let is_needless =
            casts_to_f32(node) && tensors.contains(source) && !outputs.contains(output);
        if is_needless {
            sources.insert(output.clone(), source.clone());
        }
        !is_needless
    });
    for input in graph.node.iter_mut().flat_map(|node| &mut node.input) {
        if let Some(source) = sources.get(input) {
            input.clone_from(source);
        }
    }
}

fn has_body(node: &NodeProto) -> bool {
    node.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
}

/// The names of all tensors that are used for anything but a cast to f32.
fn used_otherwise(graph: &GraphProto) -> HashSet<String> {
    let nodes = graph.node.iter().filter(|node| !casts_to_f32(node));
    let inputs = nodes.flat_map(|node| &node.input).cloned();
    let ends = graph.input.iter().chain(&graph.output).map(|value| value.name.clone());
    inputs.chain(ends).collect()
}

fn casts_to_f32(node: &NodeProto) -> bool {
    let is_f32 = |to: i64| to == DataType::Float as i64;
    node.op_type == "Cast"
        && node.attribute.iter().any(|attribute| attribute.name == "to" && is_f32(attribute.i))
}

/// Whether the tensor was f16 and is f32 now.
fn widen_tensor(tensor: &mut TensorProto) -> bool {
    let is_f16 = tensor.data_type == DataType::Float16 as i32;
    if !is_f16 || tensor.raw_data.is_empty() || cfg!(target_endian = "big") {
        return false;
    }
    let mut wide = vec![0; 2 * tensor.raw_data.len()];
    // tract converts the data if they are not aligned.
    let (Ok(bits), Ok(numbers)) = (
        bytemuck::try_cast_slice::<u8, u16>(&tensor.raw_data),
        bytemuck::try_cast_slice_mut::<u8, f32>(&mut wide),
    ) else {
        return false;
    };
    let halves: &[f16] = bits.reinterpret_cast();
    halves.convert_to_f32_slice(numbers);
    tensor.raw_data = wide;
    tensor.data_type = DataType::Float as i32;
    true
}

#[cfg(test)]
mod tests {
    use half::f16;
    use tract_onnx::pb::tensor_proto::DataType;
    use tract_onnx::pb::{
        AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
    };

    use super::widen;

    fn node(op: &str, input: &str, output: &str, to: DataType) -> NodeProto {
        let to = AttributeProto { name: "to".to_owned(), i: to as i64, ..Default::default() };
        NodeProto {
            op_type: op.to_owned(),
            input: vec![input.to_owned()],
            output: vec![output.to_owned()],
            attribute: vec![to],
            ..Default::default()
        }
    }

    fn weights(name: &str) -> TensorProto {
        let raw_data = [1.5, -0.25].iter().flat_map(|number| f16::from_f32(*number).to_le_bytes());
        TensorProto {
            name: name.to_owned(),
            dims: vec![2],
            data_type: DataType::Float16 as i32,
            raw_data: raw_data.collect(),
            ..Default::default()
        }
    }

    #[test]
    fn only_weights_that_become_f32_anyway_are_converted() {
        let graph = GraphProto {
            node: vec![
                node("Cast", "cast", "wide", DataType::Float),
                node("Relu", "wide", "positive", DataType::Undefined),
                node("Cast", "added", "sum", DataType::Float),
                node("Add", "added", "sums", DataType::Float),
                node("Cast", "doubled", "double", DataType::Double),
                node("Cast", "returned", "result", DataType::Float),
            ],
            initializer: ["cast", "added", "doubled", "returned"].map(weights).to_vec(),
            output: vec![ValueInfoProto { name: "result".to_owned(), ..Default::default() }],
            ..Default::default()
        };
        let mut model = ModelProto { graph: Some(graph), ..Default::default() };
        widen(&mut model);
        let graph = model.graph.unwrap();
        let [cast, added, doubled, returned] = graph.initializer.try_into().unwrap();
        let wide = [1.5_f32, -0.25].map(f32::to_le_bytes).concat();
        for tensor in [cast, returned] {
            assert_eq!((tensor.data_type, &tensor.raw_data), (DataType::Float as i32, &wide));
        }
        assert_eq!((added, doubled), (weights("added"), weights("doubled")));
        let inputs = graph.node.iter().map(|node| (node.op_type.as_str(), node.input[0].as_str()));
        let left = [
            ("Relu", "cast"),
            ("Cast", "added"),
            ("Add", "added"),
            ("Cast", "doubled"),
            ("Cast", "returned"),
        ];
        assert_eq!(inputs.collect::<Vec<_>>(), left);
    }
}
