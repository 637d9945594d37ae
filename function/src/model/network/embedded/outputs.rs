//! The output tensors of one run.

use tract_onnx::prelude::{Datum, IntoTensor, TValue, TVec, Tensor, TractResult};

/// The output tensors of one run, all as f32, in the order of the head's names.
pub struct Outputs {
    tensors: Vec<Tensor>,
}

impl Outputs {
    /// Takes the tensors of a run. Whole numbers (labels) become f32.
    pub(super) fn new(values: TVec<TValue>) -> TractResult<Self> {
        let as_f32 = |value: TValue| {
            let tensor = value.into_tensor();
            if tensor.datum_type() == f32::datum_type() {
                Ok(tensor)
            } else {
                tensor.cast_to::<f32>().map(std::borrow::Cow::into_owned)
            }
        };
        Ok(Self { tensors: values.into_iter().map(as_f32).collect::<TractResult<_>>()? })
    }

    /// All values of an output, in row-major order; none if there is no such output.
    pub fn values(&self, index: usize) -> &[f32] {
        let view = self.tensors.get(index).and_then(Tensor::as_plain_ram);
        view.and_then(|view| view.as_slice().ok()).unwrap_or_default()
    }

    /// The shape of each output.
    pub(in crate::model) fn shapes(&self) -> impl Iterator<Item = &[usize]> {
        self.tensors.iter().map(Tensor::shape)
    }
}
