//! CUBIC (RFC 9438) as a neighbour at the bottleneck: window only, without its refinements.

pub(in crate::congestion) struct Cubic {
    mss: u64,
    /// Packets.
    window: f64,
    threshold: f64,
    highest: f64,
    epoch: Option<f64>,
    recovery_since: f64,
    reno: f64,
}

impl Cubic {
    pub(in crate::congestion) fn new(mss: u64) -> Self {
        Self {
            mss,
            window: 10.0,
            threshold: f64::INFINITY,
            highest: 0.0,
            epoch: None,
            recovery_since: -1.0,
            reno: 0.0,
        }
    }

    pub(in crate::congestion) fn cwnd(&self) -> u64 {
        (self.window * self.mss as f64) as u64
    }

    pub(in crate::congestion) fn on_ack(&mut self, now: f64, srtt: f64, packets: f64) {
        if self.window < self.threshold {
            self.window += packets;
            return;
        }
        let epoch = *self.epoch.get_or_insert(now);
        let k = ((self.highest * 0.3).max(0.0) / 0.4).cbrt();
        let target = 0.4 * (now - epoch + srtt - k).powi(3) + self.highest;
        let target = target.clamp(self.window, self.window * 1.5);
        self.window += (target - self.window) / self.window * packets;
        self.reno += 3.0 * 0.3 / 1.7 * packets / self.reno.max(1.0);
        self.window = self.window.max(self.reno);
    }

    /// A packet sent at `sent` was lost; one reduction per round trip.
    pub(in crate::congestion) fn on_loss(&mut self, now: f64, sent: f64) {
        if sent <= self.recovery_since {
            return;
        }
        self.recovery_since = now;
        self.highest = if self.window < self.highest {
            self.window * 0.85
        } else {
            self.window
        };
        self.window = (self.window * 0.7).max(2.0);
        self.threshold = self.window;
        self.reno = self.window;
        self.epoch = None;
    }
}
