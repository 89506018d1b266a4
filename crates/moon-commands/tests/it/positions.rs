//! Positions and searches are those of a real `redis-server`, to the last digit.

use crate::pair::Pair;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// A position somewhere, or near one of a few places.
fn position(rng: &mut SmallRng) -> (f64, f64) {
    let (longitude, latitude) = match rng.random_range(0..6) {
        0 => (13.4, 52.5),
        1 => (179.99, 10.0),
        2 => (-70.0, -84.9),
        3 => (0.0, 0.0),
        _ => {
            let everywhere = (
                rng.random_range(-180.0..180.0),
                rng.random_range(-85.0..85.0),
            );
            return everywhere;
        }
    };
    let mut near =
        |degrees: f64, max: f64| (degrees + rng.random_range(-0.5..0.5_f64)).clamp(-max, max);
    (near(longitude, 180.0), near(latitude, 85.05))
}

#[test]
fn random_searches_find_what_redis_finds_in_its_order() {
    let Some(mut pair) = Pair::start(2, &[]) else {
        return;
    };
    let seed = 20_264;
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    for member in 0..400 {
        let (longitude, latitude) = position(&mut rng);
        pair.compare(&format!("geoadd p {longitude} {latitude} m{member}"));
        pair.compare(&format!("zscore p m{member}"));
    }
    for _ in 0..1500 {
        let (longitude, latitude) = position(&mut rng);
        let size = 10_f64.powf(rng.random_range(-1.0..7.5));
        let other = size * rng.random_range(0.05..2.0);
        let shape = match rng.random_range(0..3) {
            0 => format!("BYBOX {size} {other} m"),
            1 => format!("BYRADIUS {} km", size / 1000.0),
            _ => format!("BYRADIUS {} mi", size / 1609.34),
        };
        let end = match rng.random_range(0..5) {
            0 => " ASC",
            1 => " DESC",
            2 => " COUNT 5",
            3 => " COUNT 3 ANY",
            _ => "",
        };
        pair.compare(&format!(
            "geosearch p FROMLONLAT {longitude} {latitude} {shape} WITHDIST WITHCOORD WITHHASH{end}"
        ));
        let (a, b) = (rng.random_range(0..420), rng.random_range(0..420));
        pair.compare(&format!("geodist p m{a} m{b} km"));
        pair.compare(&format!("geopos p m{a} m{b}"));
        pair.compare(&format!("geohash p m{a} m{b}"));
    }
}
