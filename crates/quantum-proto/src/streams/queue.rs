//! A queue whose first element needs no allocation: most streams never hold a second one.

use std::collections::VecDeque;

/// First in, first out. What follows the first element is on the heap.
#[derive(Debug)]
pub(super) struct Queue<T> {
    head: Option<T>,
    tail: VecDeque<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            head: None,
            tail: VecDeque::new(),
        }
    }
}

impl<T> Queue<T> {
    pub(super) fn push_back(&mut self, element: T) {
        if self.head.is_none() {
            self.head = Some(element);
        } else {
            self.tail.push_back(element);
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        let first = self.head.take();
        self.head = self.tail.pop_front();
        first
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.head.as_ref()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut T> {
        self.head.as_mut()
    }

    pub(super) fn back_mut(&mut self) -> Option<&mut T> {
        self.tail.back_mut().or(self.head.as_mut())
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.head.is_some()) + self.tail.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_none()
    }
}
