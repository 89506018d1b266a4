//! Commands on strings.

use crate::context::{CommandResult, Cx};
use crate::spec::{CommandSpec, FIRST_KEY, Flags, Run, Scope};
use moon_resp::Args;
use moon_store::Key;

/// The commands of this family.
pub static COMMANDS: &[CommandSpec] = &[CommandSpec {
    name: "getdel",
    arity: 2,
    flags: Flags::WRITE.union(Flags::FAST),
    keys: FIRST_KEY,
    scope: Scope::Keys,
    run: Run::Data(getdel),
    acl: "write string fast",
    group: "string",
    since: "6.2.0",
    complexity: "O(1)",
    summary: "Returns the string value of a key after deleting the key.",
}];

fn getdel(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    if cx.write(key).is_none() {
        cx.reply.null();
        return Ok(());
    }
    if let Some((moon_store::Value::Str(bytes), _)) = cx.remove(key) {
        cx.reply.bulk(&bytes);
    }
    cx.changed(&[key], &[b"DEL", key.bytes]);
    Ok(())
}
