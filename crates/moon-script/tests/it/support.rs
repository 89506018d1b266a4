//! A host that knows a few commands, and a thread with the stack that Lua needs.

use moon_resp::{Args, Protocol, Reply};
use moon_script::{AclAnswer, Engine, Host, Limits, LogLevel, RunError, STACK_BYTES, Stop};
use std::collections::BTreeMap;

/// Runs `test` where an engine may run.
pub(crate) fn on_large_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let thread = thread.spawn(test).expect("a thread");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Answers commands about strings, as far as the tests use them.
#[derive(Debug, Default)]
pub(crate) struct TestHost {
    pub(crate) strings: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) calls: Vec<Vec<Vec<u8>>>,
    pub(crate) logged: Vec<(LogLevel, Vec<u8>)>,
    /// Questions that are still answered with yes.
    pub(crate) patience: Option<usize>,
    pub(crate) questions: usize,
    pub(crate) stop: Option<Stop>,
}

impl Host for TestHost {
    fn call(
        &mut self,
        args: Args<'_>,
        protocol: Protocol,
        reply: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let parts: Vec<Vec<u8>> = args.iter().map(<[u8]>::to_vec).collect();
        self.calls.push(parts.clone());
        let mut reply = Reply::new(reply, protocol);
        let name = parts[0].to_ascii_lowercase();
        match (name.as_slice(), &parts[1..]) {
            (b"set", [key, value]) => {
                self.strings.insert(key.clone(), value.clone());
                reply.ok();
            }
            (b"get", [key]) => match self.strings.get(key) {
                Some(value) => reply.bulk(value),
                None => reply.null(),
            },
            (b"echo", [text]) => reply.bulk(text),
            // Answers with bytes as they are.
            (b"raw", [bytes]) => reply.raw(bytes),
            (b"lpush", _) => {
                reply.error("WRONGTYPE Operation against a key holding the wrong kind of value");
            }
            (b"again", _) => return Err(Stop::RunAgain),
            (b"subscribe", _) => reply.error("ERR This Redis command is not allowed from script"),
            (b"set" | b"get" | b"echo", _) => {
                reply.error("ERR Wrong number of args calling Redis command from script");
            }
            _ => reply.error("ERR Unknown Redis command called from script"),
        }
        Ok(())
    }

    fn keep_running(&mut self) -> Result<(), Stop> {
        self.questions += 1;
        match &mut self.patience {
            Some(0) => Err(self.stop.unwrap_or(Stop::Killed)),
            Some(patience) => {
                *patience -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        self.logged.push((level, text.to_vec()));
    }

    fn acl_check(&mut self, args: Args<'_>) -> AclAnswer {
        match &args[0] {
            b"get" | b"set" => AclAnswer::Allowed,
            b"flushall" => AclAnswer::Denied,
            _ => AclAnswer::UnknownCommand,
        }
    }

    fn clock(&mut self) -> f64 {
        1.5
    }
}

/// Loads and runs a script; the reply, or the error as a reply.
pub(crate) fn eval_with(
    engine: &mut Engine,
    host: &mut TestHost,
    protocol: Protocol,
    body: &[u8],
    keys: &[&str],
    args: &[&str],
) -> Vec<u8> {
    let mut out = Vec::new();
    let sha = match engine.load(body) {
        Ok(sha) => sha,
        Err(error) => {
            Reply::new(&mut out, protocol).error(&format!("ERR {error}"));
            return out;
        }
    };
    let mut reply = Reply::new(&mut out, protocol);
    let keys = keys.iter().map(|key| key.as_bytes());
    let args = args.iter().map(|arg| arg.as_bytes());
    if let Err(error) = engine.run(&sha, keys, args, host, &mut reply) {
        reply.error_bytes(error.text());
    }
    out
}

/// As [`eval_with`], in RESP2, without keys.
pub(crate) fn eval(engine: &mut Engine, host: &mut TestHost, body: &str) -> String {
    let reply = eval_with(engine, host, Protocol::Resp2, body.as_bytes(), &[], &[]);
    reply.escape_ascii().to_string()
}

/// In an engine of its own.
pub(crate) fn eval_once(body: &str) -> String {
    let mut engine = Engine::new(Limits::default()).expect("an engine");
    eval(&mut engine, &mut TestHost::default(), body)
}

/// How running a script ended.
pub(crate) fn outcome(
    engine: &mut Engine,
    host: &mut TestHost,
    body: &str,
) -> Result<(), RunError> {
    let sha = engine.load(body.as_bytes()).expect("a script");
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, Protocol::Resp2);
    engine.run(&sha, [], [], host, &mut reply)
}
