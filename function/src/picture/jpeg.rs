//! Reads a JPEG's markers (ITU-T T.81, annex B) to find out whether the file is complete: a lenient decoder
//! silently fills the missing part with grey.

/// The outline of a JPEG file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    /// Whether a decoder must keep all coefficients until the last scan, because the picture is progressive or
    /// its components are in separate scans.
    pub keeps_coefficients: bool,
    /// Whether there is an end-of-image marker.
    pub is_complete: bool,
}

const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
/// SOF0 to SOF3, and the corresponding markers of the other processes, without DHT, JPG and DAC in between.
const FRAMES: [u8; 13] =
    [0xc0, 0xc1, 0xc2, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf];
/// SOF2, SOF6, SOF10, SOF14.
const PROGRESSIVE_FRAMES: [u8; 4] = [0xc2, 0xc6, 0xca, 0xce];
/// Start of image, restart markers and TEM: markers without a length.
const BARE_MARKERS: [u8; 10] = [0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0x01];

impl Outline {
    /// Walks the segments up to the first scan, and then searches for the end marker. This skips the end marker
    /// of a thumbnail, which is within an earlier segment.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut outline = Self::default();
        // The number of components, in the eighth byte of the frame's header.
        let mut components = None;
        let mut rest = bytes;
        while let [0xff, marker, tail @ ..] = rest {
            match *marker {
                0xff => rest = &rest[1..],
                marker if BARE_MARKERS.contains(&marker) => rest = tail,
                START_OF_SCAN => {
                    outline.keeps_coefficients |= tail.get(2) < components;
                    outline.is_complete = tail.windows(2).any(|pair| pair == END_OF_IMAGE);
                    return outline;
                }
                marker => {
                    outline.keeps_coefficients |= PROGRESSIVE_FRAMES.contains(&marker);
                    if FRAMES.contains(&marker) {
                        components = tail.get(7);
                    }
                    let [high, low, ..] = tail else { return outline };
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    let Some(next) = tail.get(length..) else { return outline };
                    rest = next;
                }
            }
        }
        outline
    }
}

#[cfg(test)]
mod tests {
    use super::Outline;

    const THUMBNAIL: &[u8] = &[0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9];

    fn jpeg(frame: u8, components: u8, end: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8];
        bytes.extend_from_slice(THUMBNAIL);
        bytes.extend_from_slice(&[
            0xff, frame, 0, 8, 8, 0, 1, 0, 1, components, 0xff, 0xda, 0, 3, 1, 2, 3,
        ]);
        bytes.extend_from_slice(end);
        bytes
    }

    #[test]
    fn a_thumbnails_end_is_not_the_pictures_end() {
        assert!(!Outline::read(&jpeg(0xc0, 1, &[])).is_complete);
        assert!(Outline::read(&jpeg(0xc0, 1, &[0xff, 0xd9])).is_complete);
    }

    #[test]
    fn progressive_frames_and_scans_of_one_component_are_seen() {
        assert!(Outline::read(&jpeg(0xc0, 3, &[])).keeps_coefficients);
        assert!(Outline::read(&jpeg(0xc2, 1, &[])).keeps_coefficients);
        assert!(!Outline::read(&jpeg(0xc0, 1, &[])).keeps_coefficients);
    }

    #[test]
    fn any_prefix_is_read_without_a_panic() {
        let whole = jpeg(0xc2, 1, &[0xff, 0xd9]);
        for length in 0..whole.len() {
            assert!(!Outline::read(&whole[..length]).is_complete);
        }
    }
}
