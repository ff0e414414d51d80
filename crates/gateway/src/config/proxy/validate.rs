//! What the types of the proxy's settings can't say.

use std::time::Duration;

use super::Proxy;

/// Tells each key that is wrong, and why. Routes are checked when they are read.
pub(in super::super) fn check(proxy: &Proxy, refuse: &mut dyn FnMut(&str, String)) {
    for (key, time) in [
        ("proxy.keep_alive", proxy.keep_alive),
        ("proxy.body_timeout", proxy.body_timeout),
        ("proxy.pool.lifetime", proxy.pool.lifetime),
    ] {
        if !(TIME_MIN..=TIME_MAX).contains(&time) {
            refuse(key, "must be at least 1ms and at most a day (1d)".into());
        }
    }
    let pool = &proxy.pool;
    if pool.idle_per_host > pool.idle {
        let problem = "must be at most proxy.pool.idle, of which it is a part";
        refuse("proxy.pool.idle_per_host", problem.into());
    }
    if proxy.access_log.enabled && proxy.access_log.path.is_dir() {
        refuse(
            "proxy.access_log.path",
            "is a folder; expected a file".into(),
        );
    }
}

const TIME_MIN: Duration = Duration::from_millis(1);
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
