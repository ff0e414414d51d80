//! Several calls at once, within one request's task.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Runs the futures, at most `limit` at a time, and gives their outputs in their order.
///
/// They share the caller's task: nothing is spawned, and when the request goes away, so do
/// they. Each wake polls up to `limit` of them, so `limit` is meant to be small.
pub(super) async fn in_parallel<F: Future>(
    limit: usize,
    futures: impl IntoIterator<Item = F>,
) -> Vec<F::Output> {
    let mut waiting = futures.into_iter().enumerate().fuse();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::with_capacity(limit);
    let mut done: Vec<(usize, F::Output)> = Vec::new();
    poll_fn(|context| {
        loop {
            while running.len() < limit.max(1)
                && let Some((index, future)) = waiting.next()
            {
                running.push((index, Box::pin(future)));
            }
            if running.is_empty() {
                return Poll::Ready(());
            }
            let before = running.len();
            running.retain_mut(|(index, future)| match future.as_mut().poll(context) {
                Poll::Ready(output) => {
                    done.push((*index, output));
                    false
                }
                Poll::Pending => true,
            });
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, output)| output).collect()
}

#[cfg(test)]
mod tests {
    use super::in_parallel;
    use std::cell::Cell;

    #[tokio::test]
    async fn outputs_keep_their_order_and_no_more_than_the_limit_run() {
        let (running, most) = (Cell::new(0), Cell::new(0));
        let futures = (0..50).map(|index| {
            let (running, most) = (&running, &most);
            async move {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                for _ in 0..index % 7 {
                    tokio::task::yield_now().await;
                }
                running.set(running.get() - 1);
                index
            }
        });
        let outputs = in_parallel(4, futures).await;
        assert_eq!(outputs, (0..50).collect::<Vec<_>>());
        assert_eq!(most.get(), 4);
    }
}
