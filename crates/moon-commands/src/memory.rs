//! MEMORY USAGE. The other subcommands of MEMORY tell of the process, so the server runs them.

use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse;
use moon_resp::Args;
use moon_store::Key;

/// `MEMORY USAGE key [SAMPLES count]`: what the key takes with its value, its deadline and its
/// share of the tables. Values know their size, so nothing is sampled.
pub(crate) fn usage(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let mut at = 3;
    while let Some(option) = args.get(at) {
        let Some(count) = args.get(at + 1).filter(|_| parse::is(option, "samples")) else {
            return Err(CommandError::Syntax);
        };
        if parse::integer(count)? < 0 {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }
    let key = Key::new(args.at(2));
    if cx.inspect_quietly(key).is_none() {
        cx.reply.null();
        return Ok(());
    }
    let db = cx.db;
    let bytes = cx.shard(key).db(db).memory_of(key).unwrap_or(0);
    cx.reply.count(bytes);
    Ok(())
}
