//! What the relay acknowledged survives the end of its process. `cargo xtask kill` does this
//! a thousand times.

use e2e::kill::{Order, run};

#[test]
fn what_was_acknowledged_survives_kills() {
    let parent = tempfile::tempdir().unwrap();
    let order = Order {
        kills: 15,
        seed: 7,
        folder: parent.path().join("kill"),
        executable: testkit::gateway::executable().unwrap(),
    };
    let verdict = run(&order, |_| {}).unwrap();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict.kills, 15);
    assert!(verdict.acked > 0, "{verdict}");
}
