//! Two vectors as one, for kernels that are faster when they read more consecutive numbers at a time.

use super::Lanes;

/// Two vectors of consecutive numbers.
#[derive(Clone, Copy)]
pub(crate) struct Two<L>(L, L);

/// Implements methods of [`Lanes`] that map vectors to a vector.
macro_rules! both {
    ($($name:ident($($argument:ident),*);)*) => {
        $(
            #[inline(always)]
            unsafe fn $name(self, $($argument: Self),*) -> Self {
                // SAFETY: the caller's promise.
                unsafe { Self(self.0.$name($($argument.0),*), self.1.$name($($argument.1),*)) }
            }
        )*
    };
}

impl<L: Lanes> Lanes for Two<L> {
    const COUNT: usize = 2 * L::COUNT;

    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        // SAFETY: the caller's promise: the source holds both vectors.
        unsafe { Self(L::load(source), L::load(source.add(L::COUNT))) }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32) {
        // SAFETY: the caller's promise: the target has room for both vectors.
        unsafe {
            self.0.store(target);
            self.1.store(target.add(L::COUNT));
        }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(L::splat(value), L::splat(value)) }
    }

    both! {
        mul_add(factor, summand);
        add(other);
        mul(other);
        min(other);
        max(other);
        div(divisor);
        power_of_two();
    }
}
