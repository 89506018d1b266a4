//! Arguments of CLIENT LIST, CLIENT KILL, CLIENT SETNAME and CLIENT SETINFO: parsed and checked
//! without I/O, with Redis's error texts.

use super::handle::{ClientHandle, Flags};

/// Why arguments are refused. `Display` is the reply, with its `ERR`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Unknown or incomplete option.
    #[error("ERR syntax error")]
    Syntax,
    /// TYPE with an unknown word.
    #[error("ERR Unknown client type '{0}'")]
    UnknownType(String),
    /// KILL ID with something that is no positive integer.
    #[error("ERR client-id should be greater than 0")]
    KillId,
    /// LIST ID with something that is no integer.
    #[error("ERR Invalid client ID")]
    ListId,
    /// KILL USER with an unknown user.
    #[error("ERR No such user '{0}'")]
    NoSuchUser(String),
    /// KILL MAXAGE with something that is no integer.
    #[error("ERR maxage is not an integer or out of range")]
    MaxAge,
    /// KILL MAXAGE with zero or less.
    #[error("ERR maxage should be greater than 0")]
    MaxAgeZero,
    /// KILL addr without such a client.
    #[error("ERR No such client")]
    NoSuchClient,
    /// SETNAME, or HELLO SETNAME.
    #[error("ERR Client names cannot contain spaces, newlines or special characters.")]
    Name,
    /// SETINFO with a bad value.
    #[error("ERR {0} cannot contain spaces, newlines or special characters.")]
    LibAttribute(&'static str),
    /// SETINFO with an unknown attribute.
    #[error("ERR Unrecognized option '{0}'")]
    UnknownAttribute(String),
}

/// TYPE of CLIENT LIST and CLIENT KILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of CLIENT LIST TYPE")]
pub enum ClientType {
    Normal,
    Master,
    Replica,
    PubSub,
}

impl ClientType {
    fn parse(word: &[u8]) -> Result<ClientType, ClientError> {
        match word.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(ClientType::Normal),
            b"master" | b"primary" => Ok(ClientType::Master),
            b"replica" | b"slave" => Ok(ClientType::Replica),
            b"pubsub" => Ok(ClientType::PubSub),
            _ => Err(ClientError::UnknownType(
                String::from_utf8_lossy(word).into_owned(),
            )),
        }
    }

    /// The type of a client, as in Redis: a replica first, then pub/sub, else normal.
    #[must_use]
    pub fn of(client: &ClientHandle) -> ClientType {
        if client.has_flag(Flags::Replica) && !client.has_flag(Flags::Monitor) {
            ClientType::Replica
        } else if client.has_flag(Flags::PubSub) {
            ClientType::PubSub
        } else {
            ClientType::Normal
        }
    }
}

/// Which clients CLIENT LIST prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFilter {
    /// All.
    All,
    /// Those of one type.
    Type(ClientType),
    /// Those with one of these ids.
    Ids(Vec<i64>),
}

impl ListFilter {
    /// Reads what follows `CLIENT LIST`.
    ///
    /// # Errors
    /// An unknown or incomplete option, type or id.
    pub fn parse(args: &[&[u8]]) -> Result<ListFilter, ClientError> {
        match args {
            [] => Ok(ListFilter::All),
            [option, word] if option.eq_ignore_ascii_case(b"type") => {
                Ok(ListFilter::Type(ClientType::parse(word)?))
            }
            [option, ids @ ..] if option.eq_ignore_ascii_case(b"id") && !ids.is_empty() => ids
                .iter()
                .map(|id| integer(id).ok_or(ClientError::ListId))
                .collect::<Result<_, _>>()
                .map(ListFilter::Ids),
            _ => Err(ClientError::Syntax),
        }
    }

    /// Whether `client` is printed.
    #[must_use]
    pub fn matches(&self, client: &ClientHandle) -> bool {
        match self {
            ListFilter::All => true,
            ListFilter::Type(kind) => ClientType::of(client) == *kind,
            ListFilter::Ids(ids) => ids
                .iter()
                .any(|&id| u64::try_from(id).is_ok_and(|id| id == client.id)),
        }
    }
}

/// Which clients CLIENT KILL closes: those that pass every condition that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillFilter {
    /// ID.
    pub id: Option<u64>,
    /// ADDR.
    pub addr: Option<String>,
    /// LADDR.
    pub laddr: Option<String>,
    /// TYPE.
    pub kind: Option<ClientType>,
    /// USER.
    pub user: Option<String>,
    /// MAXAGE, in seconds: older than that.
    pub max_age_s: Option<u64>,
    /// SKIPME: the caller stays.
    pub skip_me: bool,
}

impl Default for KillFilter {
    fn default() -> KillFilter {
        KillFilter {
            id: None,
            addr: None,
            laddr: None,
            kind: None,
            user: None,
            max_age_s: None,
            skip_me: true,
        }
    }
}

impl KillFilter {
    /// Whether `client` is to be closed.
    #[must_use]
    pub fn matches(&self, client: &ClientHandle, caller: u64, now_ms: u64) -> bool {
        !(self.skip_me && client.id == caller)
            && self.id.is_none_or(|id| id == client.id)
            && self.addr.as_ref().is_none_or(|a| *a == client.peer.addr)
            && self.laddr.as_ref().is_none_or(|a| *a == client.peer.laddr)
            && self.kind.is_none_or(|k| k == ClientType::of(client))
            && self.user.as_ref().is_none_or(|u| *u == client.user())
            && self
                .max_age_s
                .is_none_or(|s| client.age_ms(now_ms) / 1000 >= s)
    }
}

/// CLIENT KILL in its two forms. They differ in the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KillRequest {
    /// `CLIENT KILL addr`: OK, or [`ClientError::NoSuchClient`] if nobody matches. The caller
    /// may name itself.
    Old(KillFilter),
    /// `CLIENT KILL option value ...`: the number of clients.
    New(KillFilter),
}

impl KillRequest {
    /// Reads what follows `CLIENT KILL`.
    ///
    /// # Errors
    /// An unknown or incomplete option, or a bad value.
    pub fn parse(
        args: &[&[u8]],
        user_exists: impl Fn(&str) -> bool,
    ) -> Result<KillRequest, ClientError> {
        if let [addr] = args {
            return Ok(KillRequest::Old(KillFilter {
                addr: Some(String::from_utf8_lossy(addr).into_owned()),
                skip_me: false,
                ..KillFilter::default()
            }));
        }
        if args.is_empty() {
            return Err(ClientError::Syntax);
        }
        let mut filter = KillFilter::default();
        for pair in args.chunks(2) {
            let [option, value] = pair else {
                return Err(ClientError::Syntax);
            };
            let text = || String::from_utf8_lossy(value).into_owned();
            match option.to_ascii_lowercase().as_slice() {
                b"id" => {
                    let id = integer(value).filter(|&id| id > 0);
                    let id = id.and_then(|id| u64::try_from(id).ok());
                    filter.id = Some(id.ok_or(ClientError::KillId)?);
                }
                b"maxage" => {
                    let age = integer(value).ok_or(ClientError::MaxAge)?;
                    let age = u64::try_from(age).ok().filter(|&age| age > 0);
                    filter.max_age_s = Some(age.ok_or(ClientError::MaxAgeZero)?);
                }
                b"type" => filter.kind = Some(ClientType::parse(value)?),
                b"addr" => filter.addr = Some(text()),
                b"laddr" => filter.laddr = Some(text()),
                b"user" => {
                    let user = text();
                    if !user_exists(&user) {
                        return Err(ClientError::NoSuchUser(user));
                    }
                    filter.user = Some(user);
                }
                b"skipme" => {
                    filter.skip_me = match value.to_ascii_lowercase().as_slice() {
                        b"yes" => true,
                        b"no" => false,
                        _ => return Err(ClientError::Syntax),
                    }
                }
                _ => return Err(ClientError::Syntax),
            }
        }
        Ok(KillRequest::New(filter))
    }
}

/// An attribute of CLIENT SETINFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LibAttribute {
    /// `LIB-NAME`.
    Name,
    /// `LIB-VER`.
    Version,
}

/// Checks the argument of CLIENT SETNAME (empty takes the name away).
///
/// # Errors
/// [`ClientError::Name`] unless all bytes are visible ASCII.
pub fn check_name(name: &[u8]) -> Result<&str, ClientError> {
    visible(name).ok_or(ClientError::Name)
}

/// Checks the arguments of CLIENT SETINFO.
///
/// # Errors
/// An unknown attribute, or a value that is not visible ASCII.
pub fn check_lib_attribute<'a>(
    attribute: &[u8],
    value: &'a [u8],
) -> Result<(LibAttribute, &'a str), ClientError> {
    let (which, word) = match attribute.to_ascii_lowercase().as_slice() {
        b"lib-name" => (LibAttribute::Name, "lib-name"),
        b"lib-ver" => (LibAttribute::Version, "lib-ver"),
        _ => {
            let name = String::from_utf8_lossy(attribute).into_owned();
            return Err(ClientError::UnknownAttribute(name));
        }
    };
    let value = visible(value).ok_or(ClientError::LibAttribute(word))?;
    Ok((which, value))
}

/// As text if every byte is visible ASCII, so that a line of CLIENT LIST can be split again.
fn visible(bytes: &[u8]) -> Option<&str> {
    bytes
        .iter()
        .all(|b| (b'!'..=b'~').contains(b))
        .then(|| std::str::from_utf8(bytes).ok())
        .flatten()
}

fn integer(word: &[u8]) -> Option<i64> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&[u8]> {
        text.split_ascii_whitespace().map(str::as_bytes).collect()
    }

    fn kill(text: &str) -> Result<KillRequest, ClientError> {
        KillRequest::parse(&words(text), |user| user == "default")
    }

    #[test]
    fn client_list_errors_are_those_of_redis() {
        for (args, expected) in [
            ("foo", "ERR syntax error"),
            ("type", "ERR syntax error"),
            ("type foo", "ERR Unknown client type 'foo'"),
            ("id", "ERR syntax error"),
            ("id a", "ERR Invalid client ID"),
        ] {
            let error = ListFilter::parse(&words(args)).unwrap_err();
            assert_eq!(error.to_string(), expected, "{args}");
        }
        assert_eq!(ListFilter::parse(&[]), Ok(ListFilter::All));
        assert_eq!(
            ListFilter::parse(&words("ID 0 -3 7")),
            Ok(ListFilter::Ids(vec![0, -3, 7]))
        );
        assert_eq!(
            ListFilter::parse(&words("TYPE slave")),
            Ok(ListFilter::Type(ClientType::Replica))
        );
    }

    #[test]
    fn client_kill_errors_are_those_of_redis() {
        for (args, expected) in [
            ("foo bar", "ERR syntax error"),
            ("id 1 type", "ERR syntax error"),
            ("id abc", "ERR client-id should be greater than 0"),
            ("id 0", "ERR client-id should be greater than 0"),
            ("id -1", "ERR client-id should be greater than 0"),
            ("type foo", "ERR Unknown client type 'foo'"),
            ("skipme foo", "ERR syntax error"),
            ("user nobody", "ERR No such user 'nobody'"),
        ] {
            assert_eq!(kill(args).unwrap_err().to_string(), expected, "{args}");
        }
    }

    #[test]
    fn both_forms_of_client_kill_are_read() {
        match kill("1.2.3.4:5").unwrap() {
            KillRequest::Old(f) => {
                assert_eq!(f.addr.as_deref(), Some("1.2.3.4:5"));
                assert!(!f.skip_me);
            }
            other => panic!("{other:?}"),
        }
        let expected = KillFilter {
            id: Some(7),
            addr: Some("a:1".to_owned()),
            laddr: Some("b:2".to_owned()),
            kind: Some(ClientType::PubSub),
            user: Some("default".to_owned()),
            max_age_s: Some(60),
            skip_me: false,
        };
        assert_eq!(
            kill("ID 7 ADDR a:1 LADDR b:2 TYPE pubsub USER default MAXAGE 60 SKIPME no").unwrap(),
            KillRequest::New(expected)
        );
    }

    #[test]
    fn names_are_visible_ascii() {
        assert_eq!(check_name(b"worker-1"), Ok("worker-1"));
        assert_eq!(check_name(b""), Ok(""));
        for bad in [&b"a b"[..], b"a\n", b"\xff", "é".as_bytes()] {
            assert_eq!(check_name(bad), Err(ClientError::Name));
        }
        assert_eq!(
            check_lib_attribute(b"LIB-VER", b"5.0"),
            Ok((LibAttribute::Version, "5.0"))
        );
        assert_eq!(
            check_lib_attribute(b"lib-name", b"a b")
                .unwrap_err()
                .to_string(),
            "ERR lib-name cannot contain spaces, newlines or special characters."
        );
        assert_eq!(
            check_lib_attribute(b"foo", b"x").unwrap_err().to_string(),
            "ERR Unrecognized option 'foo'"
        );
    }
}
