//! Splits a stream of JPEGs, one after the other, as `ffmpeg -f image2pipe` writes them.

use std::io::{self, BufRead, ErrorKind, Read};

/// The largest picture in a stream, in bytes.
const MAX_PICTURE_BYTES: u64 = 64 << 20;

const START_OF_IMAGE: [u8; 2] = [0xff, 0xd8];
const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// Whether these bytes begin a JPEG.
pub(super) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&START_OF_IMAGE)
}

/// Whether these bytes, possibly a single one, can be the beginning of a JPEG.
pub(super) fn may_be_jpeg(bytes: &[u8]) -> bool {
    !bytes.is_empty() && START_OF_IMAGE.iter().zip(bytes).all(|(expected, byte)| expected == byte)
}

/// Reads the next picture; `None` at the end of the stream.
///
/// # Errors
/// If the stream cannot be read, ends within a picture, or holds anything but JPEGs.
pub(super) fn next(stream: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    if stream.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut picture = Picture { stream: &mut *stream, bytes: Vec::new() };
    match picture.read() {
        Ok(()) => Ok(Some(picture.bytes)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(io::Error::new(error.kind(), "the stream ends within a picture"))
        }
        Err(error) => Err(error),
    }
}

/// A picture that is being read.
struct Picture<'s, R> {
    stream: &'s mut R,
    bytes: Vec<u8>,
}

impl<R: BufRead> Picture<'_, R> {
    /// Reads segments up to the end of the image. Segments have a length, so whatever they contain is skipped; the
    /// data of a scan has none, and ends at the next marker.
    fn read(&mut self) -> io::Result<()> {
        let start = [self.byte()?, self.byte()?];
        if start != START_OF_IMAGE {
            let text = format!("expected a JPEG, but found {:02x} {:02x}", start[0], start[1]);
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        let mut marker = self.marker()?;
        while marker != END_OF_IMAGE {
            self.segment()?;
            marker = if marker == START_OF_SCAN { self.scan()? } else { self.marker()? };
        }
        Ok(())
    }

    /// Reads a marker, which fill bytes may precede.
    fn marker(&mut self) -> io::Result<u8> {
        if self.byte()? != 0xff {
            return Err(io::Error::new(ErrorKind::InvalidData, "a JPEG is malformed"));
        }
        loop {
            match self.byte()? {
                0xff => {}
                marker => return Ok(marker),
            }
        }
    }

    /// Reads a segment's length and content.
    fn segment(&mut self) -> io::Result<()> {
        let length = u16::from_be_bytes([self.byte()?, self.byte()?]);
        let content = u64::from(length.saturating_sub(2));
        let read = self.stream.by_ref().take(content).read_to_end(&mut self.bytes)?;
        if (read as u64) < content {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.check_size()
    }

    /// Reads a scan's data and the marker that ends it. In the data, `ff` is followed by 0 or by a restart marker.
    fn scan(&mut self) -> io::Result<u8> {
        loop {
            self.stream.read_until(0xff, &mut self.bytes)?;
            self.check_size()?;
            let mut next = self.byte()?;
            // Fill bytes.
            while next == 0xff {
                next = self.byte()?;
            }
            match next {
                0 | 0xd0..=0xd7 => {}
                marker => return Ok(marker),
            }
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        self.bytes.push(byte[0]);
        Ok(byte[0])
    }

    fn check_size(&self) -> io::Result<()> {
        if self.bytes.len() as u64 > MAX_PICTURE_BYTES {
            let text = format!("a picture of the stream has more than {MAX_PICTURE_BYTES} bytes");
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::next;

    /// A thumbnail's end in a segment, escaped and restart markers in the scan, and a second scan.
    const TRICKY: &[u8] =
        b"\xff\xd8\xff\xe1\0\x06\xff\xd8\xff\xd9\xff\xff\xda\0\x03\x01ab\xff\0\xff\xd0c\xff\
                            \xff\xda\0\x02d\xff\xd9";

    #[test]
    fn pictures_are_split_where_they_end() {
        let small = b"\xff\xd8\xff\xd9".as_slice();
        let stream = [TRICKY, small, TRICKY].concat();
        let mut reader = std::io::BufReader::with_capacity(3, stream.as_slice());
        for expected in [TRICKY, small, TRICKY] {
            assert_eq!(next(&mut reader).unwrap().as_deref(), Some(expected));
        }
        assert!(next(&mut reader).unwrap().is_none());
    }

    #[test]
    fn what_is_cut_short_or_no_jpeg_is_an_error() {
        for end in 1..TRICKY.len() {
            let error = next(&mut &TRICKY[..end]).unwrap_err().to_string();
            assert_eq!(error, "the stream ends within a picture", "{end}");
        }
        let error = next(&mut b"\x89PNG".as_slice()).unwrap_err().to_string();
        assert_eq!(error, "expected a JPEG, but found 89 50");
    }
}
