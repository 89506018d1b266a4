//! `math.random` and `math.randomseed`: the same numbers as in Redis, on every machine.

use crate::raised::{bad_argument, error_here};
use crate::sandbox::{integer_argument, number_argument};
use crate::state::Shared;
use mlua::{Lua, MultiValue, Table};

/// The generator before anything seeded it.
pub(crate) const UNSEEDED: u64 = 0x1234_ABCD_330E;

/// The generator after `seed`.
pub(crate) fn seeded(seed: u32) -> u64 {
    u64::from(seed) << 16 | 0x330E
}

/// The 48-bit congruential generator of `lrand48`: 31 bits for each step.
fn step(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & ((1 << 48) - 1);
    u32::try_from(*state >> 17).expect("31 bits are left")
}

/// Adds both functions to what the prelude gets.
pub(crate) fn add(lua: &Lua, shared: &Shared, rust: &Table) -> mlua::Result<()> {
    let state = shared.clone();
    let random = lua.create_function(move |lua, args: MultiValue| {
        let mut generator = state.random.get();
        let drawn = step(&mut generator);
        state.random.set(generator);
        const RANGE: u32 = i32::MAX as u32;
        let part = f64::from(drawn % RANGE) / f64::from(RANGE);
        match args.len() {
            0 => Ok(part),
            1 => {
                let last = integer_argument(lua, &args, 1)?;
                if last < 1 {
                    return Err(bad_argument(lua, 1, "interval is empty"));
                }
                Ok((part * f64::from(last)).floor() + 1.0)
            }
            2 => {
                let first = integer_argument(lua, &args, 1)?;
                let last = integer_argument(lua, &args, 2)?;
                if first > last {
                    return Err(bad_argument(lua, 2, "interval is empty"));
                }
                let width = f64::from(last.wrapping_sub(first).wrapping_add(1));
                Ok((part * width).floor() + f64::from(first))
            }
            _ => Err(error_here(lua, "wrong number of arguments")),
        }
    })?;
    rust.raw_set("random", random)?;

    let state = shared.clone();
    let randomseed = lua.create_function(move |lua, args: MultiValue| {
        let seed = crate::number::to_i32(number_argument(lua, &args, 1)?);
        state.random.set(seeded(seed.cast_unsigned()));
        Ok(())
    })?;
    rust.raw_set("randomseed", randomseed)
}
