//! Random words of each kind: keys, values, numbers, options; mostly usual ones, now and then odd.
//!
//! There are few of each, so that commands meet each other's data. No word depends on the clock:
//! a relative time lies so far ahead, and is so rarely the same twice, that it does not matter when
//! two servers read their clocks.

use crate::lua;
use rand::RngExt as _;
use rand::rngs::StdRng;

/// Chance of an odd word, one in so many.
const ODD: u32 = 14;

/// A kind of words.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    /// A name of the keyspace, mostly one that the family likes.
    Key,
    /// A string value.
    Val,
    /// A string value that is not empty.
    Bytes,
    /// Seconds from now, far ahead.
    Far,
    /// Milliseconds from now, far ahead.
    FarMs,
    /// An id for a new entry of a stream, mostly above all earlier ones.
    NewId,
    /// A field of a hash, from the same pool as `field`.
    Field,
    /// An integer, from the same pool as `int`.
    Int,
    /// The SHA1 of a script, mostly of one that is sent, too.
    Sha,
    /// A script that answers a value.
    LuaValue,
    /// One of a list.
    Pool(&'static Pool),
}

/// Usual and odd words of one kind.
#[derive(Debug)]
pub struct Pool {
    name: &'static str,
    usual: &'static [&'static [u8]],
    odd: &'static [&'static [u8]],
}

macro_rules! pools {
    ($($name:literal: [$($usual:literal)*] odd [$($odd:literal)*],)*) => {
        &[$(Pool {
            name: $name,
            usual: &[$($usual),*],
            odd: &[$($odd),*],
        }),*]
    };
}

static POOLS: &[Pool] = pools! {
    "field": [b"f1" b"f2" b"f3" b"f4" b"f5" b"f6" b"f7" b"f8" b"f9" b"1" b"2" b"30"]
        odd [b"" b"\x00\xff" b"a field that is longer than any of the small forms takes, to be sure"],
    "member": [b"m1" b"m2" b"m3" b"m4" b"m5" b"m6" b"m7" b"m8" b"m9" b"m10" b"1" b"2" b"3" b"10" b"-5"]
        odd [b"" b"\x00\xff\r\n" b"70000" b"5000000000" b"01" b"9223372036854775807" b"-9223372036854775808"
            b"9223372036854775808" b"3.5" b"a member that is longer than any of the small forms takes, truly"],
    "int": [b"1" b"2" b"3" b"5" b"10" b"-1" b"-2" b"0" b"100"]
        odd [b"9223372036854775807" b"-9223372036854775808" b"9223372036854775808" b"-9223372036854775809"
            b"1.5" b"abc" b"" b" 1" b"+1" b"01" b"1 " b"1e3" b"0x1f" b"nan" b"inf" b"-0"
            b"2147483648" b"-2147483649" b"4294967296" b"99999999999999999999"],
    "index": [b"0" b"1" b"2" b"3" b"5" b"-1" b"-2" b"-3" b"-5" b"0" b"-1" b"10" b"100" b"-100"]
        odd [b"9223372036854775807" b"-9223372036854775808" b"9223372036854775808" b"x" b"" b"1.0" b"01" b"-0"],
    "count": [b"1" b"1" b"2" b"3" b"5" b"10" b"100"]
        odd [b"0" b"-1" b"-3" b"-100" b"9223372036854775807" b"-9223372036854775807" b"4294967296" b"x" b"" b"1.0"
            b"-9223372036854775808" b"9223372036854775808"],
    "all": [b"1000"] odd [b"1000000"],
    // Never a large negative one: so many repetitions would be sent.
    "pick": [b"1" b"2" b"3" b"5" b"-1" b"-2" b"-5" b"100" b"-30"] odd [b"0" b"x" b"" b"1.0" b"9223372036854775808" b"-9223372036854775808"],
    // Replaces a word of a request that was in order.
    "wrong": [b"0" b"-1" b"x" b"" b"1.5" b"nan" b"*" b"(1" b"[m1" b"-" b"+" b"9223372036854775807" b"-9223372036854775808" b"1-1" b"m1" b"f1"]
        odd [b"inf" b"1e400" b"99999999999999999999" b"\x00\xff"],
    "size": [b"0" b"1" b"2" b"3" b"5" b"10" b"100" b"0"] odd [b"-1" b"abc" b"" b"9223372036854775807" b"1e1"],
    "float": [b"1.5" b"-0.1" b"1e3" b"3.0e-2" b"0" b"100" b"-7.25" b"0.1" b"0.2" b"3" b"1"]
        odd [b"1e400" b"nan" b"inf" b"-inf" b"+inf" b"abc" b"" b" 1.5" b"1.5 " b"0x10" b"1e308" b"-1e308" b"5e-324"
            b"100000000" b"5e-10" b"12345678901234567890" b"1.7976931348623157e308" b"infinity" b"-0" b".5" b"5." b"1e" b"NaN"],
    "score": [b"0" b"1" b"2" b"3" b"3" b"1.5" b"-1" b"-2.5" b"10" b"100" b"0.1" b"1e3" b"2.5"]
        odd [b"inf" b"-inf" b"+inf" b"nan" b"abc" b"" b"1e400" b"-1e400" b"1e308" b"-1e308" b"0x10" b"9007199254740993"
            b"1e-7" b"123456789012" b"1e17" b"1e21" b"3.0000000000000004" b"-0" b"5e-324" b"0.30000000000000004" b"(1"],
    "scorebound": [b"0" b"1" b"2" b"3" b"-inf" b"+inf" b"inf" b"(1" b"(2" b"(3" b"1.5" b"-2" b"10" b"(-inf" b"(+inf" b"-inf" b"+inf"]
        odd [b"nan" b"(nan" b"abc" b"" b"(" b"((1" b"[1" b"1e400" b"(-1e308" b"-"],
    "lexbound": [b"-" b"+" b"[m1" b"(m1" b"[m3" b"(m3" b"[m5" b"(m9" b"[1" b"-" b"+" b"[" b"("]
        odd [b"m1" b"" b"+x" b"-x" b"[\x00\xff" b"(\xff" b"inf" b"[m10" b"((m"],
    "rangebound": [b"0" b"-1" b"1" b"5" b"-3" b"(1" b"2" b"[m1" b"[m5" b"-" b"+" b"-inf" b"+inf"] odd [b"abc" b"" b"nan" b"1.5"],
    "weight": [b"1" b"2" b"-1" b"0.5" b"0" b"3"] odd [b"inf" b"-inf" b"nan" b"abc" b"" b"1e308"],
    // Times that are over or no times: what ends soon would end between two looks at the clock.
    "past": [b"0" b"-1" b"-1000"] odd [b"abc" b"" b"9223372036854775807" b"-9223372036854775808" b"1.5" b" 1"],
    "at": [b"4102444800" b"4102444801" b"5000000000" b"4102444800"]
        odd [b"9223372036854775807" b"-1" b"0" b"1" b"abc" b"" b"9223372036854775" b"9223372036854776" b"-9223372036854775808" b"1000000000"],
    "atms": [b"4102444800000" b"4102444800001" b"5000000000000" b"4102444800000"]
        odd [b"9223372036854775807" b"-1" b"0" b"1" b"abc" b"" b"-9223372036854775808" b"9223372036854775808" b"1000000000000"],
    "db": [b"0" b"1" b"2" b"3"] odd [b"16" b"-1" b"abc" b"" b"4294967296"],
    "pattern": [b"*" b"k*" b"*1" b"m*" b"f?" b"[a-m]*" b"?1" b"*[0-9]" b"k[1-3]" b"m1" b"[^m]*" b"\\*"]
        odd [b"" b"[" b"[^" b"\\" b"[a-" b"***a" b"*\xff*" b"[z-a]?" b"a\\"],
    "type": [b"string" b"list" b"set" b"zset" b"hash" b"stream" b"STRING"] odd [b"nosuch" b""],
    "bound": [b"-" b"+" b"0" b"1" b"1-1" b"2-0" b"2" b"3-3" b"(1-1" b"(2" b"5-0" b"5" b"10" b"-" b"+"]
        odd [b"abc" b"1-" b"-1" b"(-" b"(+" b"" b"18446744073709551615-18446744073709551615"
            b"18446744073709551616" b"(18446744073709551615-18446744073709551615" b"(0-0" b"1-1-1" b"0-0"],
    "newid": [b"1-1" b"1-2" b"2-0" b"2-1" b"3-*" b"3-3" b"4-0" b"5-*" b"5-5" b"6" b"7-1" b"8-*" b"9-0" b"10-1" b"12-*" b"20-1" b"30-0"]
        odd [b"0-0" b"0" b"abc" b"1-" b"-1" b"" b"18446744073709551615-18446744073709551615" b"18446744073709551616-0" b"0-*" b"0-1" b"1-1-1" b"5-18446744073709551615"],
    "id": [b"0" b"1-1" b"1-2" b"2-0" b"2-1" b"3-0" b"3-3" b"4-0" b"5-0" b"5-5" b"6-0" b"7-1" b"9-0" b"10-1"]
        odd [b"abc" b"1-" b"-" b"+" b"" b"18446744073709551615-18446744073709551615" b"$" b">" b"0-0" b"(1-1"],
    "lastid": [b"0" b"$" b"1-1" b"3-0" b"5-5" b"0-0"] odd [b"abc" b"" b">" b"-" b"1-" b"18446744073709551615"],
    "readid": [b"0" b"0" b"1-1" b"2-1" b"$" b"5"] odd [b"abc" b">" b"" b"-" b"1-"],
    "groupid": [b">" b">" b">" b"0" b"0" b"2-0" b"3-3"] odd [b"$" b"abc" b"" b"-" b"18446744073709551615"],
    "group": [b"g1" b"g2" b"g1"] odd [b"" b"\x00g" b"nogroup"],
    "consumer": [b"c1" b"c2" b"c3"] odd [b"" b"\xffc"],
    "idle": [b"0" b"0" b"1000000000000"] odd [b"abc" b"-1" b"" b"1.5" b"9223372036854775808"],
    "bit": [b"0" b"1"] odd [b"2" b"-1" b"abc" b""],
    "bitoffset": [b"0" b"1" b"2" b"3" b"7" b"8" b"9" b"15" b"31" b"63" b"64" b"100" b"500"]
        odd [b"-1" b"4294967296" b"4294967295000" b"abc" b"" b"9223372036854775807" b"1.0" b"#1"],
    "fieldtype": [b"u8" b"i8" b"u4" b"i5" b"u16" b"i32" b"i64" b"u63" b"u1" b"i1" b"u12"]
        odd [b"u64" b"i65" b"i0" b"u0" b"x8" b"" b"u" b"8" b"u-1" b"i8a"],
    "fieldoffset": [b"0" b"1" b"8" b"7" b"13" b"64" b"100" b"#0" b"#1" b"#2" b"#5"]
        odd [b"-1" b"#-1" b"abc" b"" b"#" b"4294967296" b"#4294967296" b"9223372036854775807"],
    "fieldvalue": [b"0" b"1" b"-1" b"100" b"255" b"-128" b"1000" b"7"]
        odd [b"9223372036854775807" b"-9223372036854775808" b"abc" b"" b"9223372036854775808"],
    "element": [b"a" b"b" b"c" b"d" b"e" b"f" b"g" b"h" b"i" b"j" b"foo" b"bar" b"zap" b"hello"] odd [b"" b"\x00\xff"],
    "lon": [b"13.361389" b"15.087269" b"0" b"2.349014" b"-122.27652" b"12.5" b"180" b"-180" b"13.583333"]
        odd [b"181" b"-180.1" b"abc" b"" b"nan" b"inf" b"1e-320"],
    "lat": [b"38.115556" b"37.502669" b"0" b"48.864716" b"37.805186" b"41.9" b"85.05112878" b"-85.05112878" b"37.316667"]
        odd [b"86" b"-90" b"abc" b"" b"nan" b"inf"],
    "unit": [b"m" b"km" b"mi" b"ft" b"km" b"M" b"KM"] odd [b"yd" b"" b"kmm"],
    "radius": [b"100" b"200" b"500" b"1000" b"0" b"5000" b"20000" b"0.5" b"10"] odd [b"-1" b"abc" b"" b"nan" b"inf" b"1e400"],
    "place": [b"Palermo" b"Catania" b"Rome" b"Paris" b"Oakland" b"m1"] odd [b"nowhere" b"" b"\x00"],
    "sortby": [b"w_*" b"h_*->w" b"nokey" b"k*" b"w_*->" b"h_*->nofield"] odd [b"*" b"" b"->" b"*->w" b"w_*x->*"],
    "sortget": [b"#" b"w_*" b"h_*->w" b"v_*" b"nostar"] odd [b"*" b"" b"#x" b"h_*->"],
    "small": [b"1" b"2" b"3" b"4" b"5" b"m1" b"m2" b"10"] odd [b"abc" b"" b"1.5" b"inf" b"nan"],
    "side": [b"LEFT" b"RIGHT" b"left" b"right"] odd [b"MIDDLE" b""],
    // How long a request waits that somebody ends: longer than that can take, or for ever.
    "patience": [b"0" b"0" b"100" b"60.5" b"0.0"] odd [b"-1" b"abc" b"" b"nan" b"-0.5" b" 1"],
    "patiencems": [b"0" b"0" b"100000"] odd [b"-1" b"abc" b"" b"1.5"],
    // How long one waits that nobody answers.
    "brief": [b"0.001" b"0.003" b"0.005"] odd [b"-1" b"abc"],
    "briefms": [b"1" b"3" b"5"] odd [b"-1" b"abc"],
    "channel": [b"news.1" b"news.2" b"news.3" b"chat" b"x"] odd [b"" b"\x00\xff" b"news.*"],
    "chpattern": [b"news.*" b"*" b"n?ws.[12]" b"chat" b"x*"] odd [b"" b"[" b"\\x"],
    "function": [b"set" b"get" b"push" b"args" b"more" b"liar" b"fails" b"move" b"resp"] odd [b"" b"nosuch" b"SET"],
    "libname": [b"one" b"two" b"three" b"four" b"five"] odd [b"" b"nosuch" b"ONE"],
    "libpattern": [b"*" b"t*" b"one" b"f?ur"] odd [b"" b"nosuch" b"T*"],
    "protocol": [b"2" b"3"] odd [b"4" b"x" b""],
    "lsn": [b"0" b"1" b"2" b"3"] odd [b"-1" b"x"],
    "payload": [b"\x00\x05hello\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00" b"" b"\x00\x03abc\x09\x00" b"abcdefghijklmnop"] odd [b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"],
    "option": [b"NX" b"XX" b"GT" b"LT" b"CH" b"INCR" b"GET" b"EX" b"PX" b"KEEPTTL" b"COUNT" b"LIMIT" b"WITHSCORES" b"WITHSCORE"
        b"REV" b"BYSCORE" b"AGGREGATE" b"WEIGHTS" b"MAXLEN" b"MINID" b"STREAMS" b"GROUP" b"NOACK" b"REPLACE"
        b"ABSTTL" b"DB" b"STORE" b"BY" b"ASC" b"DESC" b"ALPHA" b"BIT" b"BYTE" b"MATCH" b"TYPE" b"FIELDS" b"LEFT" b"RIGHT"
        b"BEFORE" b"AFTER" b"~" b"=" b"*" b"MAX" b"MIN" b"SUM" b"WITHVALUES" b"JUSTID" b"FORCE" b"RANK"] odd [b""],
};

static KEYS: &[&[u8]] = &[
    b"k1", b"k2", b"k3", b"k4", b"k5", b"k6", b"k7", b"k8", b"k9", b"k10", b"k11", b"k12", b"{t}1",
    b"{t}2",
];
static ODD_KEYS: &[&[u8]] = &[
    b"",
    b"\x00\xff",
    b"nokey",
    b"a longer key than the others, with spaces",
    b"{}x",
    b"12",
];
/// Values that SORT finds by its patterns.
static SORT_KEYS: &[&[u8]] = &[
    b"w_1", b"w_2", b"w_3", b"w_m1", b"h_1", b"h_2", b"h_m1", b"v_1", b"v_2",
];

fn pool(name: &str) -> Option<&'static Pool> {
    POOLS.iter().find(|pool| pool.name == name)
}

impl Word {
    /// The kind called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Word> {
        match name {
            "key" => Some(Word::Key),
            "val" => Some(Word::Val),
            "far" => Some(Word::Far),
            "farms" => Some(Word::FarMs),
            "bytes" => Some(Word::Bytes),
            "nextid" => Some(Word::NewId),
            "sha" => Some(Word::Sha),
            "luavalue" => Some(Word::LuaValue),
            "lua" => Some(Word::Pool(&SCRIPT_POOL)),
            "publua" => Some(Word::Pool(&PUBLISHING_POOL)),
            "library" => Some(Word::Pool(&LIBRARY_POOL)),
            "sortkey" => Some(Word::Pool(&SORT_KEY_POOL)),
            other => pool(other).map(Word::Pool),
        }
    }
}

static SORT_KEY_POOL: Pool = Pool {
    name: "sortkey",
    usual: SORT_KEYS,
    odd: SORT_KEYS,
};

static SCRIPT_POOL: Pool = Pool {
    name: "lua",
    usual: lua::SCRIPTS,
    odd: lua::ODD_SCRIPTS,
};
static PUBLISHING_POOL: Pool = Pool {
    name: "publua",
    usual: lua::PUBLISHING,
    odd: lua::PUBLISHING,
};
static LIBRARY_POOL: Pool = Pool {
    name: "library",
    usual: lua::LIBRARIES,
    odd: lua::ODD_LIBRARIES,
};

/// The source of the words of one sequence.
#[derive(Debug)]
pub struct Words<'a> {
    /// Decides everything.
    pub rng: &'a mut StdRng,
    /// First of the keys that are liked now.
    liked_from: usize,
    first_key: Option<Vec<u8>>,
    /// Rises with every [`Word::NewId`].
    sequence: u64,
}

impl<'a> Words<'a> {
    /// Words for a family that likes the keys from the number `liked_from` on.
    pub fn new(rng: &'a mut StdRng, liked_from: usize) -> Words<'a> {
        Words {
            rng,
            liked_from,
            first_key: None,
            sequence: 0,
        }
    }

    /// Changes which keys are liked.
    pub fn like(&mut self, from: usize) {
        self.liked_from = from;
    }

    /// Begins a step.
    pub fn forget_first_key(&mut self) {
        self.first_key = None;
    }

    /// The first key of this step, chosen now if there was none.
    pub fn first_key(&mut self) -> Vec<u8> {
        match &self.first_key {
            Some(key) => key.clone(),
            None => self.key(),
        }
    }

    /// One word.
    pub fn word(&mut self, word: Word) -> Vec<u8> {
        match word {
            Word::Key => self.key(),
            Word::Val => self.value(),
            Word::Bytes => {
                let mut value = self.value();
                value.push(b'.');
                value
            }
            Word::Far => self
                .rng
                .random_range(1_000_000..900_000_000_u64)
                .to_string()
                .into_bytes(),
            Word::FarMs => self
                .rng
                .random_range(1_000_000_000..900_000_000_000_u64)
                .to_string()
                .into_bytes(),
            Word::NewId => {
                self.sequence += 1;
                match self.rng.random_range(0..4) {
                    0 => self.of_named("newid"),
                    1 => format!("{}-*", self.sequence).into_bytes(),
                    2 => format!("{}-{}", self.sequence, self.rng.random_range(0..3)).into_bytes(),
                    _ => self.sequence.to_string().into_bytes(),
                }
            }
            Word::Field => self.of_named("field"),
            Word::Int => self.of_named("int"),
            Word::Sha => {
                let sha = lua::sha(&self.of(&SCRIPT_POOL));
                match self.rng.random_range(0..20) {
                    0 => sha.to_ascii_uppercase(),
                    1 => sha[..39].to_vec(),
                    _ => sha,
                }
            }
            Word::LuaValue => lua::value(self.rng),
            Word::Pool(pool) => self.of(pool),
        }
    }

    fn of_named(&mut self, name: &str) -> Vec<u8> {
        pool(name).map(|pool| self.of(pool)).unwrap_or_default()
    }

    fn of(&mut self, pool: &Pool) -> Vec<u8> {
        let is_odd = self.rng.random_range(0..ODD) == 0;
        self.pick(if is_odd { pool.odd } else { pool.usual })
    }

    fn pick(&mut self, words: &[&[u8]]) -> Vec<u8> {
        words[self.rng.random_range(0..words.len())].to_vec()
    }

    fn key(&mut self) -> Vec<u8> {
        let key = match self.rng.random_range(0..40) {
            0 => self.pick(ODD_KEYS),
            1..8 => self.pick(KEYS),
            _ => {
                let offset = self.rng.random_range(0..4);
                KEYS[(self.liked_from + offset) % KEYS.len()].to_vec()
            }
        };
        self.first_key.get_or_insert_with(|| key.clone());
        key
    }

    fn value(&mut self) -> Vec<u8> {
        let length = self.rng.random_range(0..60);
        match self.rng.random_range(0..30) {
            0..8 => self.rng.random_range(-1000..1000).to_string().into_bytes(),
            8..10 => self.of_named("int"),
            10..12 => self.of_named("float"),
            12..14 => b"\x00\xff\r\n".repeat(length / 4),
            14..16 => "long ".repeat(length).into_bytes(),
            16 => Vec::new(),
            17 => vec![b'x'; length * 150],
            18..21 => self.of_named("member"),
            _ => format!("value{length}").into_bytes(),
        }
    }
}
