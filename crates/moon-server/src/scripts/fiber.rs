//! A stack of its own for Lua, from which a script can be left and gone on with.
//!
//! Lua cannot stop in the middle of a call and be continued later, and a shard's thread has other
//! connections to serve while a script takes long. So each script runs on a second stack: what
//! it asks of the connection's task ([`Ask`]) leaves that stack as it is and goes on when the
//! answer is there. A switch costs some nanoseconds, and most scripts need none but the first.
//!
//! A shard keeps one stack. One that is left for good, because the process ends, is never unwound:
//! nothing on it runs again, and what was executed there is not issued.

use super::host::{Answer, Ask};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use moon_script::STACK_BYTES;
use std::cell::Cell;

thread_local! {
    static STACK: Cell<Option<DefaultStack>> = const { Cell::new(None) };
}

/// What runs on a stack of its own, and how far it came.
pub(super) struct Fiber<R> {
    /// `None` once it is done.
    coroutine: Option<Coroutine<Answer, Ask, R, DefaultStack>>,
}

/// The way from the second stack to the connection's task.
pub(super) type Asks = Yielder<Answer, Ask>;

/// Why a fiber came back.
pub(super) enum Step<R> {
    /// It asks for something.
    Asks(Ask),
    /// It is done.
    Done(R),
}

impl<R: 'static> Fiber<R> {
    /// Makes ready to run `run`, which begins with the first [`Fiber::resume`].
    ///
    /// # Panics
    /// When the operating system gives no memory for the stack, as for any other memory. That is
    /// at the first script of a thread.
    pub(super) fn new(run: impl FnOnce(&Asks) -> R + 'static) -> Fiber<R> {
        let made = STACK
            .take()
            .map_or_else(|| DefaultStack::new(STACK_BYTES), Ok);
        let stack = made.unwrap_or_else(|error| panic!("no memory for a stack for Lua: {error}"));
        let coroutine = Coroutine::with_stack(stack, move |asks: &Asks, _: Answer| run(asks));
        Fiber {
            coroutine: Some(coroutine),
        }
    }

    /// Runs on until it is done or asks for something.
    ///
    /// # Panics
    /// When it is done already.
    pub(super) fn resume(&mut self, answer: Answer) -> Step<R> {
        let coroutine = self.coroutine.as_mut();
        match coroutine.expect("it is not done").resume(answer) {
            CoroutineResult::Yield(ask) => Step::Asks(ask),
            CoroutineResult::Return(result) => {
                STACK.set(self.coroutine.take().map(Coroutine::into_stack));
                Step::Done(result)
            }
        }
    }
}

impl<R> Drop for Fiber<R> {
    fn drop(&mut self) {
        // Only a process that ends drops a script in the middle. Its stack holds frames of C that
        // nothing can unwind.
        std::mem::forget(self.coroutine.take());
    }
}

/// Runs something on the second stack that asks for nothing.
pub(super) fn on_own_stack<R: 'static>(run: impl FnOnce() -> R + 'static) -> R {
    let mut fiber = Fiber::new(|_| run());
    loop {
        if let Step::Done(result) = fiber.resume(Answer::GoOn) {
            return result;
        }
    }
}
