//! Element-wise functions that use the exponential; most of today's detectors have them between convolutions. In
//! WebAssembly, tract computes them without vectors.

#![allow(
    clippy::wildcard_imports,
    reason = "tract's macros need the names of its `internal` module"
)]

use tract_core::internal::*;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::nn::{Sigmoid, Silu};

use crate::instructions::Instructions;
use crate::lanes::{EXPONENT_OFFSET, Lanes, Lanes4};

/// A function of each number of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// e^x
    Exponential,
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// x / (1 + e^-x)
    Silu,
}

impl Function {
    /// Applies the function to each number.
    pub(crate) fn apply(self, numbers: &mut [f32]) {
        // SAFETY: the processor has the instructions.
        unsafe {
            match Instructions::widest() {
                Instructions::Lanes4 => self.apply_vectors::<Lanes4>(numbers),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx2 => avx2(self, numbers),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx512 => avx512(self, numbers),
            }
        }
    }

    /// # Safety
    /// The processor has the instruction set of `L`.
    #[inline(always)]
    unsafe fn apply_vectors<L: Lanes>(self, numbers: &mut [f32]) {
        let whole = numbers.len() - numbers.len() % L::COUNT;
        let (vectors, rest) = numbers.split_at_mut(whole);
        // SAFETY: each chunk has as many numbers as a vector has lanes, and `last` at least as many.
        unsafe {
            for vector in vectors.chunks_exact_mut(L::COUNT) {
                self.of(L::load(vector.as_ptr())).store(vector.as_mut_ptr());
            }
            let mut last = [0.0; MAX_LANES];
            last[..rest.len()].copy_from_slice(rest);
            self.of(L::load(last.as_ptr())).store(last.as_mut_ptr());
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }

    /// # Safety
    /// The processor has the instruction set of `L`.
    #[inline(always)]
    unsafe fn of<L: Lanes>(self, numbers: L) -> L {
        // SAFETY: the caller's promise.
        unsafe {
            let numerator = match self {
                Self::Exponential => return exponential(numbers),
                Self::Sigmoid => L::splat(1.0),
                Self::Silu => numbers,
            };
            let power = exponential(numbers.mul(L::splat(-1.0)));
            numerator.div(power.add(L::splat(1.0)))
        }
    }
}

/// The most lanes of any instruction set.
const MAX_LANES: usize = 16;

/// # Safety
/// The processor has the instruction set.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(function: Function, numbers: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { function.apply_vectors::<crate::lanes::x86::Avx2>(numbers) }
}

/// # Safety
/// The processor has the instruction set.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(function: Function, numbers: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { function.apply_vectors::<crate::lanes::x86::Avx512>(numbers) }
}

/// e^x, with a relative error below 3e-7. x is clamped to -87…88.
///
/// As in the Cephes library (`expf.c`): e^x = 2^n · e^r, where r is at most ln(2)/2 and e^r is a polynomial.
///
/// # Safety
/// The processor has the instruction set of `L`.
#[inline(always)]
unsafe fn exponential<L: Lanes>(numbers: L) -> L {
    // From the highest power to the second.
    const COEFFICIENTS: [f32; 6] =
        [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // ln(2) in two parts, so that its product with n is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // SAFETY: the caller's promise; n is from -126 to 127.
    unsafe {
        let numbers = numbers.max(L::splat(-87.0)).min(L::splat(88.0));
        let log_2_e = L::splat(std::f32::consts::LOG2_E);
        let exponent = numbers.mul_add(log_2_e, L::splat(EXPONENT_OFFSET));
        let n = exponent.add(L::splat(-EXPONENT_OFFSET));
        let r = n.mul_add(L::splat(-LN_2[0]), numbers);
        let r = n.mul_add(L::splat(-LN_2[1]), r);
        let mut sum = L::splat(COEFFICIENTS[0]);
        for coefficient in &COEFFICIENTS[1..] {
            sum = sum.mul_add(r, L::splat(*coefficient));
        }
        let one = L::splat(1.0);
        let power = sum.mul_add(r.mul(r), r.add(one));
        power.mul(exponent.power_of_two())
    }
}

/// A [`Function`] as an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ElementWiseFunction(pub(crate) Function);

impl Op for ElementWiseFunction {
    fn name(&self) -> StaticName {
        format!("{:?}", self.0).into()
    }

    op_as_typed_op!();
}

impl EvalOp for ElementWiseFunction {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut tensor = args_1!(inputs).into_tensor();
        self.0.apply(tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
        Ok(tvec!(tensor.into_tvalue()))
    }
}

impl TypedOp for ElementWiseFunction {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }

    as_op!();
}

/// Replaces a function of numbers, if it is one of [`Function`].
pub(crate) fn replace(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &ElementWiseOp,
) -> TractResult<Option<TypedModelPatch>> {
    let ElementWiseOp(op, output_type) = op;
    let function = if op.is::<Sigmoid>() {
        Function::Sigmoid
    } else if op.is::<Silu>() {
        Function::Silu
    } else {
        return Ok(None);
    };
    let fact = model.outlet_fact(node.inputs[0])?;
    if fact.datum_type != f32::datum_type() || output_type.is_some() || fact.konst.is_some() {
        return Ok(None);
    }
    let function = ElementWiseFunction(function);
    TypedModelPatch::replace_single_op(model, node, &node.inputs, function).map(Some)
}

#[cfg(test)]
mod tests {
    use super::Function;

    #[test]
    fn functions_are_exact_to_six_digits() {
        let numbers: Vec<f32> = (-8700..8800).map(|number| number as f32 / 100.0).collect();
        for function in [Function::Exponential, Function::Sigmoid, Function::Silu] {
            let mut values = numbers.clone();
            function.apply(&mut values);
            for (number, value) in numbers.iter().zip(&values) {
                let (x, value) = (f64::from(*number), f64::from(*value));
                let exact = match function {
                    Function::Exponential => x.exp(),
                    Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
                    Function::Silu => x / (1.0 + (-x).exp()),
                };
                let error = (value - exact).abs();
                assert!(
                    error <= 3e-7 * exact.abs(),
                    "{function:?}({number}) = {value}, not {exact}"
                );
            }
        }
    }

    #[test]
    fn large_numbers_stay_finite() {
        let mut numbers = [f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY];
        Function::Exponential.apply(&mut numbers);
        assert!(numbers[..2].iter().all(|power| *power < 1e-37), "{numbers:?}");
        assert!(numbers[2..].iter().all(|power| power.is_finite()), "{numbers:?}");
        let mut numbers = [-1e30, 1e30];
        Function::Sigmoid.apply(&mut numbers);
        assert_eq!(numbers.map(f32::round), [0.0, 1.0]);
        for function in [Function::Exponential, Function::Sigmoid, Function::Silu] {
            let mut numbers = [f32::NAN];
            function.apply(&mut numbers);
            assert!(numbers[0].is_nan(), "{function:?}");
        }
    }
}
