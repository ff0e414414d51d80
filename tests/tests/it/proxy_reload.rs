//! Routes change; what runs through them goes on.

use e2e::proxy::reload::{Size, while_routes_change};

#[test]
fn a_thousand_changes_of_routes_disturb_no_stream_and_no_tunnel() -> anyhow::Result<()> {
    let outcome = while_routes_change(Size {
        streams: 500,
        tunnels: 200,
        changes: 1_000,
    })?;
    println!("{outcome:?}");
    Ok(())
}
