//! Colours that people with any kind of colour vision can tell apart, and the text colour that is legible on each.

/// Okabe and Ito's palette without its black (Color Universal Design, 2008), as red, green and blue.
const PALETTE: [[u8; 3]; 7] = [
    [230, 159, 0],
    [86, 180, 233],
    [0, 158, 115],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
    [204, 121, 167],
];

const BLACK: [u8; 3] = [0, 0, 0];
const WHITE: [u8; 3] = [255, 255, 255];

/// The colour of a class.
pub(super) fn class_colour(class_id: u32) -> [u8; 3] {
    PALETTE[class_id as usize % PALETTE.len()]
}

/// Black or white, whichever has the higher contrast on this colour.
pub(super) fn text_on(colour: [u8; 3]) -> [u8; 3] {
    if contrast(colour, BLACK) >= contrast(colour, WHITE) { BLACK } else { WHITE }
}

/// The contrast ratio, 1 to 21 (WCAG 2.2).
fn contrast(a: [u8; 3], b: [u8; 3]) -> f32 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// The relative luminance, 0 to 1 (WCAG 2.2).
fn luminance(colour: [u8; 3]) -> f32 {
    let linear = |channel: u8| {
        let value = f32::from(channel) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2])
}

#[cfg(test)]
mod tests {
    use super::{PALETTE, class_colour, contrast, text_on};

    /// A colour as people without one kind of cone see it: LMS simulation matrices of Viénot, Brettel and Mollon
    /// (1999), on linear light.
    fn seen_without(cone: &str, colour: [u8; 3]) -> [f32; 3] {
        let rows: [[f32; 3]; 3] = match cone {
            "red" => {
                [[0.1121, 0.8853, -0.0005], [0.1127, 0.8897, -0.0001], [0.0045, 0.0001, 1.0019]]
            }
            "green" => [[0.2920, 0.7054, -0.0003], [0.2934, 0.7089, 0.0], [-0.0209, 0.0256, 1.0]],
            _ => [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        };
        let linear = colour.map(|channel| (f32::from(channel) / 255.0).powf(2.2));
        rows.map(|row| {
            let sum: f32 = row.iter().zip(linear).map(|(weight, light)| weight * light).sum();
            sum.max(0.0).powf(1.0 / 2.2) * 255.0
        })
    }

    #[test]
    fn each_two_colours_differ_clearly_for_every_kind_of_colour_vision() {
        for cone in ["none missing", "red", "green"] {
            for (index, a) in PALETTE.into_iter().enumerate() {
                for b in PALETTE.into_iter().skip(index + 1) {
                    let (seen_a, seen_b) = (seen_without(cone, a), seen_without(cone, b));
                    let distance: f32 =
                        seen_a.iter().zip(seen_b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
                    assert!(distance > 30.0, "{cone}: {a:?} and {b:?} are {distance} apart");
                }
            }
        }
    }

    #[test]
    fn text_is_legible_on_every_colour() {
        for class_id in 0..100 {
            let colour = class_colour(class_id);
            assert!(contrast(colour, text_on(colour)) >= 4.5, "{colour:?}");
        }
    }
}
