//! The ONNX operators that the engine `tract` supports.

/// The operators that tract supports, here and in a component, which contains the same version. A test of
/// `spotter-tract` checks that the list is complete.
pub fn supported() -> impl Iterator<Item = &'static str> {
    include_str!("operators.txt").lines()
}

/// Returns those of `operators` that tract does not have. Only ONNX Runtime can load a network with one of them.
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
