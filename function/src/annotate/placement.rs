//! Places labels so that they do not cover each other.

/// A rectangle of pixels, from its left top corner up to, but not including, its right bottom corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: i64,
    pub(super) top: i64,
    pub(super) right: i64,
    pub(super) bottom: i64,
}

/// How many rings of positions around a box are tried; 10 rings have 440 positions.
const MAX_PLACEMENT_RINGS: i64 = 10;

impl Area {
    /// The number of pixels that two areas share.
    fn overlap(self, other: Self) -> i64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0) * height.max(0)
    }
}

/// Finds a place for a label of this size: above its box, below, inside or beside it, or else as near as possible.
/// It lies within the picture, and covers none of the placed labels, unless there is no such place.
pub(super) fn place(
    (width, height): (i64, i64),
    frame: Area,
    picture: (i64, i64),
    placed: &[Area],
) -> Area {
    let room = (picture.0 - width, picture.1 - height);
    let at = |(left, top): (i64, i64)| {
        let left = left.min(room.0).max(0);
        (top >= 0 && top <= room.1.max(0)).then_some(Area {
            left,
            top,
            right: left + width,
            bottom: top + height,
        })
    };
    let covered = |area: &Area| placed.iter().map(|other| area.overlap(*other)).sum::<i64>();
    let is_free = |area: &Area| placed.iter().all(|other| area.overlap(*other) == 0);
    candidates((width, height), frame)
        .filter_map(at)
        .find(is_free)
        .or_else(|| candidates((width, height), frame).filter_map(at).min_by_key(covered))
        .unwrap_or(Area { left: 0, top: 0, right: width, bottom: height })
}

/// The left top corners that a label may have, in order of preference.
fn candidates((width, height): (i64, i64), frame: Area) -> impl Iterator<Item = (i64, i64)> {
    let Area { left, top, right, bottom } = frame;
    let flush_right = right - width;
    let at_the_box = [
        (left, top - height),
        (left, bottom),
        (left, top),
        (left, bottom - height),
        (right, top),
        (left - width, top),
        (flush_right, top - height),
        (flush_right, bottom),
        (flush_right, top),
        (flush_right, bottom - height),
        (right, bottom - height),
        (left - width, bottom - height),
    ];
    let further = (1..=MAX_PLACEMENT_RINGS).flat_map(move |ring| {
        let on_ring = move |&(x, y): &(i64, i64)| x.abs() == ring || y.abs() == ring;
        let offsets = (-ring..=ring).flat_map(move |y| (-ring..=ring).map(move |x| (x, y)));
        offsets.filter(on_ring).map(move |(x, y)| (left + x * width / 2, top + y * height))
    });
    at_the_box.into_iter().chain(further)
}

#[cfg(test)]
mod tests {
    use super::{Area, place};

    const PICTURE: (i64, i64) = (640, 480);
    const LABEL: (i64, i64) = (90, 20);

    fn frame(left: i64, top: i64, width: i64, height: i64) -> Area {
        Area { left, top, right: left + width, bottom: top + height }
    }

    #[test]
    fn the_first_label_is_above_its_box_or_inside_if_there_is_no_room() {
        let above = place(LABEL, frame(100, 100, 200, 100), PICTURE, &[]);
        assert_eq!((above.left, above.bottom), (100, 100));
        let below = place(LABEL, frame(100, 5, 200, 100), PICTURE, &[]);
        assert_eq!((below.left, below.top), (100, 105));
        let inside = place(LABEL, frame(0, 0, 640, 480), PICTURE, &[]);
        assert_eq!((inside.left, inside.top), (0, 0));
        let at_the_edge = place(LABEL, frame(600, 100, 40, 100), PICTURE, &[]);
        assert_eq!((at_the_edge.right, at_the_edge.bottom), (640, 100));
    }

    #[test]
    fn labels_of_the_same_box_and_of_a_crowd_do_not_cover_each_other() {
        let same = (0..30).map(|_| frame(300, 200, 50, 50));
        let crowd = (0..30).map(|index| frame(index * 18, 300 + index % 7, 40, 60));
        let mut placed: Vec<Area> = Vec::new();
        for frame in same.chain(crowd) {
            let area = place(LABEL, frame, PICTURE, &placed);
            assert!(area.left >= 0 && area.right <= 640 && area.top >= 0 && area.bottom <= 480);
            assert!(placed.iter().all(|other| area.overlap(*other) == 0), "{area:?} in {placed:?}");
            placed.push(area);
        }
    }

    #[test]
    fn where_there_is_no_free_place_it_covers_as_little_as_possible() {
        let picture = (100, 20);
        let first = place(LABEL, frame(0, 0, 10, 10), picture, &[]);
        let second = place(LABEL, frame(50, 0, 50, 10), picture, &[first]);
        assert_eq!((second.left, second.top), (10, 0));
        // A label that is larger than the picture begins at its corner.
        let large = place((200, 40), frame(0, 0, 10, 10), picture, &[]);
        assert_eq!((large.left, large.top), (0, 0));
    }
}
