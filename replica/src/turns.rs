//! `Turns`: how many readers of pages may be at work at once. One processor stays free for who applies records: readers
//! that are more than the processors would take it from him, and hold locks of redb's cache while others run.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

/// Turns that are given in the order in which they were asked for.
#[derive(Debug)]
pub(crate) struct Turns {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    free: usize,
    /// Empty unless none is free.
    waiting: VecDeque<Arc<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    thread: Thread,
    /// Whether it is its turn.
    given: AtomicBool,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// At most `count` at once.
    pub(crate) fn new(count: usize) -> Self {
        assert!(count > 0, "nobody would ever have a turn");
        Self { inner: Mutex::new(Inner { free: count, waiting: VecDeque::new() }) }
    }

    /// One for each processor but one, and at least one.
    pub(crate) fn beside_a_writer() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self::new(processors.saturating_sub(1).max(1))
    }

    /// Waits for a turn. Blocks.
    pub(crate) fn take(&self) -> Turn<'_> {
        let waiter = {
            let mut inner = self.inner();
            if let Some(left) = inner.free.checked_sub(1) {
                inner.free = left;
                return Turn(self);
            }
            let waiter = Waiter { thread: thread::current(), given: AtomicBool::new(false) };
            let waiter = Arc::new(waiter);
            inner.waiting.push_back(Arc::clone(&waiter));
            waiter
        };
        while !waiter.given.load(Ordering::Acquire) {
            thread::park();
        }
        Turn(self)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    /// Goes to whoever waits longest.
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        match inner.waiting.pop_front() {
            Some(next) => {
                next.given.store(true, Ordering::Release);
                next.thread.unpark();
            }
            None => inner.free += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn no_more_than_allowed_have_a_turn_and_each_gets_its_own() {
        for count in [1, 3] {
            let turns = Turns::new(count);
            let (now, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..500 {
                            let _turn = turns.take();
                            most.fetch_max(
                                now.fetch_add(1, Ordering::SeqCst) + 1,
                                Ordering::SeqCst,
                            );
                            thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                            done.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                }
            });
            assert_eq!(done.into_inner(), 8 * 500);
            assert!(most.into_inner() <= count);
            let inner = turns.inner();
            assert_eq!((inner.free, inner.waiting.len()), (count, 0));
        }
    }

    #[test]
    fn turns_come_in_the_order_in_which_they_were_asked_for() {
        let turns = Turns::new(1);
        let order = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let first = turns.take();
            for number in 0..5 {
                let (turns, order) = (&turns, &order);
                scope.spawn(move || {
                    let _turn = turns.take();
                    order.lock().unwrap().push(number);
                });
                while turns.inner().waiting.len() <= number {
                    thread::yield_now();
                }
            }
            drop(first);
        });
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4]);
    }
}
