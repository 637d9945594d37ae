//! Which of ONNX's operators the built-in engine has.

/// Returns those of `operators` that tract does not have. A component contains the same version of tract, so only ONNX
/// Runtime can load a network with one of them.
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
