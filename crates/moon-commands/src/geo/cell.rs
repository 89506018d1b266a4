//! The cells into which the earth is divided.
//!
//! Each step halves the cells in both directions. The number of a cell interleaves the bits of its
//! column and its row, so that what is near is mostly near in number. At step 26 that is 52 bits,
//! which a score holds exactly; such a cell is less than a metre wide.

/// Longitude and latitude in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Position {
    pub(super) longitude: f64,
    pub(super) latitude: f64,
}

const LONGITUDE_MAX: f64 = 180.0;
/// What lies nearer to the poles has no place on the square map of EPSG:3857.
const LATITUDE_MAX: f64 = 85.051_128_78;

impl Position {
    pub(super) fn is_valid(self) -> bool {
        self.longitude.abs() <= LONGITUDE_MAX && self.latitude.abs() <= LATITUDE_MAX
    }
}

/// A cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// Bits of the column at odd places, of the row at even ones.
    number: u64,
    /// How often the earth was halved in each direction, 1 to 26.
    step: u32,
}

/// Where a cell begins and ends, in degrees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Borders {
    pub(super) west: f64,
    pub(super) east: f64,
    pub(super) south: f64,
    pub(super) north: f64,
}

const ROWS: u64 = 0x5555_5555_5555_5555;
const COLUMNS: u64 = ROWS << 1;

impl Cell {
    /// The smallest cells.
    pub(super) const STEP_MAX: u32 = 26;

    /// The cell around a position.
    pub(super) fn of(position: Position, step: u32) -> Cell {
        Cell::on_map(position, step, LATITUDE_MAX)
    }

    /// As [`Cell::of`], on a map that ends at another latitude.
    fn on_map(position: Position, step: u32, latitude_max: f64) -> Cell {
        let cells = (1_u64 << step) as f64;
        let nth = |degrees: f64, max: f64| ((degrees + max) / (max + max) * cells) as u32;
        let column = nth(position.longitude, LONGITUDE_MAX);
        let row = nth(position.latitude, latitude_max);
        Cell {
            number: spread(row) | spread(column) << 1,
            step,
        }
    }

    /// The scores of all positions in the cell: from the first to before the second.
    pub(super) fn scores(self) -> (u64, u64) {
        let shift = 2 * (Cell::STEP_MAX - self.step);
        (self.number << shift, (self.number + 1) << shift)
    }

    /// The score of one of the smallest cells.
    pub(super) fn score(self) -> u64 {
        self.scores().0
    }

    pub(super) fn borders(self) -> Borders {
        let cells = (1_u64 << self.step) as f64;
        let (row, column) = (gather(self.number), gather(self.number >> 1));
        let degrees = |nth: u32, max: f64| -max + (f64::from(nth) / cells) * (max + max);
        Borders {
            west: degrees(column, LONGITUDE_MAX),
            east: degrees(column.wrapping_add(1), LONGITUDE_MAX),
            south: degrees(row, LATITUDE_MAX),
            north: degrees(row.wrapping_add(1), LATITUDE_MAX),
        }
    }

    fn middle(self) -> Position {
        let borders = self.borders();
        let middle = |a: f64, b: f64, max: f64| ((a + b) / 2.0).clamp(-max, max);
        Position {
            longitude: middle(borders.west, borders.east, LONGITUDE_MAX),
            latitude: middle(borders.south, borders.north, LATITUDE_MAX),
        }
    }

    /// The cell so many columns to the east and rows to the north, -1 to 1 each; behind the last
    /// one comes the first.
    pub(super) fn neighbour(self, east: i8, north: i8) -> Cell {
        let all = u64::MAX >> (64 - 2 * self.step);
        let column = step_along(self.number & COLUMNS, COLUMNS & all, east);
        let row = step_along(self.number & ROWS, ROWS & all, north);
        Cell {
            number: column | row,
            step: self.step,
        }
    }
}

/// Adds `by` to the number whose bits lie at the places of `mask`.
fn step_along(number: u64, mask: u64, by: i8) -> u64 {
    match by {
        0 => number,
        // With ones between its bits, a carry passes to the next place.
        1.. => ((number | !mask).wrapping_add(1)) & mask,
        _ => (number & mask).wrapping_sub(1) & mask,
    }
}

/// The position that a score says: the middle of its cell. Any score says one.
pub(super) fn position_of_score(score: f64) -> Position {
    let cell = Cell {
        number: truncate(score),
        step: Cell::STEP_MAX,
    };
    cell.middle()
}

/// A score that no GEOADD has made as a number of 64 bits: as x86-64 converts it.
fn truncate(score: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    let convert = |number: f64| match number {
        number if (-HALF..HALF).contains(&number) => number as i64,
        _ => i64::MIN,
    };
    if score < HALF {
        convert(score).cast_unsigned()
    } else {
        convert(score - HALF).cast_unsigned() ^ 1 << 63
    }
}

/// The geohash that other programs understand: on a map up to the poles, in base 32. There are 52
/// bits for the 55 of eleven letters; the last letter is always 0.
pub(super) fn geohash(position: Position) -> [u8; 11] {
    const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
    let cell = Cell::on_map(position, Cell::STEP_MAX, 90.0);
    let mut text = [b'0'; 11];
    for (nth, letter) in text[..10].iter_mut().enumerate() {
        *letter = LETTERS[(cell.number >> (52 - (nth + 1) * 5) & 31) as usize];
    }
    text
}

/// Moves the bits of a number to the even places.
fn spread(number: u32) -> u64 {
    let mut bits = u64::from(number);
    for (shift, mask) in SPREADS {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Moves the bits at the even places together.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & ROWS;
    for nth in (0..SPREADS.len()).rev() {
        let mask = match nth {
            0 => u64::from(u32::MAX),
            nth => SPREADS[nth - 1].1,
        };
        bits = (bits | bits >> SPREADS[nth].0) & mask;
    }
    bits as u32
}

/// Halves that move apart, from 16 bits down to one.
const SPREADS: [(u32, u64); 5] = [
    (16, 0x0000_FFFF_0000_FFFF),
    (8, 0x00FF_00FF_00FF_00FF),
    (4, 0x0F0F_0F0F_0F0F_0F0F),
    (2, 0x3333_3333_3333_3333),
    (1, ROWS),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_are_spread_and_gathered_one_by_one(number: u32) {
            let expected = (0..32).fold(0, |bits, at| bits | u64::from(number >> at & 1) << (2 * at));
            prop_assert_eq!(spread(number), expected);
            prop_assert_eq!(gather(expected), number);
            prop_assert_eq!(gather(expected | COLUMNS), number);
        }

        #[test]
        fn neighbours_are_one_column_and_row_away(
            step in 1..27_u32, column: u32, row: u32, east in -1..2_i8, north in -1..2_i8,
        ) {
            let mask = u32::MAX >> (32 - step);
            let cell = |column: u32, row: u32| Cell {
                number: spread(row & mask) | spread(column & mask) << 1,
                step,
            };
            let expected = cell(
                column.wrapping_add_signed(east.into()),
                row.wrapping_add_signed(north.into()),
            );
            prop_assert_eq!(cell(column, row).neighbour(east, north), expected);
        }

        #[test]
        fn a_position_lies_in_its_cell_and_its_score_in_that_of_every_step(
            longitude in -180.0..180.0_f64, latitude in -85.0..85.0_f64, step in 1..27_u32,
        ) {
            let position = Position { longitude, latitude };
            let cell = Cell::of(position, step);
            let borders = cell.borders();
            // Rounding may move it over a border by the last bit of a double.
            let slack = 1e-12;
            prop_assert!(borders.west - slack <= longitude && longitude <= borders.east + slack);
            prop_assert!(borders.south - slack <= latitude && latitude <= borders.north + slack);
            let (start, end) = cell.scores();
            prop_assert!((start..end).contains(&Cell::of(position, Cell::STEP_MAX).score()));
        }

        #[test]
        fn any_score_says_a_position(score in any::<f64>()) {
            let score = if score.is_nan() { f64::INFINITY } else { score };
            prop_assert!(position_of_score(score).is_valid());
        }
    }
}
