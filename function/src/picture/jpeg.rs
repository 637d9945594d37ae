//! Reads a JPEG's segments up to its first scan (ITU-T T.81, annex B): the frame, the orientation, and whether the
//! file is complete, because a lenient decoder silently fills a missing part with grey.

use image::metadata::Orientation;

use super::orientation;
use crate::error::Error;

/// A JPEG's frame header, with what else precedes the first scan.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The sampling factors of each component, horizontal and vertical, 1 to 4: one component for grey, three for
    /// colour, four for inks.
    pub sampling: Vec<(u8, u8)>,
    /// Whether each scan refines the whole picture.
    pub is_progressive: bool,
    /// Whether the first scan lacks a component. If so, or if the picture is progressive, a decoder must keep all
    /// coefficients until the last scan.
    pub is_in_several_scans: bool,
    /// How many scans the file has at most: what follows the picture, such as a second picture, counts too.
    pub max_scans: usize,
    /// How the colours are stored, from Adobe's segment: 0 for RGB or CMYK, 1 for YCbCr, 2 for YCCK.
    pub adobe_transform: Option<u8>,
    pub orientation: Orientation,
}

const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
const EXIF_SEGMENT: u8 = 0xe1;
const ADOBE_SEGMENT: u8 = 0xee;
/// Stands for a byte 0xff in a scan; between segments, decoders skip it.
const STUFFING: u8 = 0x00;
/// SOF0 to SOF3, and the corresponding markers of the other processes, without DHT, JPG and DAC in between.
const SOF_MARKERS: [u8; 13] =
    [0xc0, 0xc1, 0xc2, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf];
/// SOF2, SOF6, SOF10, SOF14.
const PROGRESSIVE_FRAMES: [u8; 4] = [0xc2, 0xc6, 0xca, 0xce];
/// Start of image, restart markers and TEM: markers without a length.
const STANDALONE_MARKERS: [u8; 10] = [0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0x01];

impl Frame {
    /// Walks the segments up to the first scan, and then searches for the end marker. This skips the end marker
    /// of a thumbnail, which is within an earlier segment.
    ///
    /// # Errors
    /// [`Error::TruncatedPicture`] if there is no scan or no end marker.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        let truncated = |reason: &str| Error::TruncatedPicture { reason: reason.to_owned() };
        let mut frame = Self {
            width: 0,
            height: 0,
            sampling: Vec::new(),
            is_progressive: false,
            is_in_several_scans: false,
            max_scans: 0,
            adobe_transform: None,
            orientation: Orientation::NoTransforms,
        };
        let mut rest = bytes;
        while let [0xff, marker, tail @ ..] = rest {
            if *marker == 0xff {
                rest = &rest[1..];
                continue;
            }
            if STANDALONE_MARKERS.contains(marker) {
                rest = tail;
                continue;
            }
            if *marker == STUFFING {
                break;
            }
            let [high, low, content @ ..] = tail else { break };
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if *marker == START_OF_SCAN {
                let in_scan = content.first().copied().map_or(0, usize::from);
                frame.is_in_several_scans = in_scan < frame.sampling.len();
                // In a scan, every byte 0xff is followed by 0x00 or a marker.
                let is_scan = |pair: &&[u8]| **pair == [0xff, START_OF_SCAN];
                frame.max_scans = 1 + tail.windows(2).filter(is_scan).count();
                let is_complete = tail.windows(2).any(|pair| pair == END_OF_IMAGE);
                return if is_complete {
                    Ok(frame)
                } else {
                    Err(truncated("there is no end-of-image marker"))
                };
            }
            let Some(next) = tail.get(length..) else { break };
            frame.segment(*marker, &content[..length.saturating_sub(2).min(content.len())]);
            rest = next;
        }
        Err(truncated("it ends before its first scan"))
    }

    /// Takes what matters from a segment's content.
    fn segment(&mut self, marker: u8, content: &[u8]) {
        if marker == EXIF_SEGMENT && content.starts_with(b"Exif\0\0") {
            self.orientation = orientation::from_exif(content);
        }
        // A version, two times two bytes of flags, and the transform.
        if marker == ADOBE_SEGMENT && content.starts_with(b"Adobe") {
            self.adobe_transform = content.get(11).copied();
        }
        if !SOF_MARKERS.contains(&marker) {
            return;
        }
        // Precision, height, width, number of components, then three bytes for each.
        if let [_, a, b, c, d, _, components @ ..] = content {
            self.height = u16::from_be_bytes([*a, *b]).into();
            self.width = u16::from_be_bytes([*c, *d]).into();
            let factors = components.as_chunks::<3>().0.iter().map(|[_, factors, _]| factors);
            self.sampling = factors.map(|factors| (factors >> 4, factors & 0x0f)).collect();
        }
        self.is_progressive = PROGRESSIVE_FRAMES.contains(&marker);
    }

    /// The bytes of all coefficients, 16 bits each, in whole units of the largest sampling factors; 0 if the decoder
    /// needs only some rows of them at a time.
    pub(super) fn coefficient_bytes(&self) -> u64 {
        const COEFFICIENT_BLOCK_BYTES: u64 = 64 * 2;
        if !self.is_progressive && !self.is_in_several_scans {
            return 0;
        }
        // With a single component, the factors have no meaning.
        let factors: &[(u8, u8)] =
            if self.sampling.len() == 1 { &[(1, 1)] } else { &self.sampling };
        let largest = |factor: fn(&(u8, u8)) -> u8| {
            u32::from(factors.iter().map(factor).max().unwrap_or(1).max(1))
        };
        let across = self.width.div_ceil(8 * largest(|factors| factors.0));
        let down = self.height.div_ceil(8 * largest(|factors| factors.1));
        let blocks: u64 = factors.iter().map(|factors| u64::from(factors.0 * factors.1)).sum();
        u64::from(across) * u64::from(down) * blocks * COEFFICIENT_BLOCK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::Frame;

    const THUMBNAIL: &[u8] = &[0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9];

    /// A JPEG of 32x16 pixels, whose first component has the sampling factors 2x2.
    fn jpeg(frame: u8, components: u8, end: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8];
        bytes.extend_from_slice(THUMBNAIL);
        bytes.extend_from_slice(&[0xff, frame, 0, 8 + 3 * components, 8, 0, 16, 0, 32, components]);
        for component in 0..components {
            bytes.extend_from_slice(&[component, if component == 0 { 0x22 } else { 0x11 }, 0]);
        }
        bytes.extend_from_slice(&[0xff, 0xda, 0, 3, 1, 2, 3]);
        bytes.extend_from_slice(end);
        bytes
    }

    fn read(frame: u8, components: u8) -> Frame {
        Frame::read(&jpeg(frame, components, &[0xff, 0xd9])).expect("a frame")
    }

    #[test]
    fn a_thumbnails_end_is_not_the_pictures_end() {
        assert!(Frame::read(&jpeg(0xc0, 1, &[])).is_err());
        assert!(Frame::read(&jpeg(0xc0, 1, &[0xff, 0xd9])).is_ok());
    }

    #[test]
    fn coefficients_are_kept_for_several_scans_and_counted_by_component() {
        assert_eq!(read(0xc0, 1).coefficient_bytes(), 0);
        // Grey: eight blocks. With subsampled chroma: eight and twice two. With black: two more.
        assert_eq!(read(0xc2, 1).coefficient_bytes(), 8 * 128);
        assert_eq!(read(0xc2, 3).coefficient_bytes(), 12 * 128);
        assert_eq!(read(0xc2, 4).coefficient_bytes(), 14 * 128);
        // Baseline, but the first scan has one of the three components.
        assert_eq!(read(0xc0, 3).coefficient_bytes(), 12 * 128);
    }

    #[test]
    fn scans_are_counted_and_stuffing_between_segments_is_refused() {
        let scan = [0xff, 0xda, 0, 2];
        assert_eq!(read(0xc0, 3).max_scans, 1);
        let end = [scan.as_slice(), &scan, &[0xff, 0xd9]].concat();
        assert_eq!(Frame::read(&jpeg(0xc0, 3, &end)).expect("a frame").max_scans, 3);
        // The decoders would skip these two bytes, and read the frame that follows.
        let mut stuffed = jpeg(0xc0, 3, &[0xff, 0xd9]);
        stuffed.splice(2..2, [0xff, 0x00]);
        assert!(Frame::read(&stuffed).is_err());
    }

    #[test]
    fn any_prefix_is_read_without_a_panic() {
        let whole = jpeg(0xc2, 1, &[0xff, 0xd9]);
        for length in 0..whole.len() {
            assert!(Frame::read(&whole[..length]).is_err());
        }
    }
}
