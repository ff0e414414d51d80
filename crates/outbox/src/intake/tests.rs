use std::sync::mpsc;

use bytes::Bytes;

use super::*;
use crate::face::Priority;

#[test]
fn notes_come_back_as_they_were() {
    let notes = [
        Note::default(),
        Note {
            attempts: 3,
            first_attempt_ms: Some(17),
            dead: None,
        },
        Note {
            attempts: 0,
            first_attempt_ms: None,
            dead: Some((Arc::from("no route to  nowhere"), 99)),
        },
        Note {
            attempts: 1,
            first_attempt_ms: Some(1),
            dead: Some((Arc::from(""), 2)),
        },
    ];
    for note in notes {
        assert_eq!(Note::parse(&note.to_text()), Some(note));
    }
    for text in ["", "x", "1", "1 y", "1 - z w", "1 - 5"] {
        assert_eq!(Note::parse(text), None, "{text:?}");
    }
}

#[test]
fn what_is_beyond_the_limits_is_refused_at_once() {
    let limits = Limits {
        waiting_max: 2,
        ..Limits::default()
    };
    let intake = Intake::new(limits, 100, Clock::start(), &[]);
    let (tx, answers) = mpsc::sync_channel(8);
    let append = |size: usize| {
        let tx = tx.clone();
        intake.append(
            record(size),
            Box::new(move |answer| tx.send(answer).unwrap()),
        );
    };
    append(60);
    let too_large = AppendError::TooLarge {
        size: 109,
        max: 100,
    };
    assert_eq!(answers.try_recv().unwrap(), Err(too_large));
    append(1);
    append(1);
    assert!(answers.try_recv().is_err());
    append(1);
    assert_eq!(answers.try_recv().unwrap(), Err(AppendError::Busy));
    intake.fail("gone");
    for _ in 0..2 {
        let failed = answers.try_recv().unwrap();
        assert_eq!(failed, Err(AppendError::Failed(Arc::from("gone"))));
    }
}

#[tokio::test]
async fn marks_of_a_record_become_one_change() {
    let intake = intake_with(1);
    let id = RecordId { seq: 1, place: 0 };
    let dead = |reason: &str| Mark::Dead {
        reason: Arc::from(reason),
        at_ms: 5,
    };
    intake.mark(
        id,
        Mark::Attempted {
            attempt: 1,
            at_ms: 3,
        },
    );
    intake.mark(id, dead("first"));
    intake.mark(id, dead("second"));
    let work = intake.work(10, 1000).await.unwrap();
    let note = Note {
        attempts: 1,
        first_attempt_ms: Some(3),
        dead: Some((Arc::from("second"), 5)),
    };
    assert_eq!(work.changes, [Change::Note { seq: 1, note }]);

    intake.mark(id, Mark::Settled);
    intake.mark(id, Mark::Settled);
    let work = intake.work(10, 1000).await.unwrap();
    assert_eq!(
        work.changes,
        [Change::Forget {
            seq: 1,
            noted: true
        }]
    );
    assert_eq!(
        (intake.figures().settled, intake.figures().unsettled),
        (1, 0)
    );
}

#[tokio::test]
async fn record_that_settles_soon_after_its_attempt_is_not_noted() {
    let intake = intake_with(1);
    let id = RecordId { seq: 1, place: 0 };
    intake.mark(
        id,
        Mark::Attempted {
            attempt: 1,
            at_ms: 3,
        },
    );
    intake.mark(id, Mark::Settled);
    let work = intake.work(10, 1000).await.unwrap();
    assert_eq!(
        work.changes,
        [Change::Forget {
            seq: 1,
            noted: false
        }]
    );
}

#[tokio::test]
async fn oldest_dead_letter_goes_first() {
    let limits = Limits {
        dead_max: 1,
        ..Limits::default()
    };
    let intake = Intake::new(limits, 100, Clock::start(), &[]);
    for seq in 1..=2 {
        let id = RecordId { seq, place: 0 };
        intake.stored(id, Box::new(|_| ()));
        let at_ms = intake.clock.unix_ms();
        let reason = Arc::from("no use");
        intake.mark(id, Mark::Dead { reason, at_ms });
    }
    let work = intake.work(10, 1000).await.unwrap();
    assert!(work.changes.contains(&Change::Forget {
        seq: 1,
        noted: false
    }));
    assert_eq!(intake.figures().dead_dropped, 1);
    assert_eq!(intake.floor(), Some(2));
}

fn intake_with(seq: u64) -> Intake {
    let limits = Limits {
        dead_retention: Duration::MAX,
        ..Limits::default()
    };
    let intake = Intake::new(limits, 100, Clock::start(), &[]);
    intake.stored(RecordId { seq, place: 0 }, Box::new(|_| ()));
    intake
}

fn record(size: usize) -> Record {
    Record {
        client: Arc::from("c"),
        priority: Priority::Bulk,
        at_ms: 1,
        key: 2,
        payload: Bytes::from(vec![0; size]),
    }
}
