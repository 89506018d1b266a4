//! The few byte patterns that everything written in RESP is made of.
//!
//! Most lengths and integers have one or two digits, so these are written as one fixed array
//! rather than formatted.

use bytes::BufMut;

/// A type byte, a length and CRLF.
#[inline]
pub(crate) fn header<B: BufMut>(out: &mut B, kind: u8, len: usize) {
    #[expect(clippy::cast_possible_truncation, reason = "one decimal digit")]
    let digit = |value: usize| b'0' + (value % 10) as u8;
    match len {
        0..=9 => out.put_slice(&[kind, digit(len), b'\r', b'\n']),
        10..=99 => out.put_slice(&[kind, digit(len / 10), digit(len), b'\r', b'\n']),
        _ => line(out, kind, itoa::Buffer::new().format(len).as_bytes()),
    }
}

/// Bytes of a [`header`] with a length of one or two digits; `None` for a longer one.
#[inline]
pub(crate) fn short_header_len(len: usize) -> Option<usize> {
    match len {
        0..=9 => Some(4),
        10..=99 => Some(5),
        _ => None,
    }
}

/// Where the [`header`] with this length ends that begins at `at` of `buf`; `None` if what stands
/// there is something else, or if the length has more than two digits.
#[inline]
pub(crate) fn skip_header(buf: &[u8], at: usize, kind: u8, len: usize) -> Option<usize> {
    #[expect(clippy::cast_possible_truncation, reason = "one decimal digit")]
    let digit = |value: usize| b'0' + (value % 10) as u8;
    let here = buf.get(at..)?;
    let is_here = match len {
        0..=9 => here.first_chunk() == Some(&[kind, digit(len), b'\r', b'\n']),
        10..=99 => {
            let expected = [kind, digit(len / 10), digit(len), b'\r', b'\n'];
            here.first_chunk() == Some(&expected)
        }
        _ => false,
    };
    Some(at + short_header_len(len)?).filter(|_| is_here)
}

/// A type byte, an integer and CRLF.
#[inline]
pub(crate) fn integer<B: BufMut>(out: &mut B, kind: u8, value: i64) {
    match usize::try_from(value) {
        Ok(len) => header(out, kind, len),
        Err(_) => line(out, kind, itoa::Buffer::new().format(value).as_bytes()),
    }
}

/// A type byte, a text that fits on a line, and CRLF.
pub(crate) fn line<B: BufMut>(out: &mut B, kind: u8, text: &[u8]) {
    out.put_u8(kind);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

/// A type byte, the length of `bytes` and the bytes themselves.
#[inline]
pub(crate) fn blob<B: BufMut>(out: &mut B, kind: u8, bytes: &[u8]) {
    header(out, kind, bytes.len());
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

/// A request: an array of bulk strings.
#[inline]
pub(crate) fn request<'a, B: BufMut>(out: &mut B, parts: impl ExactSizeIterator<Item = &'a [u8]>) {
    header(out, b'*', parts.len());
    for part in parts {
        blob(out, b'$', part);
    }
}

/// An upper bound of what [`blob`] or a header adds to the bytes themselves: a type byte, the
/// digits of a length and two CRLF.
pub(crate) const BLOB_OVERHEAD: usize = 1 + 20 + 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_the_same_at_every_width() {
        for len in (0..1100).chain([9999, 10_000, 1 << 29, usize::MAX]) {
            let mut out = Vec::new();
            header(&mut out, b'$', len);
            assert_eq!(out, format!("${len}\r\n").as_bytes());
        }
        for value in [0, 7, 10, 99, 100, -1, -10, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            integer(&mut out, b':', value);
            assert_eq!(out, format!(":{value}\r\n").as_bytes());
        }
    }
}
