//! The shape of an image.

/// The shape of a channels-last image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl Image {
    /// The number of elements.
    pub(crate) fn volume(self) -> usize {
        self.height * self.width * self.channels
    }
}
