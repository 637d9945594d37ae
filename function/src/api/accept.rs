//! The `Accept` header (RFC 9110, 12.5.1).

use crate::options::PictureFormat;

/// The picture format that the header prefers over JSON, if it does.
pub(super) fn preferred_picture(accept: Option<&str>) -> Option<PictureFormat> {
    let ranges = accept?.split(',').filter_map(|range| {
        let range: mime::Mime = range.trim().parse().ok()?;
        let quality = range
            .get_param("q")
            .map_or(Some(1.0), |quality| quality.as_str().parse::<f32>().ok())?;
        let format = match (range.type_().as_str(), range.subtype().as_str()) {
            ("image", "png") => Some(PictureFormat::Png),
            ("image", "jpeg" | "*") => Some(PictureFormat::Jpeg),
            ("application", "json" | "*") | ("*", "*") => None,
            _ => return None,
        };
        // Quality 0 means not acceptable.
        (quality > 0.0).then_some((quality, format))
    });
    // Of several best ranges, the first wins; `max_by` would return the last.
    ranges.reduce(|best, next| if next.0 > best.0 { next } else { best })?.1
}

#[cfg(test)]
mod tests {
    use super::{PictureFormat, preferred_picture};

    #[test]
    fn accept_chooses_by_quality_then_by_order() {
        let cases = [
            (None, None),
            (Some("*/*"), None),
            (Some("application/json"), None),
            (Some("image/png"), Some(PictureFormat::Png)),
            (Some("image/jpeg, image/png"), Some(PictureFormat::Jpeg)),
            (Some("image/jpeg;q=0.5, image/png"), Some(PictureFormat::Png)),
            (Some("application/json, image/png"), None),
            (Some("text/html, image/*;q=0.8, */*;q=0.1"), Some(PictureFormat::Jpeg)),
            (Some("nonsense"), None),
            (Some("image/png;q=0"), None),
        ];
        for (accept, expected) in cases {
            assert_eq!(preferred_picture(accept), expected, "{accept:?}");
        }
    }
}
