use super::*;

const MS: u64 = 1_000_000;

fn shape(loss: Loss) -> Shape {
    Shape {
        rtt: Duration::from_millis(20),
        rate: 100_000_000,
        queue_bdp: 2.0,
        loss,
    }
}

#[test]
fn packet_takes_its_time_on_the_line_and_on_the_way() {
    let mut link = Direction::new(&shape(Loss::Independent(0.0)), 1);
    // 1,250 bytes are 10,000 bits: 0.1 ms.
    assert_eq!(link.enter(0, 1250), Some(10 * MS + MS / 10));
    assert_eq!(link.enter(0, 1250), Some(10 * MS + MS / 5));
    assert_eq!(link.enter(MS, 1250), Some(11 * MS + MS / 10));
}

#[test]
fn end_of_a_full_queue_is_cut_off() {
    let mut link = Direction::new(&shape(Loss::Independent(0.0)), 1);
    // Two products of 250,000 bytes hold 400 packets.
    let passed = (0..500).filter(|_| link.enter(0, 1250).is_some()).count();
    assert_eq!(passed, 400);
    let counts = link.counts(0);
    assert_eq!((counts.overflowed, counts.queue_max), (100, 500_000));
    assert!(link.enter(40 * MS, 1250).is_some(), "the queue has emptied");
}

#[test]
fn mean_queue_is_over_time() {
    let mut link = Direction::new(&shape(Loss::Independent(0.0)), 1);
    for _ in 0..100 {
        link.enter(0, 1250);
    }
    // 125,000 bytes that shrink to nothing in 10 ms, then 10 ms of nothing.
    let mean = link.counts(20 * MS).queue_mean;
    assert!((mean - 31_250.0).abs() < 1.0, "{mean}");
    link.mark(20 * MS);
    assert_eq!(link.counts(30 * MS), Counts::default());
}

#[test]
fn as_many_are_lost_as_were_asked_for() {
    for (loss, share) in [
        (Loss::Independent(0.05), 0.05),
        (
            Loss::Bursts {
                share: 0.02,
                mean: 3.0,
            },
            0.02,
        ),
    ] {
        let mut link = Direction::new(&shape(loss), 7);
        let fates: Vec<bool> = (0..400_000)
            .map(|number| link.enter(number * MS, 1000).is_none())
            .collect();
        let lost = fates.iter().filter(|lost| **lost).count();
        let runs = fates.windows(2).filter(|two| two == &[false, true]).count();
        let seen = lost as f64 / fates.len() as f64;
        assert!((seen / share - 1.0).abs() < 0.1, "{loss:?}: {seen}");
        let mean = lost as f64 / runs as f64;
        let expected = match loss {
            Loss::Independent(share) => 1.0 / (1.0 - share),
            Loss::Bursts { mean, .. } => mean,
        };
        assert!((mean / expected - 1.0).abs() < 0.1, "{loss:?}: {mean}");
    }
}

#[test]
fn same_seed_is_the_same_fate() {
    let fates = |seed| {
        let mut link = Direction::new(&shape(Loss::Independent(0.3)), seed);
        let fate = |number| link.enter(number * MS, 100).is_some();
        (0..64).map(fate).collect::<Vec<_>>()
    };
    assert_eq!(fates(3), fates(3));
    assert_ne!(fates(3), fates(4));
}
