//! Distances on a sphere, and the cells that cover a shape on it.

use super::cell::{Cell, Position};

/// In metres.
const EARTH_RADIUS: f64 = 6_372_797.560_856;
/// Half the way around the map, in metres.
const MAP_HALF: f64 = 20_037_726.37;
const RADIANS: f64 = std::f64::consts::PI / 180.0;

/// The distance between two positions in metres, by the haversine formula.
pub(super) fn distance(from: Position, to: Position) -> f64 {
    let v = ((to.longitude * RADIANS - from.longitude * RADIANS) / 2.0).sin();
    if v == 0.0 {
        return distance_north(from, to);
    }
    let (from_latitude, to_latitude) = (from.latitude * RADIANS, to.latitude * RADIANS);
    let u = ((to_latitude - from_latitude) / 2.0).sin();
    let a = u * u + from_latitude.cos() * to_latitude.cos() * v * v;
    2.0 * EARTH_RADIUS * a.sqrt().asin()
}

/// How far one position is to the north or south of another.
fn distance_north(from: Position, to: Position) -> f64 {
    EARTH_RADIUS * (to.latitude * RADIANS - from.latitude * RADIANS).abs()
}

/// What is searched. Lengths are in a unit of so many metres.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) center: Position,
    pub(super) metres: f64,
    pub(super) kind: ShapeKind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum ShapeKind {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

impl Shape {
    /// The distance from the center in metres, of a position inside.
    pub(super) fn distance_inside(&self, position: Position) -> Option<f64> {
        match self.kind {
            ShapeKind::Circle { radius } => {
                let distance = distance(self.center, position);
                (distance <= radius * self.metres).then_some(distance)
            }
            ShapeKind::Box { width, height } => {
                if distance_north(position, self.center) > height * self.metres / 2.0 {
                    return None;
                }
                let below = Position {
                    latitude: position.latitude,
                    ..self.center
                };
                if distance(position, below) > width * self.metres / 2.0 {
                    return None;
                }
                Some(distance(self.center, position))
            }
        }
    }

    /// The cells that cover the shape, the one around its center first, without repetition.
    pub(super) fn cells(&self) -> Vec<Cell> {
        let reach = self.reach();
        let mut step = self.step();
        let mut middle = Cell::of(self.center, step);
        // Near the edge of its cell a shape can reach beyond the next one.
        let neighbour = |east, north| middle.neighbour(east, north).borders();
        let is_covered = neighbour(0, 1).north >= reach.north
            && neighbour(0, -1).south <= reach.south
            && neighbour(1, 0).east >= reach.east
            && neighbour(-1, 0).west <= reach.west;
        if step > 1 && !is_covered {
            step -= 1;
            middle = Cell::of(self.center, step);
        }
        let borders = middle.borders();
        let is_needed = |east: i8, north: i8| {
            let useless = (north < 0 && borders.south < reach.south)
                || (north > 0 && borders.north > reach.north)
                || (east < 0 && borders.west < reach.west)
                || (east > 0 && borders.east > reach.east);
            step < 2 || !useless
        };
        let mut cells = vec![middle];
        for (east, north) in AROUND
            .into_iter()
            .filter(|(east, north)| is_needed(*east, *north))
        {
            let cell = middle.neighbour(east, north);
            // With few cells, those to both sides are the same.
            if !cells.contains(&cell) {
                cells.push(cell);
            }
        }
        cells
    }

    /// How far the shape reaches, in degrees.
    fn reach(&self) -> super::cell::Borders {
        let (width, height) = match self.kind {
            ShapeKind::Circle { radius } => (radius, radius),
            ShapeKind::Box { width, height } => (width / 2.0, height / 2.0),
        };
        let Position {
            longitude,
            latitude,
        } = self.center;
        let north = height * self.metres / EARTH_RADIUS / RADIANS;
        // A degree is shorter nearer to the pole: the side there needs more of them.
        let nearer_pole = if latitude < 0.0 {
            latitude - north
        } else {
            latitude + north
        };
        let east = self.metres * width / EARTH_RADIUS / (nearer_pole * RADIANS).cos() / RADIANS;
        super::cell::Borders {
            west: longitude - east,
            east: longitude + east,
            south: latitude - north,
            north: latitude + north,
        }
    }

    /// The step at which a cell is about as large as the shape.
    fn step(&self) -> u32 {
        let mut radius = self.metres
            * match self.kind {
                ShapeKind::Circle { radius } => radius,
                ShapeKind::Box { width, height } => {
                    ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
                }
            };
        if radius == 0.0 {
            return Cell::STEP_MAX;
        }
        let mut step = 1_i32;
        while radius < MAP_HALF {
            radius *= 2.0;
            step += 1;
        }
        // So that the next cells cover what reaches out of the middle one.
        step -= 2;
        // Towards the poles cells are narrower than they seem.
        step -= match self.center.latitude.abs() {
            latitude if latitude > 80.0 => 2,
            latitude if latitude > 66.0 => 1,
            _ => 0,
        };
        step.clamp(1, 26).unsigned_abs()
    }
}

/// Steps to the east and to the north, in the order in which Redis looks around.
const AROUND: [(i8, i8); 8] = [
    (0, 1),
    (0, -1),
    (1, 0),
    (-1, 0),
    (1, 1),
    (-1, 1),
    (1, -1),
    (-1, -1),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Away from the poles and the date line, where the cells of Redis end.
        #[test]
        fn what_lies_inside_a_shape_lies_in_its_cells(
            longitude in -90.0..90.0_f64,
            latitude in -60.0..60.0_f64,
            (metres, size, other) in (1.0..1000.0_f64, 0.0..1000.0_f64, 0.0..1000.0_f64),
            (east, north) in (-1.0..1.0_f64, -1.0..1.0_f64),
            round: bool,
        ) {
            let center = Position { longitude, latitude };
            let kind = match round {
                true => ShapeKind::Circle { radius: size },
                false => ShapeKind::Box { width: size, height: other },
            };
            let shape = Shape { center, metres, kind };
            let reach = shape.reach();
            let position = Position {
                longitude: longitude + east * (reach.east - longitude),
                latitude: latitude + north * (reach.north - latitude),
            };
            if shape.distance_inside(position).is_some() {
                let score = Cell::of(position, Cell::STEP_MAX).score();
                let is_inside = |cell: &Cell| {
                    let (start, end) = cell.scores();
                    (start..end).contains(&score)
                };
                prop_assert!(shape.cells().iter().any(is_inside));
            }
        }
    }
}
