//! Several ways to the same end, begun one after the other.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// How long an attempt has the field to itself.
const ALONE: Duration = Duration::from_millis(250);

/// The first attempt that succeeds; the others are dropped. The next one begins when one fails, or
/// when nothing was heard for a quarter of a second: over UDP an address where nobody is answers
/// nothing at all, and would hold up those after it for the whole of its handshake.
///
/// # Errors
/// All have failed: what the last one said, or `none` if there was none.
pub async fn staggered<Attempt, T, E>(
    attempts: impl IntoIterator<Item = Attempt>,
    none: E,
) -> Result<T, E>
where
    Attempt: Future<Output = Result<T, E>>,
{
    let mut attempts = attempts.into_iter().fuse();
    let mut begun = FuturesUnordered::new();
    let mut last = none;
    loop {
        let next = attempts.next();
        let may_be_more = next.is_some();
        begun.extend(next);
        tokio::select! {
            outcome = begun.next() => match outcome {
                Some(Ok(success)) => return Ok(success),
                Some(Err(error)) => last = error,
                None => return Err(last),
            },
            () = tokio::time::sleep(ALONE), if may_be_more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_holds_the_next_up_for_a_moment_only() {
        let attempts = (0..3).map(|which| async move {
            match which {
                0 => pending().await,
                1 => Err("refused"),
                _ => Ok(which),
            }
        });
        assert_eq!(staggered(attempts, "none").await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_slow_may_still_win() {
        let attempts = [400, 1_000].map(|wait| async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            Ok::<_, &str>(wait)
        });
        assert_eq!(staggered(attempts, "none").await, Ok(400));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_failure_is_told() {
        let attempts = ["first", "second"].map(|why| async move { Err::<(), _>(why) });
        assert_eq!(staggered(attempts, "none").await, Err("second"));
        let nobody: [std::future::Pending<Result<(), &str>>; 0] = [];
        assert_eq!(staggered(nobody, "none").await, Err("none"));
    }
}
