//! Minutes, days and months of the calendar in UTC.

/// When the present minute, day and month began, and when the month ends; in milliseconds
/// since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Periods {
    pub(super) minute: u64,
    pub(super) day: u64,
    pub(super) month: u64,
    pub(super) month_end: u64,
}

impl Periods {
    /// Those in which a moment lies.
    pub(super) fn at(now: u64) -> Self {
        let (first_day, days) = month_of(now / DAY_MS);
        Self {
            minute: now - now % MINUTE_MS,
            day: now - now % DAY_MS,
            month: first_day * DAY_MS,
            month_end: (first_day + days).saturating_mul(DAY_MS),
        }
    }

    pub(super) fn minute_end(&self) -> u64 {
        self.minute.saturating_add(MINUTE_MS)
    }

    pub(super) fn day_end(&self) -> u64 {
        self.day.saturating_add(DAY_MS)
    }
}

/// The month of a day: the number of its first day since 1970-01-01, and how many it has.
fn month_of(day: u64) -> (u64, u64) {
    // Whole rounds of the calendar, which repeats after 400 years, then year by year.
    let mut first = day - day % ROUND_DAYS;
    let mut year = 1970;
    while day >= first + year_days(year) {
        first += year_days(year);
        year += 1;
    }
    let february = year_days(year) - 337;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < first + days {
            return (first, days);
        }
        first += days;
    }
    (first, 31)
}

fn year_days(year: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    365 + u64::from(is_leap)
}

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;
/// Days of 400 years.
const ROUND_DAYS: u64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds since the epoch of midnights, as `date -u -d … +%s` says.
    #[test]
    fn months_are_those_of_the_calendar() {
        let cases = [
            // A moment, the beginning of its month, the beginning of the next.
            (0, 0, 2_678_400),
            // 2024-02-29 12:00, a leap day.
            (1_709_208_000, 1_706_745_600, 1_709_251_200),
            // 2100-02-28: no leap year.
            (4_107_456_000, 4_105_123_200, 4_107_542_400),
            // 2000-02-29.
            (951_782_400, 949_363_200, 951_868_800),
            // 2026-12-31 23:59:59.
            (1_798_761_599, 1_796_083_200, 1_798_761_600),
            // 2370-01-01, the second round.
            (12_622_780_800, 12_622_780_800, 12_625_459_200),
        ];
        for (moment, begin, end) in cases {
            let periods = Periods::at(moment * 1_000);
            assert_eq!(
                (periods.month / 1_000, periods.month_end / 1_000),
                (begin, end),
                "{moment}"
            );
        }
    }

    #[test]
    fn months_follow_each_other() {
        let mut at = 0;
        for _ in 0..12 * 500 {
            let periods = Periods::at(at);
            assert_eq!(periods.month, at);
            assert_eq!(Periods::at(periods.month_end - 1).month, at);
            at = periods.month_end;
        }
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        let periods = Periods::at(u64::MAX);
        assert!(periods.month <= periods.day && periods.day <= periods.minute);
    }
}
