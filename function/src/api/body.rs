//! The three kinds of body that carry pictures and options: a bare picture, a form, and JSON. The query carries
//! options too.

use std::borrow::Cow;

use super::form::Form;
use super::json::JsonBody;
use super::{Request, base64};
use crate::error::{Error, shortened};
use crate::model::Labels;
use crate::options::{MAX_PICTURES, Options};

/// Whether the client sent one picture or a list, which decides the form of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureCount {
    One,
    Many,
}

/// A request's pictures, and its options as text, those of the query first.
#[derive(Debug)]
pub(super) struct Body<'r> {
    pub(super) pictures: Vec<Cow<'r, [u8]>>,
    pub(super) count: PictureCount,
    pub(super) options: Vec<(String, String)>,
}

impl<'r> Body<'r> {
    /// Reads the query and the body.
    ///
    /// # Errors
    /// If the body does not match its content type, or has too many pictures.
    pub(super) fn read(request: &Request<'r>) -> Result<Self, Error> {
        let mut body = Self::read_content(request)?;
        check_count(body.pictures.len())?;
        let query = form_urlencoded::parse(request.query.as_bytes()).into_owned();
        body.options.splice(0..0, query);
        Ok(body)
    }

    fn read_content(request: &Request<'r>) -> Result<Self, Error> {
        let given = request.content_type.unwrap_or("application/octet-stream");
        let media_type: mime::Mime = given.parse().map_err(|_| unsupported(given))?;
        match (media_type.type_(), media_type.subtype()) {
            (mime::IMAGE, _) | (mime::APPLICATION, mime::OCTET_STREAM) => Ok(Self {
                pictures: vec![Cow::Borrowed(request.body)],
                count: PictureCount::One,
                options: Vec::new(),
            }),
            _ if request.body.is_empty() => Err(Error::EmptyBody),
            (mime::MULTIPART, mime::FORM_DATA) => {
                let Form { pictures, options } = Form::read(given, request.body)?;
                let count =
                    if pictures.len() == 1 { PictureCount::One } else { PictureCount::Many };
                let pictures = pictures.into_iter().map(Cow::Owned).collect();
                Ok(Self { pictures, count, options })
            }
            (mime::APPLICATION, mime::JSON) => Self::from_json(request.body),
            _ => Err(unsupported(given)),
        }
    }

    fn from_json(body: &[u8]) -> Result<Self, Error> {
        let JsonBody { images, total, count, options } = serde_json::from_slice(body)
            .map_err(|error| Error::bad_json(&error, "; send {\"image\": \"<base64>\"}"))?;
        check_count(total)?;
        let pictures = images
            .iter()
            .map(|text| base64::decode(text).map(Cow::Owned))
            .collect::<Result<_, _>>()?;
        Ok(Self { pictures, count, options })
    }
}

fn check_count(pictures: usize) -> Result<(), Error> {
    if pictures > MAX_PICTURES {
        return Err(Error::TooManyPictures { count: pictures, limit: MAX_PICTURES });
    }
    Ok(())
}

/// A parsed request to `POST /detect`.
#[derive(Debug)]
pub struct DetectRequest<'r> {
    pub pictures: Vec<Cow<'r, [u8]>>,
    pub count: PictureCount,
    pub options: Options,
}

impl<'r> DetectRequest<'r> {
    /// Reads the query and the body. Every option must be known.
    ///
    /// # Errors
    /// If an option is invalid, or the body does not match its content type.
    pub fn read(request: &Request<'r>, labels: &Labels, defaults: Options) -> Result<Self, Error> {
        let body = Body::read(request)?;
        let mut options = defaults;
        for (name, value) in &body.options {
            options.set(name, value, labels)?;
        }
        Ok(Self { pictures: body.pictures, count: body.count, options })
    }

    /// Reads a request from another server's client. Skips options that Spotter does not have, empty ones, and
    /// `annotate`.
    ///
    /// # Errors
    /// If a known option is invalid, or the body does not match its content type.
    pub(super) fn read_leniently(
        request: &Request<'r>,
        labels: &Labels,
        defaults: Options,
    ) -> Result<Self, Error> {
        let body = Body::read(request)?;
        let mut options = defaults;
        for (name, value) in body.options.iter().filter(|(_, value)| !value.is_empty()) {
            options.set_if_known(name, value, labels)?;
        }
        Ok(Self { pictures: body.pictures, count: body.count, options })
    }
}

fn unsupported(content_type: &str) -> Error {
    // The default of curl's --data-binary.
    let hint = if content_type.starts_with("application/x-www-form-urlencoded") {
        " (with curl: -F image=@photo.jpg, or --data-binary @photo.jpg -H 'Content-Type: image/jpeg')"
    } else {
        ""
    };
    Error::UnsupportedMediaType {
        content_type: shortened(content_type),
        expected: format!(
            "image/*, application/octet-stream, multipart/form-data with a part named \"image\", or \
             application/json with a base64 \"image\"{hint}"
        ),
    }
}
