//! The trace that a request belongs to (W3C Trace Context, `traceparent`).

use std::fmt;

use http1::{Fields, Known};
use uuid::Uuid;

/// A request's place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The whole trace; never zero.
    pub id: u128,
    /// The span that calls; never zero.
    pub span: u64,
    /// `01`: the caller records it. Others are handed on as they came.
    pub flags: u8,
    /// It began here.
    pub is_new: bool,
}

impl Trace {
    /// Reads `traceparent`. `None` if it is not exactly of the standard's form, and a new
    /// trace is to be begun; versions to come may have more after it.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(LENGTH)?;
        let [version, id, span, flags] = [(0, 2), (3, 35), (36, 52), (53, 55)]
            .map(|(from, to)| known.get(from..to).unwrap_or_default());
        let has_dashes = [2, 35, 52].iter().all(|at| known.get(*at) == Some(&b'-'));
        let fits = match version {
            b"00" => more.is_empty(),
            b"ff" => false,
            _ => more.is_empty() || more.first() == Some(&b'-'),
        };
        hex(version)?;
        let trace = Self {
            id: hex(id)?,
            span: u64::try_from(hex(span)?).ok()?,
            flags: u8::try_from(hex(flags)?).ok()?,
            is_new: false,
        };
        (has_dashes && fits && trace.id != 0 && trace.span != 0).then_some(trace)
    }

    /// The trace of a request: the one it came with, or a new one that nobody records.
    /// The span is the gateway's own. `draw` makes ids by chance, which have to differ and
    /// not to be secret. Of two `traceparent`, neither is believed.
    pub fn of(fields: &Fields, mut draw: impl FnMut() -> u64) -> Self {
        let span = draw().max(1);
        let mut given = fields.all(Known::Traceparent);
        match (given.next().and_then(Self::parse), given.next()) {
            (Some(caller), None) => Self { span, ..caller },
            _ => Self {
                id: u128::from(draw()) << 64 | u128::from(draw().max(1)),
                span,
                flags: 0,
                is_new: true,
            },
        }
    }

    /// The id of the trace, as that of a request (`x-guuid`).
    pub fn guuid(&self) -> Uuid {
        Uuid::from_u128(self.id)
    }

    /// Puts it in what goes upstream. What vendors wrote about another trace goes.
    pub fn put(&self, fields: &mut Fields) {
        if self.is_new {
            fields.retain(|field| !field.is_named("tracestate"));
        }
        let put = fields.set("traceparent", &self.header());
        debug_assert!(put.is_ok(), "digits and dashes are a valid value");
    }

    /// The value of `traceparent` for the upstream.
    pub fn header(&self) -> [u8; LENGTH] {
        let mut header = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let mut digits = |end: usize, count: usize, value: u128| {
            let places = header.get_mut(end - count..end).unwrap_or_default();
            for (place, shift) in places.iter_mut().rev().zip((0..).step_by(4)) {
                let digit = (value >> shift) as usize & 0xf;
                *place = b"0123456789abcdef".get(digit).copied().unwrap_or(b'0');
            }
        };
        digits(35, 32, self.id);
        digits(52, 16, u128::from(self.span));
        digits(55, 2, u128::from(self.flags));
        header
    }
}

/// The id of the trace, as logs show it.
impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.id)
    }
}

/// Lower-case digits only.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// Bytes of a `traceparent`.
const LENGTH: usize = 55;

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn fields(values: &[&[u8]]) -> Fields {
        let mut fields = Fields::new();
        for value in values {
            fields.push("Traceparent", value).unwrap();
        }
        fields.push("tracestate", b"vendor=1").unwrap();
        fields
    }

    /// Ids in a row.
    fn draw() -> impl FnMut() -> u64 {
        let mut next = 41;
        move || {
            next += 1;
            next
        }
    }

    #[test]
    fn a_trace_is_handed_on_with_a_span_of_our_own() {
        let given = Trace::parse(GIVEN).unwrap();
        assert_eq!(given.header(), GIVEN);
        assert_eq!(given.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let mut fields = fields(&[GIVEN]);
        let ours = Trace::of(&fields, draw());
        assert_eq!((ours.id, ours.span, ours.flags), (given.id, 42, 1));
        ours.put(&mut fields);
        assert_eq!(
            fields.text(Known::Traceparent),
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-000000000000002a-01")
        );
        assert_eq!(fields.len(), 2);
    }

    #[test]
    fn what_is_not_of_the_form_begins_a_new_trace() {
        for value in [
            &b""[..],
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            b"0\xff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Trace::parse(value), None, "{}", value.escape_ascii());
            let mut fields = fields(&[value]);
            Trace::of(&fields, draw()).put(&mut fields);
            assert_eq!(
                fields.text(Known::Traceparent),
                Some("00-000000000000002b000000000000002c-000000000000002a-00")
            );
            assert_eq!(fields.len(), 1);
        }
        assert!(Trace::of(&fields(&[GIVEN, GIVEN]), draw()).is_new);
        let later = b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more";
        assert_eq!(Trace::parse(later).unwrap().flags, 3);
    }
}
