//! Reading single values: strict, and with the error texts that Redis clients know.
//!
//! A value that is not understood is an error, never a default: a misspelt policy must not
//! switch durability off without a word.

/// Why a value was not accepted. The text is what follows the dash in a CONFIG SET error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Only the words yes and no count, in any letter case.
    #[error("argument must be 'yes' or 'no'")]
    NotYesNo,
    /// Not one of the words of an enumeration.
    #[error("argument(s) must be one of the following: {}", .0.join(", "))]
    NotOneOf(&'static [&'static str]),
    /// Not a decimal integer.
    #[error("argument couldn't be parsed into an integer")]
    NotInteger,
    /// Not an octal file mode.
    #[error("argument couldn't be parsed as an octal number")]
    NotOctal,
    /// Not a size such as `64mb`, or one that does not fit.
    #[error("argument must be a memory value")]
    NotMemory,
    /// Neither a size nor a percentage from 0 to 100.
    #[error("argument must be a memory or percent value")]
    NotMemoryOrPercent,
    /// An integer outside its range; both ends are allowed values.
    #[error("argument must be between {min} and {max} inclusive")]
    OutOfRange {
        /// Smallest allowed value.
        min: i64,
        /// Largest allowed value.
        max: i64,
    },
    /// A size outside its range; both ends are allowed values.
    #[error("argument must be between {min} and {max} bytes inclusive")]
    SizeOutOfRange {
        /// Smallest allowed value.
        min: u64,
        /// Largest allowed value.
        max: u64,
    },
    /// Too few or too many words.
    #[error("wrong number of arguments")]
    WrongCount,
    /// An empty text where one is needed.
    #[error("argument must not be empty")]
    Empty,
    /// `appenddirname` names a folder inside `dir`, so it is one path component.
    #[error("{0} can't be a path, just a name")]
    NotAName(&'static str),
    /// A name with NUL bytes or other bytes that no path has.
    #[error("argument must not contain NUL bytes")]
    Nul,
    /// More addresses than can be bound.
    #[error("Too many bind addresses specified.")]
    TooManyBinds,
    /// A letter that means no class of events.
    #[error("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")]
    NotEventClass,
    /// What Redis has and this server does not.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// `yes` or `no`, in any letter case, and nothing else.
pub fn yes_no(text: &str) -> Result<bool, Invalid> {
    if text.eq_ignore_ascii_case("yes") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("no") {
        Ok(false)
    } else {
        Err(Invalid::NotYesNo)
    }
}

/// The text form of a yes/no value.
#[must_use]
pub fn show_yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// A decimal integer from `min` to `max`, both included.
pub fn integer(text: &str, min: i64, max: i64) -> Result<i64, Invalid> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Invalid::NotInteger);
    }
    // All digits: what does not parse is too large for the type, so also for the range.
    match text.parse::<i64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(Invalid::OutOfRange { min, max }),
    }
}

/// A size in bytes from `min` to `max`, both included. Units as in Redis: `1k` is 1000 bytes,
/// `1kb` is 1024, and so on for `m`, `mb`, `g`, `gb`, in any letter case.
pub fn memory(text: &str, min: u64, max: u64) -> Result<u64, Invalid> {
    let digits_len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(digits_len);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return Err(Invalid::NotMemory),
    };
    let value = digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .ok_or(Invalid::NotMemory)?;
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(Invalid::SizeOutOfRange { min, max })
    }
}

/// A limit on the memory of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMemory {
    /// So many bytes; 0 for no limit.
    Bytes(u64),
    /// So many hundredths of `maxmemory`.
    Percent(u8),
}

impl ClientMemory {
    /// With less, no client could send anything of size.
    const BYTES_MIN: u64 = 128 << 10;

    /// The limit in bytes; 0 for none.
    #[must_use]
    pub fn bytes(self, maxmemory: u64) -> u64 {
        let bytes = match self {
            ClientMemory::Bytes(bytes) => bytes,
            ClientMemory::Percent(percent) => {
                maxmemory / 100 * u64::from(percent) + maxmemory % 100 * u64::from(percent) / 100
            }
        };
        match bytes {
            0 => 0,
            bytes => bytes.max(Self::BYTES_MIN),
        }
    }
}

impl std::fmt::Display for ClientMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientMemory::Bytes(bytes) => write!(f, "{bytes}"),
            ClientMemory::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// A size, or a percentage such as `5%`.
pub fn client_memory(text: &str) -> Result<ClientMemory, Invalid> {
    let limit = match text.strip_suffix('%') {
        Some(percent) => integer(percent, 0, 100)
            .ok()
            .and_then(|percent| u8::try_from(percent).ok())
            .map(ClientMemory::Percent),
        None => memory(text, 0, i64::MAX.cast_unsigned())
            .ok()
            .map(ClientMemory::Bytes),
    };
    limit.ok_or(Invalid::NotMemoryOrPercent)
}

/// The position of `text` in `words`, in any letter case.
pub fn one_of(text: &str, words: &'static [&'static str]) -> Result<usize, Invalid> {
    words
        .iter()
        .position(|w| w.eq_ignore_ascii_case(text))
        .ok_or(Invalid::NotOneOf(words))
}

/// A file mode in octal, 0 to 777.
pub fn octal_mode(text: &str) -> Result<u32, Invalid> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Invalid::NotOctal);
    }
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(Invalid::NotOctal),
    }
}

/// A path: not empty and without NUL.
pub fn path(text: &str) -> Result<std::path::PathBuf, Invalid> {
    if text.is_empty() {
        return Err(Invalid::Empty);
    }
    optional_text(text).map(Into::into)
}

/// Any text without NUL; empty means "not set".
pub fn optional_text(text: &str) -> Result<String, Invalid> {
    if text.contains('\0') {
        return Err(Invalid::Nul);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario 184.
    #[test]
    fn yes_and_no_are_the_only_words_for_a_switch() {
        for good in ["yes", "YES", "Yes"] {
            assert_eq!(yes_no(good), Ok(true), "{good}");
        }
        assert_eq!(yes_no("nO"), Ok(false));
        for bad in ["true", "on", "1", "y", "", "yes ", "enabled"] {
            assert_eq!(yes_no(bad), Err(Invalid::NotYesNo), "{bad:?}");
        }
    }

    #[test]
    fn sizes_have_the_units_of_redis() {
        let all = |t| memory(t, 0, u64::MAX);
        assert_eq!(all("1k"), Ok(1000));
        assert_eq!(all("1KB"), Ok(1024));
        assert_eq!(all("3mb"), Ok(3 << 20));
        assert_eq!(all("2g"), Ok(2_000_000_000));
        assert_eq!(all("2GB"), Ok(2 << 30));
        assert_eq!(all("7b"), Ok(7));
        assert_eq!(all("18446744073709551615"), Ok(u64::MAX));
    }

    /// Scenario 185.
    #[test]
    fn sizes_that_overflow_or_make_no_sense_are_errors() {
        for bad in [
            "",
            "mb",
            "-1",
            "+1",
            "1.5gb",
            "100GiB",
            "1tb",
            " 1",
            "1 mb",
            "18446744073709551616",
            "18446744073709551615kb",
            "99999999999999999999gb",
        ] {
            assert_eq!(memory(bad, 0, u64::MAX), Err(Invalid::NotMemory), "{bad:?}");
        }
        assert_eq!(
            memory("1", 10, 20),
            Err(Invalid::SizeOutOfRange { min: 10, max: 20 })
        );
    }

    #[test]
    fn integers_outside_their_range_are_errors() {
        assert_eq!(integer("65535", 0, 65535), Ok(65535));
        assert_eq!(integer("-2", -5, 5), Ok(-2));
        for bad in ["65536", "-1", "99999999999999999999999"] {
            assert_eq!(
                integer(bad, 0, 65535),
                Err(Invalid::OutOfRange { min: 0, max: 65535 }),
                "{bad}"
            );
        }
        for bad in ["", "-", "1x", "0x10", "+5", "1e3"] {
            assert_eq!(integer(bad, 0, 65535), Err(Invalid::NotInteger), "{bad:?}");
        }
    }

    #[test]
    fn file_modes_are_octal() {
        assert_eq!(octal_mode("700"), Ok(0o700));
        assert_eq!(octal_mode("0"), Ok(0));
        for bad in ["", "8", "1777", "rwx", "-1"] {
            assert_eq!(octal_mode(bad), Err(Invalid::NotOctal), "{bad:?}");
        }
    }
}
