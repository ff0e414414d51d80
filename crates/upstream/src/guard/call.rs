//! A call: its tries, the waits between them, and its end.

use std::time::Duration;

use policy::{Class, Deadline, Refusal, Retries, Settings, Verdict};

use super::{CallError, Cause, Classify, Ending, Guard, Permit, Spent};

/// What the caller says about one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallOptions {
    /// Doing it twice is the same as doing it once, by nature or because it carries an
    /// idempotency key: it is repeated even if the upstream may have acted.
    pub idempotent: bool,
    /// The caller's own deadline, beside the policy's.
    pub deadline: Deadline,
    /// Tries that left this process in earlier calls for the same thing.
    pub attempts_made: u32,
    /// What is done if nothing left this process.
    pub on_not_sent: OnNotSent,
}

/// What is done if nothing left this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNotSent {
    /// It is sent again after the usual waits, as often as the policy retries, and that
    /// costs no attempt.
    #[default]
    Retry,
    /// The caller hears of it at once, and has its own reason to try later.
    Return,
}

/// One try, as its sender sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    /// 1 for the first that may leave this process.
    pub number: u32,
    /// When it is given up.
    pub deadline: Deadline,
    /// The upstream had failed, and this is the trial whether it is well again.
    pub probe: bool,
}

/// What a call brought, with its slot still taken: for answers that go on as a stream.
#[derive(Debug)]
pub struct Held<T> {
    /// What was sent back.
    pub value: T,
    /// To be kept until the stream ends.
    pub permit: Permit,
}

/// What a call has been through.
struct Story<E> {
    attempts: u32,
    unsent: u32,
    may_have_acted: bool,
    last: Option<Cause<E>>,
}

impl Guard {
    /// Makes a call. `send` makes one try and says what came of it; its future is
    /// dropped when the try's time is over.
    ///
    /// `send` is not an `AsyncFnMut`: of such a one the compiler cannot see that its
    /// futures may cross threads, so no task could make a call.
    pub async fn call<T, E: Classify, Sending>(
        &self,
        options: CallOptions,
        send: impl FnMut(Try) -> Sending,
    ) -> Result<T, CallError<E>>
    where
        Sending: Future<Output = Result<T, E>>,
    {
        self.call_held(options, send).await.map(|held| held.value)
    }

    /// Like [`Guard::call`], but the slot stays taken until the permit is dropped.
    pub async fn call_held<T, E: Classify, Sending>(
        &self,
        options: CallOptions,
        mut send: impl FnMut(Try) -> Sending,
    ) -> Result<Held<T>, CallError<E>>
    where
        Sending: Future<Output = Result<T, E>>,
    {
        // A call keeps the rules it began with; slots, breaker and rate are always today's.
        let policy = self.policy();
        let Settings {
            retries, timeouts, ..
        } = policy.settings();
        let deadline = timeouts.deadline(self.now()).earlier(options.deadline);
        let mut story = Story::new(options.attempts_made);
        if story.attempts > retries.attempts {
            return Err(story.ends(Ending::Exhausted(Spent::Attempts)));
        }
        let mut permit = match self.admit(deadline).await {
            Ok(permit) => permit,
            Err(refusal) => return Err(story.ends(Ending::Refused(refusal))),
        };
        loop {
            let number = story.attempts + 1;
            let cause = match self
                .one_try(&mut permit, number, deadline, options.deadline, &mut send)
                .await
            {
                Ok(value) => return Ok(Held { value, permit }),
                Err(cause) => cause,
            };
            permit.uncharge();
            let random = self.shared.lock().chance.draw();
            let wait = match story.judge(cause, options, retries, random) {
                Ok(wait) => wait,
                Err(ending) => return Err(story.ends(ending)),
            };
            if let Err(ending) = self.wait_to_retry(&mut permit, deadline, wait).await {
                return Err(story.ends(ending));
            }
        }
    }

    async fn one_try<T, E: Classify, Sending>(
        &self,
        permit: &mut Permit,
        number: u32,
        deadline: Deadline,
        callers: Deadline,
        send: &mut impl FnMut(Try) -> Sending,
    ) -> Result<T, Cause<E>>
    where
        Sending: Future<Output = Result<T, E>>,
    {
        let now = self.now();
        let until = {
            let mut state = self.shared.lock();
            state.counts.tries += 1;
            let timeouts = state.policy.settings().timeouts;
            timeouts.try_deadline(now, deadline)
        };
        let sending = send(Try {
            number,
            deadline: until,
            probe: permit.is_probe(),
        });
        let answer = match until.remaining(now) {
            None => Ok(sending.await),
            Some(span) => tokio::time::timeout(span, sending).await,
        };
        match answer {
            Ok(Ok(value)) => {
                permit.sample(self.since(now), Verdict::Success);
                permit.settle(Verdict::Success, None);
                Ok(value)
            }
            Ok(Err(error)) => {
                let verdict = error.verdict();
                permit.sample(self.since(now), verdict);
                permit.settle(verdict, error.class().after());
                Err(Cause::Upstream(error))
            }
            Err(_elapsed) => {
                self.shared.lock().counts.timeouts += 1;
                // A caller in a hurry says nothing about the upstream; otherwise any
                // client could open the breaker for all.
                let verdict = if until == callers {
                    Verdict::Neutral
                } else {
                    Verdict::Failure
                };
                let waited = self.since(now);
                permit.sample(waited, verdict);
                permit.settle(verdict, None);
                Err(Cause::TimedOut { waited })
            }
        }
    }

    fn since(&self, begin: u64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(begin))
    }

    /// The decision for a further try comes before its wait, and pays for it.
    async fn wait_to_retry(
        &self,
        permit: &mut Permit,
        deadline: Deadline,
        wait: Duration,
    ) -> Result<(), Ending> {
        if !deadline.leaves(self.now(), wait) {
            return Err(Ending::Exhausted(Spent::Deadline));
        }
        if !permit.charge() {
            return Err(Ending::Exhausted(Spent::Budget));
        }
        tokio::time::sleep(wait).await;
        permit
            .again(deadline)
            .map_err(|refusal: Refusal| Ending::Refused(refusal))?;
        self.shared.lock().counts.retries += 1;
        Ok(())
    }
}

impl<E: Classify> Story<E> {
    fn new(attempts: u32) -> Self {
        Self {
            attempts,
            unsent: 0,
            may_have_acted: false,
            last: None,
        }
    }

    /// Takes note of a try that failed: the wait before the next, or the end.
    fn judge(
        &mut self,
        cause: Cause<E>,
        options: CallOptions,
        retries: &Retries,
        random: u64,
    ) -> Result<Duration, Ending> {
        let class = cause.class();
        self.last = Some(cause);
        if class == Class::NotSent {
            self.unsent += 1;
            return match options.on_not_sent {
                OnNotSent::Return => Err(Ending::NotSent),
                OnNotSent::Retry => retries
                    .wait(self.unsent, None, random)
                    .ok_or(Ending::NotSent),
            };
        }
        self.attempts += 1;
        match class {
            Class::Unknown => {
                self.may_have_acted = true;
                if !options.idempotent {
                    return Err(Ending::Unknown);
                }
            }
            Class::Retryable { .. } | Class::NotSent => {}
            // An error that calls itself a success is as final as one.
            Class::Final | Class::Neutral | Class::Success => return Err(Ending::Final),
        }
        retries
            .wait(self.attempts, class.after(), random)
            .ok_or(Ending::Exhausted(Spent::Attempts))
    }

    fn ends(self, ending: Ending) -> CallError<E> {
        CallError {
            ending,
            attempts: self.attempts,
            may_have_acted: self.may_have_acted,
            last: self.last,
        }
    }
}
