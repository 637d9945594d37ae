//! The three kinds of body that `POST /detect` accepts: a bare picture, a form, and JSON. All accept the same
//! options, as does the query.

use std::borrow::Cow;

use base64::Engine;
use futures_util::{FutureExt, stream};

use super::Request;
use super::json::JsonBody;
use crate::error::{Error, shortened};
use crate::model::Labels;
use crate::options::{MAX_PICTURES, Options};

/// A parsed request to `POST /detect`.
#[derive(Debug)]
pub struct DetectRequest<'r> {
    pub pictures: Vec<Cow<'r, [u8]>>,
    pub count: PictureCount,
    pub options: Options,
}

/// Whether the client sent one picture or a list, which decides the form of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureCount {
    One,
    Many,
}

impl<'r> DetectRequest<'r> {
    /// Parses the query and the body.
    ///
    /// # Errors
    /// If an option is invalid, or the body does not match its content type.
    pub fn read(request: &Request<'r>, labels: &Labels, defaults: Options) -> Result<Self, Error> {
        let mut reader = Reader { options: defaults, labels, pictures: Vec::new() };
        for (name, value) in form_urlencoded::parse(request.query.as_bytes()) {
            reader.option(&name, &value)?;
        }
        let given = request.content_type.unwrap_or("application/octet-stream");
        let media_type: mime::Mime = given.parse().map_err(|_| unsupported(given))?;
        let count = match (media_type.type_(), media_type.subtype()) {
            (mime::IMAGE, _) | (mime::APPLICATION, mime::OCTET_STREAM) => {
                reader.pictures.push(Cow::Borrowed(request.body));
                PictureCount::One
            }
            _ if request.body.is_empty() => return Err(Error::EmptyBody),
            (mime::MULTIPART, mime::FORM_DATA) => reader.form(given, request.body)?,
            (mime::APPLICATION, mime::JSON) => reader.json(request.body)?,
            _ => return Err(unsupported(given)),
        };
        let Reader { pictures, options, .. } = reader;
        check_count(pictures.len())?;
        Ok(Self { pictures, count, options })
    }
}

fn check_count(pictures: usize) -> Result<(), Error> {
    if pictures > MAX_PICTURES {
        return Err(Error::TooManyPictures { count: pictures, limit: MAX_PICTURES });
    }
    Ok(())
}

/// Collects pictures and options.
struct Reader<'m, 'r> {
    options: Options,
    labels: &'m Labels,
    pictures: Vec<Cow<'r, [u8]>>,
}

impl Reader<'_, '_> {
    fn option(&mut self, name: &str, value: &str) -> Result<(), Error> {
        self.options.set(name, value, self.labels)
    }

    /// Reads `multipart/form-data` (RFC 7578). Each part named `image` is a picture, any other an option.
    fn form(&mut self, content_type: &str, body: &[u8]) -> Result<PictureCount, Error> {
        let bad = |error: multer::Error| Error::BadForm { reason: error.to_string() };
        let boundary = multer::parse_boundary(content_type).map_err(bad)?;
        let whole = stream::iter([Ok::<_, std::convert::Infallible>(body.to_vec())]);
        let mut parts = multer::Multipart::new(whole, boundary);
        // The body is in memory, so the future never waits.
        let mut reading = Box::pin(async {
            while let Some(part) = parts.next_field().await.map_err(bad)? {
                let name = part.name().unwrap_or_default().to_owned();
                if name == "image" {
                    let picture = part.bytes().await.map_err(bad)?;
                    self.pictures.push(Cow::Owned(picture.to_vec()));
                } else {
                    if part.file_name().is_some() {
                        let name = shortened(&name);
                        let reason =
                            format!("the picture's part must be named `image`, not `{name}`");
                        return Err(Error::BadForm { reason });
                    }
                    let value = part.text().await.map_err(bad)?;
                    self.option(&name, &value)?;
                }
            }
            Ok::<_, Error>(())
        });
        let cut_short = || Error::BadForm { reason: "it is incomplete".into() };
        reading.as_mut().now_or_never().ok_or_else(cut_short)??;
        drop(reading);
        match self.pictures.len() {
            0 => Err(Error::BadForm { reason: "it has no part named `image`".into() }),
            1 => Ok(PictureCount::One),
            _ => Ok(PictureCount::Many),
        }
    }

    /// Reads `{"image": "<base64>"}` or `{"image": ["<base64>", …]}`. Any other key is an option.
    fn json(&mut self, body: &[u8]) -> Result<PictureCount, Error> {
        let read: JsonBody = serde_json::from_slice(body).map_err(|error| Error::BadJson {
            reason: format!("{error}; send {{\"image\": \"<base64>\"}}"),
        })?;
        check_count(read.total)?;
        for (name, value) in &read.options {
            self.option(name, value)?;
        }
        for text in &read.images {
            self.pictures.push(Cow::Owned(decode_base64(text)?));
        }
        Ok(read.count)
    }
}

/// Decodes standard base64 (RFC 4648), with or without padding, line breaks, or the prefix
/// `data:image/…;base64,` that browsers add.
fn decode_base64(text: &str) -> Result<Vec<u8>, Error> {
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let data = match text.split_once(";base64,") {
        Some((scheme, data)) if scheme.starts_with("data:") => data,
        _ => text,
    };
    let compact: Vec<u8> = data.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    LENIENT.decode(compact).map_err(|error| Error::BadBase64 { reason: error.to_string() })
}

fn unsupported(content_type: &str) -> Error {
    // The default of curl's --data-binary.
    let hint = if content_type.starts_with("application/x-www-form-urlencoded") {
        " (with curl: -F image=@photo.jpg, or --data-binary @photo.jpg -H 'Content-Type: image/jpeg')"
    } else {
        ""
    };
    Error::UnsupportedMediaType { content_type: shortened(content_type), hint }
}
