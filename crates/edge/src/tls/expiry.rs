//! When a certificate expires, read from its DER encoding (RFC 5280, 4.1).

/// The `notAfter` of a certificate, in Unix seconds; `None` if it can't be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<u64> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    // The version is left out by certificates of the first version.
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        // Serial number, algorithm, issuer.
        (_, fields) = element(fields, tag)?;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_, not_after) = time(validity)?;
    let (not_after, _) = time(not_after)?;
    Some(not_after)
}

/// The contents of the element in front, if it has that tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        // Longer lengths have their own bytes; a certificate needs three at most.
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// A point in time, in Unix seconds, and what follows it.
fn time(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (year, digits, rest) = if let Some((text, rest)) = element(bytes, UTC_TIME) {
        let (year, digits) = text.split_at_checked(2)?;
        let year = number(year)?;
        (
            if year < 50 { year + 2000 } else { year + 1900 },
            digits,
            rest,
        )
    } else {
        let (text, rest) = element(bytes, GENERALIZED_TIME)?;
        let (year, digits) = text.split_at_checked(4)?;
        (number(year)?, digits, rest)
    };
    let [month, day, hour, minute, second] = match digits.strip_suffix(b"Z")? {
        digits if digits.len() == 10 => {
            let mut parts = digits.chunks(2).map(number);
            let mut next = || parts.next().flatten();
            [next()?, next()?, next()?, next()?, next()?]
        }
        _ => return None,
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    let seconds = hour * 3_600 + minute * 60 + second;
    Some((days_since_1970(year, month, day) * 86_400 + seconds, rest))
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum, digit| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + u64::from(digit - b'0'))
    })
}

/// Days in the Gregorian calendar. Years are counted from March, so that the leap day
/// comes last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days_before_month = (153 * month + 2) / 5;
    year * 365 + leap_days + days_before_month + day - DAYS_BEFORE_1970
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
/// 1 January 1970 in the count of [`days_since_1970`].
const DAYS_BEFORE_1970: u64 = 719_469;

#[cfg(test)]
mod tests {
    use super::{days_since_1970, not_after, time};

    #[test]
    fn days_are_counted() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(2000, 2, 29), 11_016);
        assert_eq!(days_since_1970(2000, 3, 1), 11_017);
        assert_eq!(days_since_1970(2026, 11, 20), 20_777);
    }

    #[test]
    fn both_kinds_of_time_are_read() {
        assert_eq!(
            time(b"\x17\x0d261120183000Z"),
            Some((1_795_199_400, &b""[..]))
        );
        assert_eq!(
            time(b"\x18\x0f20500101000000Zx"),
            Some((2_524_608_000, &b"x"[..]))
        );
        for wrong in [
            &b""[..],
            b"\x17\x0d26112018300",
            b"\x17\x0d261320183000Z",
            b"\x17\x05abcdZ",
        ] {
            assert_eq!(time(wrong), None);
        }
    }

    #[test]
    fn a_certificate_tells_when_it_expires() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (year, seconds) in [(2049, 2_493_072_000), (2050, 2_524_608_000)] {
            let mut parameters = rcgen::CertificateParams::new(["a".to_owned()]).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
            let certificate = parameters.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(seconds));
            for end in 0..60 {
                assert_eq!(not_after(&certificate.der()[..end]), None);
            }
        }
    }
}
