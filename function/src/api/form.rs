//! Reads `multipart/form-data` (RFC 7578): each part named `image` is a picture, any other an option.

use futures_util::{FutureExt, stream};

use crate::error::{Error, shortened};

/// The parts of a form.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub(super) pictures: Vec<Vec<u8>>,
    /// Names and values.
    pub(super) options: Vec<(String, String)>,
}

impl Form {
    /// Reads a form that is wholly in memory.
    ///
    /// # Errors
    /// [`Error::BadForm`] if it is malformed, incomplete or has no picture.
    pub(super) fn read(content_type: &str, body: &[u8]) -> Result<Self, Error> {
        let boundary = multer::parse_boundary(content_type).map_err(bad)?;
        let whole = stream::iter([Ok::<_, std::convert::Infallible>(body.to_vec())]);
        let parts = multer::Multipart::new(whole, boundary);
        // The body is in memory, so the future never waits.
        let form = Box::pin(Self::read_parts(parts))
            .now_or_never()
            .ok_or_else(|| Error::BadForm { reason: "it is incomplete".into() })??;
        if form.pictures.is_empty() {
            return Err(Error::BadForm { reason: "it has no part named `image`".into() });
        }
        Ok(form)
    }

    async fn read_parts(mut parts: multer::Multipart<'_>) -> Result<Self, Error> {
        let mut form = Self::default();
        while let Some(part) = parts.next_field().await.map_err(bad)? {
            let name = part.name().unwrap_or_default().to_owned();
            if name == "image" {
                form.pictures.push(part.bytes().await.map_err(bad)?.to_vec());
            } else if part.file_name().is_some() {
                let name = shortened(&name);
                let reason = format!("the picture's part must be named `image`, not `{name}`");
                return Err(Error::BadForm { reason });
            } else {
                form.options.push((name, part.text().await.map_err(bad)?));
            }
        }
        Ok(form)
    }
}

fn bad(error: multer::Error) -> Error {
    Error::BadForm { reason: error.to_string() }
}
