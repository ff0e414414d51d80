//! What a call can be refused with, and how each refusal is said.

use axum::http::StatusCode;

/// Errors of the server API: a closed table (`contracts`: centrifuge 11.14).
///
/// The numbers are those of the client protocol; 104 and 113 carry other words here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Something failed on our side; whoever found it has logged it.
    #[error("internal server error")]
    Internal,
    /// The channel's namespace is not configured.
    #[error("unknown channel")]
    UnknownChannel,
    /// There is no such method, or no such thing.
    #[error("not found")]
    NotFound,
    /// A required field is missing, or a value is not acceptable.
    #[error("bad request")]
    BadRequest,
    /// The channel's namespace does not have the feature on.
    #[error("not available")]
    NotAvailable,
    /// The asked-for position is not in the stream any more.
    #[error("unrecoverable position")]
    UnrecoverablePosition,
    /// Somebody else was faster.
    #[error("conflict")]
    Conflict,
}

impl ApiError {
    /// Every error, in the order of its code.
    pub const ALL: [Self; 7] = [
        Self::Internal,
        Self::UnknownChannel,
        Self::NotFound,
        Self::BadRequest,
        Self::NotAvailable,
        Self::UnrecoverablePosition,
        Self::Conflict,
    ];

    /// The number on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::Internal => 100,
            Self::UnknownChannel => 102,
            Self::NotFound => 104,
            Self::BadRequest => 107,
            Self::NotAvailable => 108,
            Self::UnrecoverablePosition => 112,
            Self::Conflict => 113,
        }
    }

    /// The HTTP status in transport mode; in the usual mode it is always 200.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UnknownChannel | Self::NotFound => StatusCode::NOT_FOUND,
            Self::BadRequest | Self::NotAvailable => StatusCode::BAD_REQUEST,
            Self::UnrecoverablePosition => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Conflict => StatusCode::CONFLICT,
        }
    }
}

/// Why an operator's request was not carried out; the text goes to the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// What was asked for is not acceptable: 422. Nothing has changed.
    #[error("{0}")]
    Refused(String),
    /// A bound has been reached: 409. Nothing has changed.
    #[error("{0}")]
    LimitReached(String),
    /// It was tried and failed on our side: 500.
    #[error("{0}")]
    Failed(String),
}
