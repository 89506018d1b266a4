//! LMPOP and ZMPOP, and BLMPOP and BZMPOP, which would wait: they take from the first of several
//! keys that has something. The words are the same for lists and for sorted sets.

use crate::blocking::{seconds, waits};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{at_least, is, next_option, option_value};
use moon_resp::Args;
use moon_store::Key;

/// An end of what is taken from.
pub(crate) trait PopEnd: Copy {
    /// Of what is told of the key.
    const CLASS: Class;

    /// The word for it.
    fn parse(word: &[u8]) -> Result<Self, CommandError>;
    /// The command with a key and a count that is the effect.
    fn effect(self) -> &'static [u8];
    /// What is told of the key.
    fn event(self) -> &'static str;
    /// Takes up to `count` elements, and answers the key and an array of them. Returns how many;
    /// `None`, and answers nothing, if there is no such key.
    fn take(
        self,
        cx: &mut Cx<'_>,
        key: Key<'_>,
        count: usize,
    ) -> Result<Option<usize>, CommandError>;
}

/// What was asked for.
struct Request<'a, E> {
    keys: Args<'a>,
    /// How many of `keys` are keys.
    key_count: usize,
    from: E,
    count: usize,
}

impl<'a, E: PopEnd> Request<'a, E> {
    /// Arguments that begin with the number of keys.
    fn parse(args: Args<'a>) -> Result<Request<'a, E>, CommandError> {
        let key_count = at_least(1, args.at(0), "ERR numkeys should be greater than 0")?;
        let mut at = key_count.saturating_add(1);
        let from = E::parse(option_value(args, &mut at)?)?;
        let mut count = None;
        while let Some(option) = next_option(args, &mut at) {
            if count.is_some() || !is(option, "count") {
                return Err(CommandError::Syntax);
            }
            let value = option_value(args, &mut at)?;
            count = Some(at_least(1, value, "ERR count should be greater than 0")?);
        }
        Ok(Request {
            keys: args.from(1),
            key_count,
            from,
            count: count.unwrap_or(1),
        })
    }

    /// Takes from the first key that there is and answers; whether there was one.
    fn run(&self, cx: &mut Cx<'_>) -> Result<bool, CommandError> {
        for key in self.keys.iter().take(self.key_count).map(Key::new) {
            let Some(taken) = self.from.take(cx, key, self.count)? else {
                continue;
            };
            let mut text = itoa::Buffer::new();
            let count = text.format(taken).as_bytes();
            cx.changed(&[key], &[self.from.effect(), key.bytes, count]);
            cx.notify_shrunk(E::CLASS, self.from.event(), key);
            return Ok(true);
        }
        cx.reply.null_array();
        Ok(false)
    }
}

/// LMPOP, ZMPOP.
pub(crate) fn pop<E: PopEnd>(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    Request::<E>::parse(args.from(1))?.run(cx)?;
    Ok(())
}

/// BLMPOP, BZMPOP.
pub(crate) fn pop_or_wait<E: PopEnd>(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let request = Request::<E>::parse(args.from(2))?;
    let timeout_ms = seconds(args.at(1), cx.now)?;
    if !request.run(cx)? {
        waits(cx, timeout_ms);
    }
    Ok(())
}
