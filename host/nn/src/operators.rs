//! Which of ONNX's operators the engine `tract` has.

/// Those that tract supports, here as in a component, which contains the same version. A test of `spotter-tract` holds
/// that the list is complete.
pub fn supported() -> impl Iterator<Item = &'static str> {
    include_str!("operators.txt").lines()
}

/// Those of `operators` that tract does not know. A network with any of them can be loaded by no engine but ONNX Runtime.
pub fn missing<'n>(operators: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    operators.into_iter().filter(|operator| !supported().any(|known| known == *operator)).collect()
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn only_what_tract_does_not_know_is_missing() {
        assert_eq!(missing(["Conv", "Loop", "Scan", "DeformConv"]), ["Loop", "DeformConv"]);
    }
}
