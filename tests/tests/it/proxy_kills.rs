//! Administrators were told that something is saved; then the gateway is killed.

#[test]
fn routes_are_the_old_or_the_new_version_after_kills() -> anyhow::Result<()> {
    let outcome = e2e::proxy::kills::run(30)?;
    println!("{outcome:?}");
    assert!(outcome.acknowledged >= 30, "{outcome:?}");
    assert!(outcome.made + outcome.not_made > 0, "{outcome:?}");
    Ok(())
}
