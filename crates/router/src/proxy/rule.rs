//! Who may pass (`contracts`: http-proxy 5.2).

use super::Caller;

/// An access rule, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessRule {
    /// Empty: administrators only.
    Superuser,
    /// `true`.
    Everybody,
    /// `false`; administrators are not let through either.
    Nobody,
    /// `@request.auth.id != ''`: any user, and administrators.
    Authenticated,
    /// `@request.auth.id = ''`: whoever has no token; nobody else.
    Guests,
    /// Anything else. Refused when a record is saved; one that is stored lets nobody through.
    Unknown,
}

/// Why a caller may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// 401: with a token it might.
    #[error("authentication required")]
    Unauthenticated,
    /// 403: not with this one.
    #[error("access denied")]
    Forbidden,
}

impl AccessRule {
    /// What is accepted, for the one whose rule is not.
    pub(super) const ACCEPTED: &'static str = "must be empty (administrators), true, false, \
        @request.auth.id != '' (users) or @request.auth.id = '' (guests)";

    /// Understands a rule; white space and the kind of quotes do not matter.
    pub fn parse(rule: &str) -> Self {
        let rule: String = rule.split_whitespace().collect();
        match rule.replace('"', "'").as_str() {
            "" => Self::Superuser,
            "true" => Self::Everybody,
            "false" => Self::Nobody,
            "@request.auth.id!=''" => Self::Authenticated,
            "@request.auth.id=''" => Self::Guests,
            _ => Self::Unknown,
        }
    }

    /// Lets a caller through, or says why not.
    pub fn admits(self, caller: &Caller) -> Result<(), Denial> {
        match (self, caller) {
            (Self::Everybody, _)
            | (Self::Superuser, Caller::Superuser(_))
            | (Self::Authenticated, Caller::User { .. } | Caller::Superuser(_))
            | (Self::Guests, Caller::Guest) => Ok(()),
            (Self::Superuser | Self::Authenticated, Caller::Guest) => Err(Denial::Unauthenticated),
            (Self::Superuser, Caller::User { .. })
            | (Self::Guests, Caller::User { .. } | Caller::Superuser(_))
            | (Self::Nobody | Self::Unknown, _) => Err(Denial::Forbidden),
        }
    }
}

#[cfg(test)]
mod tests;
