//! Maxima over a sliding window.

/// The highest bandwidth of this probing cycle and the one before, bytes per second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MaxBandwidth {
    previous: f64,
    current: f64,
}

impl MaxBandwidth {
    pub(super) fn update(&mut self, rate: f64) {
        self.current = self.current.max(rate);
    }

    /// A new cycle begins. One that saw no sample does not count, so that the estimate cannot
    /// fall to zero.
    pub(super) fn advance(&mut self) {
        if self.current > 0.0 {
            self.previous = self.current;
            self.current = 0.0;
        }
    }

    pub(super) fn get(&self) -> f64 {
        self.previous.max(self.current)
    }
}

/// The highest value of the last so many rounds, from three candidates: the best, the best of
/// those after it, and the best of those after that one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MaxOverRounds {
    /// (round, value), best first, each later than the one before or equal to it.
    best: [(u64, u64); 3],
}

impl MaxOverRounds {
    pub(super) fn update(&mut self, round: u64, value: u64, window: u64) {
        let candidate = (round, value);
        let expired = |at: u64| round.saturating_sub(at) > window;
        if value >= self.best[0].1 || expired(self.best[2].0) {
            self.best = [candidate; 3];
            return;
        }
        if value >= self.best[1].1 {
            self.best[1] = candidate;
            self.best[2] = candidate;
        } else if value >= self.best[2].1 {
            self.best[2] = candidate;
        }
        while expired(self.best[0].0) {
            self.best = [self.best[1], self.best[2], candidate];
        }
        // Without younger candidates the estimate would fall to the newest value at once when
        // the best expires.
        let age = round.saturating_sub(self.best[0].0);
        if self.best[1].0 == self.best[0].0 && age > window / 4 {
            self.best[1] = candidate;
            self.best[2] = candidate;
        } else if self.best[2].0 == self.best[1].0 && age > window / 2 {
            self.best[2] = candidate;
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.best[0].1
    }
}
