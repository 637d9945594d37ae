//! Which of ONNX's operators the built-in engine has.

/// Those of `operators` that tract does not know, neither here nor in a component, which contains the same version. A
/// network with any of them can be loaded by no engine but ONNX Runtime.
pub fn missing<'n>(operators: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let known = tract_onnx::onnx().op_register.0;
    operators.into_iter().filter(|operator| !known.contains_key(*operator)).collect()
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn only_what_tract_does_not_know_is_missing() {
        assert_eq!(missing(["Conv", "Loop", "Scan", "DeformConv"]), ["Loop", "DeformConv"]);
    }
}
