//! JSON to Lua values.
//!
//! The text counts as ended at its first zero byte, as in C. Apart from that every token and every
//! error is found where Redis finds it.

use super::{ARRAY_METATABLE, DEPTH_MAX, JsonConfig};
use crate::raised::error_here;
use mlua::{Lua, Table, Value};

/// The value of the JSON in `text`.
pub(super) fn decode(lua: &Lua, config: &JsonConfig, text: &[u8]) -> mlua::Result<Value> {
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        let problem = "JSON parser does not support UTF-16 or UTF-32";
        return Err(error_here(lua, problem));
    }
    let mark = match config.mark_arrays {
        true => Some(lua.named_registry_value(ARRAY_METATABLE)?),
        false => None,
    };
    let mut decoder = Decoder {
        lua,
        config,
        text,
        at: 0,
        mark,
        depth: 0,
    };
    let first = decoder.next();
    let value = decoder.value(first)?;
    let last = decoder.next();
    match last.kind {
        Kind::End => Ok(value),
        _ => Err(decoder.unexpected("the end", &last)),
    }
}

enum Kind {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

struct Token {
    kind: Kind,
    /// Where it begins, or where an error is.
    at: usize,
}

struct Decoder<'a> {
    lua: &'a Lua,
    config: &'a JsonConfig,
    text: &'a [u8],
    at: usize,
    /// The metatable that arrays get.
    mark: Option<Table>,
    depth: usize,
}

impl Decoder<'_> {
    fn unexpected(&self, expected: &str, token: &Token) -> mlua::Error {
        let found = match token.kind {
            Kind::ObjectBegin => "T_OBJ_BEGIN",
            Kind::ObjectEnd => "T_OBJ_END",
            Kind::ArrayBegin => "T_ARR_BEGIN",
            Kind::ArrayEnd => "T_ARR_END",
            Kind::String(_) => "T_STRING",
            Kind::Number(_) => "T_NUMBER",
            Kind::Boolean(_) => "T_BOOLEAN",
            Kind::Null => "T_NULL",
            Kind::Colon => "T_COLON",
            Kind::Comma => "T_COMMA",
            Kind::End => "T_END",
            Kind::Error(problem) => problem,
        };
        let at = token.at + 1;
        let problem = format!("Expected {expected} but found {found} at character {at}");
        error_here(self.lua, problem)
    }

    fn value(&mut self, token: Token) -> mlua::Result<Value> {
        match token.kind {
            Kind::String(text) => Ok(Value::String(self.lua.create_string(text)?)),
            Kind::Number(number) => Ok(Value::Number(number)),
            Kind::Boolean(value) => Ok(Value::Boolean(value)),
            Kind::Null => Ok(Value::NULL),
            Kind::ObjectBegin => self.object(),
            Kind::ArrayBegin => self.array(),
            _ => Err(self.unexpected("value", &token)),
        }
    }

    fn descend(&mut self) -> mlua::Result<()> {
        self.depth += 1;
        let depth_max = usize::try_from(self.config.decode_max_depth).unwrap_or(0);
        if self.depth <= depth_max.min(DEPTH_MAX) {
            return Ok(());
        }
        let problem = format!(
            "Found too many nested data structures ({}) at character {}",
            self.depth, self.at
        );
        Err(error_here(self.lua, problem))
    }

    fn object(&mut self) -> mlua::Result<Value> {
        self.descend()?;
        let table = self.lua.create_table()?;
        let mut token = self.next();
        if !matches!(token.kind, Kind::ObjectEnd) {
            loop {
                let Kind::String(key) = token.kind else {
                    return Err(self.unexpected("object key string", &token));
                };
                let key = self.lua.create_string(key)?;
                token = self.next();
                if !matches!(token.kind, Kind::Colon) {
                    return Err(self.unexpected("colon", &token));
                }
                let first = self.next();
                table.raw_set(key, self.value(first)?)?;
                token = self.next();
                match token.kind {
                    Kind::ObjectEnd => break,
                    Kind::Comma => token = self.next(),
                    _ => return Err(self.unexpected("comma or object end", &token)),
                }
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    fn array(&mut self) -> mlua::Result<Value> {
        self.descend()?;
        let table = self.lua.create_table()?;
        if let Some(mark) = &self.mark {
            table.set_metatable(Some(mark.clone()))?;
        }
        let mut token = self.next();
        if !matches!(token.kind, Kind::ArrayEnd) {
            for index in 1.. {
                table.raw_set(index, self.value(token)?)?;
                token = self.next();
                match token.kind {
                    Kind::ArrayEnd => break,
                    Kind::Comma => token = self.next(),
                    _ => return Err(self.unexpected("comma or array end", &token)),
                }
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    /// The byte `ahead` of the position; 0 at the end.
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn rest(&self) -> &[u8] {
        &self.text[self.at.min(self.text.len())..]
    }

    fn error(&self, problem: &'static str) -> Token {
        Token {
            kind: Kind::Error(problem),
            at: self.at,
        }
    }

    fn next(&mut self) -> Token {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let at = self.at;
        let kind = match self.peek(0) {
            0 => {
                return Token {
                    kind: Kind::End,
                    at,
                };
            }
            b'{' => Kind::ObjectBegin,
            b'}' => Kind::ObjectEnd,
            b'[' => Kind::ArrayBegin,
            b']' => Kind::ArrayEnd,
            b',' => Kind::Comma,
            b':' => Kind::Colon,
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => {
                if !self.config.decode_invalid_numbers && self.is_invalid_number() {
                    return self.error("invalid number");
                }
                return self.number();
            }
            _ => return self.word(),
        };
        self.at += 1;
        Token { kind, at }
    }

    fn word(&mut self) -> Token {
        let at = self.at;
        for (word, kind) in [
            ("true", Kind::Boolean(true)),
            ("false", Kind::Boolean(false)),
            ("null", Kind::Null),
        ] {
            if self.rest().starts_with(word.as_bytes()) {
                self.at += word.len();
                return Token { kind, at };
            }
        }
        let may_be_number = matches!(self.peek(0), b'+' | b'i' | b'I' | b'n' | b'N');
        if may_be_number && self.config.decode_invalid_numbers && self.is_invalid_number() {
            return self.number();
        }
        self.error("invalid token")
    }

    /// Whether a number begins here that C reads and JSON does not have.
    fn is_invalid_number(&self) -> bool {
        if self.peek(0) == b'+' {
            return true;
        }
        let sign = usize::from(self.peek(0) == b'-');
        let (first, second) = (self.peek(sign), self.peek(sign + 1));
        if first == b'0' {
            return second | 0x20 == b'x' || second.is_ascii_digit();
        }
        let word = self.rest().get(sign..sign + 3).unwrap_or_default();
        word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")
    }

    fn number(&mut self) -> Token {
        let at = self.at;
        match read_number(self.rest()) {
            Some((number, len)) => {
                self.at += len;
                let kind = Kind::Number(number);
                Token { kind, at }
            }
            None => self.error("invalid number"),
        }
    }

    fn string(&mut self) -> Token {
        let begin = self.at;
        self.at += 1;
        let mut text = Vec::new();
        loop {
            match self.peek(0) {
                0 => return self.error("unexpected end of string"),
                b'"' => break,
                b'\\' => {
                    let byte = match self.peek(1) {
                        byte @ (b'"' | b'\\' | b'/') => byte,
                        b'b' => 0x08,
                        b'f' => 0x0c,
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'u' => match self.code_point() {
                            Some((code_point, len)) => {
                                let mut utf8 = [0; 4];
                                text.extend_from_slice(
                                    code_point.encode_utf8(&mut utf8).as_bytes(),
                                );
                                self.at += len;
                                continue;
                            }
                            None => return self.error("invalid unicode escape code"),
                        },
                        _ => return self.error("invalid escape code"),
                    };
                    text.push(byte);
                    self.at += 2;
                }
                byte => {
                    text.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        Token {
            kind: Kind::String(text),
            at: begin,
        }
    }

    /// The escaped code point at the position, and the length of its one or two escapes.
    fn code_point(&self) -> Option<(char, usize)> {
        let first = self.hex(2)?;
        if first & 0xf800 != 0xd800 {
            return Some((char::from_u32(first)?, 6));
        }
        let follows = self.peek(6) == b'\\' && self.peek(7) == b'u';
        if first & 0x400 != 0 || !follows {
            return None;
        }
        let second = self.hex(8)?;
        if second & 0xfc00 != 0xdc00 {
            return None;
        }
        let code_point = ((first & 0x3ff) << 10 | second & 0x3ff) + 0x1_0000;
        Some((char::from_u32(code_point)?, 12))
    }

    /// Four hexadecimal digits.
    fn hex(&self, ahead: usize) -> Option<u32> {
        (ahead..ahead + 4).try_fold(0, |value, ahead| {
            let digit = char::from(self.peek(ahead)).to_digit(16)?;
            Some(value << 4 | digit)
        })
    }
}

/// The number at the start of `text` as `strtod` reads it, and its length.
fn read_number(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let is_negative = text.first() == Some(&b'-');
    let (value, len) = read_unsigned(&text[sign..])?;
    Some((if is_negative { -value } else { value }, sign + len))
}

fn read_unsigned(text: &[u8]) -> Option<(f64, usize)> {
    let begins_with = |word: &[u8]| {
        let begin = text.get(..word.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(word))
    };
    if begins_with(b"infinity") {
        return Some((f64::INFINITY, 8));
    }
    if begins_with(b"inf") {
        return Some((f64::INFINITY, 3));
    }
    if begins_with(b"nan") {
        let is_inside = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let inside = text[3..]
            .iter()
            .skip(1)
            .take_while(|b| is_inside(b))
            .count();
        let is_long = text.get(3) == Some(&b'(') && text.get(4 + inside) == Some(&b')');
        return Some((f64::NAN, if is_long { 5 + inside } else { 3 }));
    }
    if begins_with(b"0x")
        && let Some((value, len)) = read_hexadecimal(&text[2..])
    {
        return Some((value, 2 + len));
    }
    let digits = |from: usize| {
        text[from..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let whole = digits(0);
    let mut len = whole;
    let mut fraction = 0;
    if text.get(len) == Some(&b'.') {
        fraction = digits(len + 1);
        len += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    if matches!(text.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'+' | b'-')));
        let exponent = text
            .get(len + 1 + sign)
            .map_or(0, |_| digits(len + 1 + sign));
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    let value = std::str::from_utf8(&text[..len]).ok()?.parse().ok()?;
    Some((value, len))
}

/// What follows `0x`: digits, a fraction and a power of two.
fn read_hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    let digit = |at: usize| char::from(text.get(at).copied().unwrap_or(0)).to_digit(16);
    let (mut value, mut scale, mut len, mut seen) = (0.0_f64, 0_i32, 0, false);
    while let Some(digit) = digit(len) {
        value = value * 16.0 + f64::from(digit);
        (len, seen) = (len + 1, true);
    }
    if text.get(len) == Some(&b'.') && (seen || digit(len + 1).is_some()) {
        len += 1;
        while let Some(digit) = digit(len) {
            value = value * 16.0 + f64::from(digit);
            scale = scale.saturating_sub(4);
            (len, seen) = (len + 1, true);
        }
    }
    if !seen {
        return None;
    }
    if matches!(text.get(len), Some(b'p' | b'P')) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'+' | b'-')));
        let from = len + 1 + sign;
        let digits = text.get(from..).unwrap_or_default();
        let digits = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits > 0 {
            let power = text[from..from + digits].iter().fold(0_i32, |power, byte| {
                power
                    .saturating_mul(10)
                    .saturating_add(i32::from(byte - b'0'))
            });
            let is_negative = text.get(len + 1) == Some(&b'-');
            let power = if is_negative { -power } else { power };
            scale = scale.saturating_add(power);
            len = from + digits;
        }
    }
    Some((value * 2.0_f64.powi(scale), len))
}
