//! One sequence on all servers: sent in batches, every reply compared, then the keyspaces, then
//! the keyspaces again after the tested servers were killed.

use crate::compare::{Session, Verdict};
use crate::differences::{Rule, rule_behind};
use crate::keyspace::{Keyspace, Strictness, compare, show};
use crate::request::{Connection, Kind, Request, Step};
use crate::rig::{Node, Rig, Thresholds};
use anyhow::Result;
use moon_harness::Client;
use moon_resp::Value;
use std::collections::BTreeMap;
use std::io;

/// Requests that are sent before their replies are read.
const BATCH: usize = 50;
/// Replies after which a walk counts as endless.
const WALK_REPLIES_MAX: usize = 20_000;
/// A deadline for what is restored with an absolute one, in the year 2100.
const RESTORED_UNTIL_MS: &[u8] = b"4102444800000";

/// How a sequence is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// RESP version of the connections: 2 or 3.
    pub protocol: u8,
    /// Of the compact forms.
    pub thresholds: Thresholds,
    /// What happens at the end.
    pub crash: Crash,
    /// Which changes of keys are told to a listener, in the letters of `notify-keyspace-events`.
    pub notify: &'static str,
}

/// What happens to the tested servers when a sequence is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// They live on.
    None,
    /// SIGKILL and a start from the log.
    Kill,
    /// The log is rewritten first, so that the start is one from a snapshot.
    RewriteAndKill,
}

/// A difference between the oracle and a tested server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The same for all differences that look alike: the command, and what kind of difference.
    pub class: String,
    /// Which server, what was expected and what was found.
    pub detail: String,
    /// Steps that had begun when it showed.
    pub steps: usize,
}

/// What a sequence showed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The first difference.
    pub difference: Option<Difference>,
    /// How often each rule allowed a difference, by its name.
    pub excused: BTreeMap<&'static str, u64>,
    /// Requests sent to each server.
    pub requests: u64,
}

/// Runs `steps` on all servers of `rig`, from an empty keyspace.
///
/// # Errors
/// When a server cannot be started or emptied. One that ends while the sequence runs is a
/// difference; it is started again.
pub fn run(rig: &mut Rig, steps: &[Step], plan: Plan) -> Result<Outcome> {
    rig.reset(plan.protocol, plan.thresholds)?;
    rig.listen(plan.notify, plan.protocol)?;
    let tested = rig.nodes.len() - 1;
    let mut round = Round {
        rig,
        steps,
        outcome: Outcome::default(),
        pending: Vec::new(),
        replies: Vec::new(),
        sessions: (0..tested).map(|_| Default::default()).collect(),
        parted: false,
    };
    let found = match round.all_steps(plan.protocol) {
        Ok(None) if round.parted => None,
        Ok(None) => round.at_the_end(plan)?,
        Ok(found) => {
            // Somebody may still wait, or be told things.
            round.rig.reconnect()?;
            found
        }
        Err(gone) => {
            let difference = round.gone(&gone);
            round.rig.revive()?;
            Some(difference)
        }
    };
    let mut outcome = round.outcome;
    outcome.difference = found;
    Ok(outcome)
}

/// A server that did not answer.
pub(crate) struct Gone {
    pub(crate) node: usize,
    pub(crate) error: io::Error,
    pub(crate) step: usize,
}

pub(crate) struct Round<'a> {
    pub(crate) rig: &'a mut Rig,
    pub(crate) steps: &'a [Step],
    pub(crate) outcome: Outcome,
    /// Step and request of what was queued and not sent yet, all on one connection.
    pending: Vec<(usize, usize)>,
    /// Replies to the present step, by server.
    replies: Vec<Vec<Value>>,
    /// Of each tested server, in the order of [`Connection::ALL`].
    pub(crate) sessions: Vec<[Session; Connection::ALL.len()]>,
    /// A rule allowed the servers to hold different data from here on.
    pub(crate) parted: bool,
}

impl Round<'_> {
    fn all_steps(&mut self, protocol: u8) -> Result<Option<Difference>, Gone> {
        let steps = self.steps;
        for (at, step) in steps.iter().enumerate() {
            if step.is_conversation() {
                if let Some(found) = self.flush()? {
                    return Ok(Some(found));
                }
                // What waits or not is open once the servers hold different data.
                if self.parted {
                    continue;
                }
                if let Some(found) = self.conversation(at, protocol)? {
                    return Ok(Some(found));
                }
                continue;
            }
            for (position, request) in step.requests.iter().enumerate() {
                let connection = self
                    .pending
                    .last()
                    .map(|&(s, r)| steps[s].requests[r].connection);
                let fits = request.kind == Kind::Plain
                    && connection.is_none_or(|c| c == request.connection)
                    && self.pending.len() < BATCH;
                if !fits && let Some(found) = self.flush()? {
                    return Ok(Some(found));
                }
                self.outcome.requests += 1;
                if request.kind == Kind::Plain {
                    self.pending.push((at, position));
                } else if let Some(found) = self.interactive(at, position, request)? {
                    return Ok(Some(found));
                }
            }
        }
        self.flush()
    }

    /// Sends what is pending to every server, then reads and compares all replies.
    fn flush(&mut self) -> Result<Option<Difference>, Gone> {
        let pending = std::mem::take(&mut self.pending);
        let Some(&(first, request)) = pending.first() else {
            return Ok(None);
        };
        let connection = self.steps[first].requests[request].connection;
        let gone = |node, step| move |error| Gone { node, error, step };
        for (index, node) in self.rig.nodes.iter_mut().enumerate() {
            for &(step, request) in &pending {
                node.queue(&self.steps[step].requests[request]);
            }
            node.client(connection)
                .flush()
                .map_err(gone(index, first))?;
        }
        let mut all = Vec::with_capacity(pending.len());
        for (index, node) in self.rig.nodes.iter_mut().enumerate() {
            let client = node.client(connection);
            for (at, &(step, _)) in pending.iter().enumerate() {
                let reply = client.read_value().map_err(gone(index, step))?;
                if index == 0 {
                    all.push(Vec::with_capacity(2));
                }
                all[at].push(reply);
            }
        }
        let last = pending.last().map_or(first, |&(step, _)| step);
        for ((step, request), replies) in pending.into_iter().zip(all) {
            if let Some(found) = self.check(step, request, replies) {
                return Ok(Some(found));
            }
        }
        self.read_changes(first, last)
    }

    /// A request whose words depend on replies.
    fn interactive(
        &mut self,
        at: usize,
        position: usize,
        request: &Request,
    ) -> Result<Option<Difference>, Gone> {
        let gone = |node| {
            move |error| Gone {
                node,
                error,
                step: at,
            }
        };
        let mut replies = Vec::new();
        if request.kind == Kind::Walk {
            for (index, node) in self.rig.nodes.iter_mut().enumerate() {
                let client = node.client(request.connection);
                replies.push(walk(client, request).map_err(gone(index))?);
            }
        } else {
            let mut dumps = Vec::new();
            for (index, node) in self.rig.nodes.iter_mut().enumerate() {
                let client = node.client(request.connection);
                dumps.push(dump(client, request).map_err(gone(index))?);
            }
            for (index, node) in self.rig.nodes.iter_mut().enumerate() {
                // The tested servers take the oracle's value, the oracle one of theirs in turn.
                let from = match index {
                    0 => 1 + at % (dumps.len() - 1),
                    _ => 0,
                };
                let client = node.client(request.connection);
                let reply = match &dumps[from] {
                    Value::Bulk(payload) => {
                        restore(client, request, payload).map_err(gone(index))?
                    }
                    _ => dumps[index].clone(),
                };
                replies.push(reply);
            }
        }
        if let Some(found) = self.check(at, position, replies) {
            return Ok(Some(found));
        }
        self.read_changes(at, at)
    }

    /// Compares the replies of all servers to one request.
    pub(crate) fn check(
        &mut self,
        at: usize,
        position: usize,
        replies: Vec<Value>,
    ) -> Option<Difference> {
        if self.parted {
            return None;
        }
        let step = &self.steps[at];
        let request = &step.requests[position];
        let is_open = step.property.is_some_and(|p| p.leaves_open(position));
        let (expected, found) = replies.split_first()?;
        if let Some(rule) = rule_behind(request, expected) {
            self.excused(rule);
        }
        if let Value::Array(expected) = expected {
            for (inner, expected) in request.inner.iter().zip(expected) {
                if let Some(rule) = rule_behind(inner, expected) {
                    self.excused(rule);
                }
            }
        }
        for (index, found) in found.iter().enumerate() {
            match self.sessions[index][request.connection as usize]
                .compare(request, is_open, expected, found)
            {
                Verdict::Same => {}
                Verdict::Excused(rule) => self.excused(rule),
                Verdict::Different => {
                    return Some(self.different(at, request, index + 1, expected, found));
                }
            }
        }
        if let Some(property) = step.property {
            if position == 0 {
                self.replies = vec![Vec::new(); replies.len()];
            }
            for (all, reply) in self.replies.iter_mut().zip(replies) {
                all.push(reply);
            }
            if position + 1 == step.requests.len() {
                let broken = self
                    .replies
                    .iter()
                    .position(|all| !property.holds(step, all));
                if let Some(node) = broken {
                    let replies: Vec<_> = self.replies[node].iter().map(show).collect();
                    let name = step.requests.get(1).map(Request::name).unwrap_or_default();
                    return Some(Difference {
                        class: format!("{}: {property:?}", name.escape_ascii()),
                        detail: format!(
                            "{}: not {property:?}:\n  {}",
                            self.rig.nodes[node].label,
                            replies.join("\n  ")
                        ),
                        steps: at + 1,
                    });
                }
            }
        }
        None
    }

    fn excused(&mut self, rule: &'static Rule) {
        *self.outcome.excused.entry(rule.name).or_default() += 1;
        self.parted |= rule.parts;
    }

    fn different(
        &self,
        at: usize,
        request: &Request,
        node: usize,
        expected: &Value,
        found: &Value,
    ) -> Difference {
        let what = match (expected, found) {
            (Value::Error(a), Value::Error(b)) if code(a) == code(b) => "error text",
            (Value::Error(_), Value::Error(_)) => "error code",
            (Value::Error(_), _) => "no error",
            (_, Value::Error(_)) => "error",
            (a, b) if std::mem::discriminant(a) != std::mem::discriminant(b) => "form of reply",
            _ => "reply",
        };
        let name = match request.kind {
            Kind::Functions => b"functions".to_vec(),
            _ => request.name(),
        };
        let mut class = name.escape_ascii().to_string();
        if [
            &b"XGROUP"[..],
            b"XINFO",
            b"OBJECT",
            b"FUNCTION",
            b"CLIENT",
            b"PUBSUB",
        ]
        .contains(&&name[..])
        {
            class = format!("{class} {}", request.word(1).escape_ascii());
        }
        Difference {
            class: format!("{class}: {what}"),
            detail: format!(
                "{request}\n  redis-server: {}\n  {}: {}",
                show(expected),
                self.rig.nodes[node].label,
                show(found)
            ),
            steps: at + 1,
        }
    }

    fn gone(&self, gone: &Gone) -> Difference {
        let node = &self.rig.nodes[gone.node];
        Difference {
            class: "a server does not answer".into(),
            detail: format!("{}: {}\n{}", node.label, gone.error, node.log_tail()),
            steps: (gone.step + BATCH).min(self.steps.len()),
        }
    }

    /// Compares what all servers hold, and what the tested ones hold after a crash.
    fn at_the_end(&mut self, plan: Plan) -> Result<Option<Difference>> {
        let oracle = self.rig.nodes[0].keyspace()?;
        let mut before = Vec::new();
        for node in &mut self.rig.nodes[1..] {
            let found = node.keyspace()?;
            let difference = differs("", node, &oracle, &found, Strictness::OtherServer);
            if let Some(mut difference) = difference {
                difference.steps = self.steps.len();
                return Ok(Some(difference));
            }
            before.push(found);
        }
        if plan.crash == Crash::None {
            return Ok(None);
        }
        let is_rewritten = plan.crash == Crash::RewriteAndKill;
        let strictness = if is_rewritten {
            self.rig.nodes[0].reload()?;
            Strictness::Rewritten
        } else {
            Strictness::SameServer
        };
        let reloaded = self.rig.nodes[0].keyspace()?;
        for (node, before) in self.rig.nodes[1..].iter_mut().zip(&before) {
            let before = if is_rewritten {
                node.rewrite_log()?;
                before.clone()
            } else {
                node.change_by_chance(before)?;
                node.keyspace()?
            };
            if let Err(error) = node.crash_and_recover() {
                let difference = Difference {
                    class: "recovered keyspace: none".into(),
                    detail: format!("{} does not start: {error:#}", node.label),
                    steps: self.steps.len(),
                };
                self.rig.start_over()?;
                return Ok(Some(difference));
            }
            let found = node.keyspace()?;
            let mut difference = differs("recovered ", node, &before, &found, strictness);
            if difference.is_none() && is_rewritten {
                difference = differs(
                    "rewritten ",
                    node,
                    &reloaded,
                    &found,
                    Strictness::OtherServer,
                );
            }
            if let Some(mut difference) = difference {
                difference.steps = self.steps.len();
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }
}

fn code(error: &[u8]) -> Option<&[u8]> {
    error.split(|&b| b == b' ').next()
}

fn differs(
    when: &str,
    node: &Node,
    expected: &Keyspace,
    found: &Keyspace,
    strictness: Strictness,
) -> Option<Difference> {
    let mismatches = compare(expected, found, strictness);
    let first = mismatches.first()?;
    let details: Vec<_> = mismatches.iter().take(3).map(|m| &m.detail[..]).collect();
    Some(Difference {
        class: format!("{when}keyspace: {}", first.class),
        detail: format!("{}: {when}keyspace: {}", node.label, details.join("\n")),
        steps: 0,
    })
}

fn ask(client: &mut Client, args: &[Vec<u8>]) -> io::Result<Value> {
    client.queue(args);
    client.flush()?;
    client.read_value()
}

/// Walks to the end and answers all elements, each once, in an order that depends on them alone.
fn walk(client: &mut Client, request: &Request) -> io::Result<Value> {
    let is_of_pairs = [&b"HSCAN"[..], b"ZSCAN"].contains(&&request.name()[..]);
    let cursor_at = if request.name() == b"SCAN" { 1 } else { 2 };
    let mut args = request.args.clone();
    let mut all = BTreeMap::new();
    for _ in 0..WALK_REPLIES_MAX {
        let reply = ask(client, &args)?;
        let Value::Array(parts) = &reply else {
            return Ok(reply);
        };
        let [Value::Bulk(cursor), Value::Array(items)] = &parts[..] else {
            return Ok(reply);
        };
        for item in items.chunks(if is_of_pairs { 2 } else { 1 }) {
            let item = Value::Array(item.to_vec());
            let mut bytes = Vec::new();
            item.write(&mut bytes);
            all.insert(bytes, item);
        }
        if cursor == b"0" {
            return Ok(Value::Array(all.into_values().collect()));
        }
        args[cursor_at].clone_from(cursor);
    }
    Ok(Value::Error(b"the walk does not end".to_vec()))
}

fn dump(client: &mut Client, request: &Request) -> io::Result<Value> {
    if request.kind == Kind::Functions {
        return ask(client, &[b"FUNCTION".to_vec(), b"DUMP".to_vec()]);
    }
    let from = request.args.first().cloned().unwrap_or_default();
    ask(client, &[b"DUMP".to_vec(), from])
}

fn restore(client: &mut Client, request: &Request, payload: &[u8]) -> io::Result<Value> {
    if request.kind == Kind::Functions {
        let head = [&b"FUNCTION"[..], b"RESTORE", payload].map(<[u8]>::to_vec);
        return ask(client, &[&head, &request.args[..]].concat());
    }
    let to = request.args.get(1).cloned().unwrap_or_default();
    let ttl = if request.has("ABSTTL") {
        RESTORED_UNTIL_MS
    } else {
        b"0"
    };
    let mut args = vec![b"RESTORE".to_vec(), to, ttl.to_vec(), payload.to_vec()];
    args.push(b"REPLACE".to_vec());
    args.extend(request.args.iter().skip(2).cloned());
    ask(client, &args)
}
