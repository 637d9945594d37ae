//! Reads a WebP's chunks (RFC 9649): whether the file is complete, what kind of frame it holds, and whether each frame
//! has the size that its container states, which the decoder checks only after it has allocated the frame.

use crate::error::Error;
use crate::picture::ImageSize;

/// A WebP's frames, as far as they matter to its decoder's memory.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    pub is_animated: bool,
    /// Whether a frame is stored without loss.
    pub has_lossless: bool,
    /// Whether a lossy frame has a separate plane of alpha values.
    pub has_alpha_plane: bool,
}

/// A flag of `VP8X`.
const VP8X_ANIMATION_FLAG: u8 = 0x02;

/// The bytes of an `ANMF` chunk before its own chunks.
const FRAME_HEADER_BYTES: usize = 16;

impl Frames {
    /// Walks all chunks, and those of each frame.
    ///
    /// # Errors
    /// [`Error::TruncatedPicture`], [`Error::NotAPicture`] if a frame's size differs from the one that its container
    /// states.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        let [b'R', b'I', b'F', b'F', a, b, c, d, rest @ ..] = bytes else {
            return Ok(Self::default());
        };
        if (rest.len() as u64) < u64::from(u32::from_le_bytes([*a, *b, *c, *d])) {
            let length = bytes.len();
            let reason = format!("it has {length} bytes, fewer than its header states");
            return Err(Error::TruncatedPicture { reason });
        }
        let mut frames = Self::default();
        let mut canvas = None;
        for chunk in Chunks(rest.get(4..).unwrap_or_default()) {
            match (chunk.name, chunk.rest) {
                (b"VP8X", [flags, _, _, _, w0, w1, w2, h0, h1, h2, ..]) => {
                    frames.is_animated = flags & VP8X_ANIMATION_FLAG != 0;
                    canvas = Some(one_more([*w0, *w1, *w2], [*h0, *h1, *h2]));
                }
                // x, y, width, height, and more.
                (b"ANMF", [_, _, _, _, _, _, w0, w1, w2, h0, h1, h2, ..]) => {
                    let stated = one_more([*w0, *w1, *w2], [*h0, *h1, *h2]);
                    let inner = chunk.rest.get(FRAME_HEADER_BYTES..).unwrap_or_default();
                    // A plane of alpha values, and the frame itself.
                    for chunk in Chunks(inner).take(2) {
                        frames.add(&chunk, Some(stated))?;
                    }
                }
                _ => frames.add(&chunk, canvas)?,
            }
        }
        Ok(frames)
    }

    fn add(&mut self, chunk: &Chunk, stated: Option<ImageSize>) -> Result<(), Error> {
        self.has_lossless |= chunk.name == b"VP8L";
        self.has_alpha_plane |= chunk.name == b"ALPH";
        // A frame tag and a start code of three bytes each, then two sizes of 14 bits (RFC 6386, 9.1).
        let (b"VP8 ", [_, _, _, _, _, _, w0, w1, h0, h1, ..]) = (chunk.name, chunk.rest) else {
            return Ok(());
        };
        let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
        let size = ImageSize { width: side(*w0, *w1), height: side(*h0, *h1) };
        match stated {
            Some(stated) if stated != size => Err(Error::NotAPicture {
                reason: format!(
                    "a frame has {}x{} pixels, but its header states {}x{}",
                    size.width, size.height, stated.width, stated.height
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// Sizes are stored minus one, in 24 bits.
fn one_more(width: [u8; 3], height: [u8; 3]) -> ImageSize {
    let side = |[a, b, c]: [u8; 3]| u32::from_le_bytes([a, b, c, 0]) + 1;
    ImageSize { width: side(width), height: side(height) }
}

struct Chunk<'b> {
    name: &'b [u8; 4],
    /// The file from the chunk's content on, even beyond the chunk's stated size: the decoder reads on, too.
    rest: &'b [u8],
}

/// The chunks from here to the end of the file.
struct Chunks<'b>(&'b [u8]);

impl<'b> Iterator for Chunks<'b> {
    type Item = Chunk<'b>;

    fn next(&mut self) -> Option<Chunk<'b>> {
        let (name, rest) = self.0.split_first_chunk::<4>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size);
        let padded = usize::try_from(size.saturating_add(size & 1)).unwrap_or(usize::MAX);
        self.0 = rest.get(padded..).unwrap_or_default();
        Some(Chunk { name, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::Frames;

    fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(content.len()).expect("a size").to_le_bytes();
        [name, size.as_slice(), content].concat()
    }

    fn webp(chunks: &[Vec<u8>]) -> Vec<u8> {
        chunk(b"RIFF", &[b"WEBP".to_vec(), chunks.concat()].concat())
    }

    /// A lossy frame's header.
    fn lossy(width: u16, height: u16) -> Vec<u8> {
        let sides = [width.to_le_bytes(), height.to_le_bytes()].concat();
        chunk(b"VP8 ", &[[0x10, 0, 0, 0x9d, 0x01, 0x2a].as_slice(), &sides].concat())
    }

    #[test]
    fn a_frame_that_is_larger_than_stated_is_refused() {
        let canvas = chunk(b"VP8X", &[0, 0, 0, 0, 7, 0, 0, 7, 0, 0]);
        assert!(Frames::read(&webp(&[canvas.clone(), lossy(8, 8)])).is_ok());
        assert!(Frames::read(&webp(&[canvas.clone(), lossy(16_383, 16_383)])).is_err());
        // x and y 0, width and height 8, and four more bytes; the frame follows a plane of alpha values.
        let animated = |frame: Vec<u8>| {
            let head = [0, 0, 0, 0, 0, 0, 7, 0, 0, 7, 0, 0, 0, 0, 0, 0].as_slice();
            let content = [head, &chunk(b"ALPH", &[0, 0]), &frame].concat();
            webp(&[canvas.clone(), chunk(b"ANIM", &[0; 6]), chunk(b"ANMF", &content)])
        };
        let frames = Frames::read(&animated(lossy(8, 8))).expect("frames");
        assert!(frames.has_alpha_plane && !frames.has_lossless);
        assert!(Frames::read(&animated(lossy(8, 9))).is_err());
    }

    #[test]
    fn any_prefix_is_read_without_a_panic() {
        let whole = webp(&[chunk(b"VP8X", &[2; 10]), chunk(b"ANMF", &[1; 40]), lossy(8, 8)]);
        for length in 0..whole.len() {
            let _ = Frames::read(&whole[..length]);
        }
    }
}
