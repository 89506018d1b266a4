//! PFDEBUG: the inside of a HyperLogLog.

use super::sketch::{self, Encoding, HEADER_LEN, REGISTERS};
use super::{sketch_of, sparse};
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse::{detailed, is};
use moon_resp::Args;
use moon_store::{Key, Value};

pub(super) fn pfdebug(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (subcommand, key) = (args.at(1), Key::new(args.at(2)));
    let Some((value, _)) = cx.write(key) else {
        return Err(CommandError::Text("ERR The specified key does not exist"));
    };
    let (bytes, encoding) = sketch_of(value)?;
    if is(subcommand, "encoding") {
        cx.reply.simple(match encoding {
            Encoding::Dense => "dense",
            Encoding::Sparse => "sparse",
        });
    } else if is(subcommand, "decode") {
        if encoding == Encoding::Dense {
            return Err(CommandError::Text("ERR HLL encoding is not sparse"));
        }
        let runs: Vec<String> = sparse::runs(&bytes[HEADER_LEN..])
            .map(|run| match run.value {
                0 if run.len > 64 => format!("Z:{}", run.len),
                0 => format!("z:{}", run.len),
                value => format!("v:{value},{}", run.len),
            })
            .collect();
        cx.reply.bulk(runs.join(" ").as_bytes());
    } else if is(subcommand, "getreg") || is(subcommand, "todense") {
        let mut dense = bytes.to_vec();
        sketch::make_dense(&mut dense)?;
        let changes = encoding == Encoding::Sparse;
        if changes {
            *value = Value::string_raw(&dense);
            cx.changed_as_sent(&[key], args);
        }
        if is(subcommand, "todense") {
            cx.reply.count(usize::from(changes));
            return Ok(());
        }
        let mut registers = sketch::no_registers();
        sketch::merge_into(&mut registers, &dense, Encoding::Dense)?;
        cx.reply.array(REGISTERS);
        for register in registers {
            cx.reply.count(register.into());
        }
    } else {
        return Err(detailed(format!(
            "ERR Unknown PFDEBUG subcommand '{}'",
            String::from_utf8_lossy(subcommand)
        )));
    }
    Ok(())
}
