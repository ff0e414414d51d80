//! Which servers can be used.

use tracing::warn;

use super::NatsBusError;

/// Refuses what lacks a needed feature, and warns of what has a known hole.
pub(super) fn check_version(found: &str) -> Result<(), NatsBusError> {
    let mut numbers = found.split(['.', '-']).map(|part| part.parse::<u64>().ok());
    let mut next = || numbers.next().flatten().unwrap_or_default();
    let version = (next(), next(), next());
    if version < (2, 12, 0) {
        return Err(NatsBusError::TooOld {
            found: found.to_owned(),
        });
    }
    if version < (2, 12, 7) || (version.0, version.1) == (2, 13) {
        warn!(
            version = found,
            "this version of nats-server has published security advisories; 2.12.7 or 2.14 and \
             later have not"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_version;

    #[test]
    fn old_servers_are_refused() {
        for fine in ["2.12.0", "2.12.7", "2.14.1", "2.15.0-RC.1", "3.0.0"] {
            assert!(check_version(fine).is_ok(), "{fine}");
        }
        for old in ["2.11.9", "2.9.0", "1.4", "", "x"] {
            assert!(check_version(old).is_err(), "{old}");
        }
    }
}
