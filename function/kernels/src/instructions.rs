//! The instruction sets that the kernels are compiled for, and the choice among them at run time.

/// An instruction set with vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Instructions {
    /// WebAssembly's 128-bit vectors, or four lanes left to the compiler.
    Lanes4,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Instructions {
    /// The sets that this processor supports, the widest first.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = [
            std::arch::is_x86_feature_detected!("avx512f").then_some(Self::Avx512),
            (std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma"))
            .then_some(Self::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let wide: [Option<Self>; 0] = [];
        wide.into_iter().flatten().chain([Self::Lanes4])
    }

    /// The widest set that this processor supports.
    pub(crate) fn widest() -> Self {
        Self::available().next().unwrap_or(Self::Lanes4)
    }

    /// The lanes of a vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Lanes4 => 4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 8,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 16,
        }
    }
}
