//! Why a package could not be built, and what becomes of its request then.

use std::time::Duration;

use adit_shared::objects::ObjectError;

use crate::api::ApiError;
use crate::manifest::ManifestError;
use crate::plan::PlanError;

/// What becomes of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A part that every build needs, the store or the server, is away or in trouble. It is waited for, for a bounded time: that is
    /// no fault of this package, and no failed attempt.
    Wait,
    /// This build went wrong in a way that need not repeat itself: it is tried again, a bounded number of times.
    Retry,
    /// Trying again would end the same way: the client is told and the request goes to the dead queue.
    Reject,
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A document's bytes are not to be had, or are not what was imported.
    #[error("the document {:?} cannot be read ({path}): {reason}", r#ref)]
    Document {
        /// The document.
        r#ref: String,
        /// Path of the file in the archive.
        path: String,
        /// What is wrong.
        reason: String,
        /// Says that the file's object is missing: it may have moved since the package was planned.
        is_missing: bool,
    },
    /// The manifest is cut or wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The server did not answer as it should.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The object store did not do what was asked.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// Too many attempts ended without a result, not even an error: whatever this request is, it brings packagers down.
    #[error("given up: {attempts} attempts broke off without a result; see the packagers' logs")]
    GivenUp {
        /// How many.
        attempts: u32,
    },
    /// Another packager took the same request later, and so has the say now. No failure.
    #[error("another packager has taken the package over")]
    Overtaken,
    /// A task of the build ended without a result.
    #[error("a task of the build broke off: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl BuildError {
    /// What becomes of the request.
    #[must_use]
    pub fn fate(&self) -> Fate {
        match self {
            Self::Document { .. } | Self::Manifest(ManifestError::Invalid { .. }) => Fate::Reject,
            Self::Plan(
                PlanError::TooLarge(_)
                | PlanError::Incomplete { .. }
                | PlanError::Undescribed(_)
                | PlanError::NoBase
                | PlanError::Selection
                | PlanError::TooManyShards(_),
            ) => Fate::Reject,
            Self::Api(error) => error.fate(),
            Self::GivenUp { .. } | Self::Store(ObjectError::UnsafeKey(_)) => Fate::Reject,
            // Refused as well: whoever mends a bucket's rights should not find every package failed that was asked for meanwhile.
            Self::Store(ObjectError::Unavailable(_) | ObjectError::Refused(_)) => Fate::Wait,
            Self::Manifest(ManifestError::Cut { .. })
            | Self::Plan(PlanError::Spool(_))
            | Self::Store(ObjectError::NotFound(_) | ObjectError::OutOfRange { .. })
            | Self::Overtaken
            | Self::Task(_) => Fate::Retry,
        }
    }

    /// How long the part that failed wants to be left alone, where it said so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(ApiError::Status { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }
}

impl From<std::io::Error> for BuildError {
    /// A build touches no files but its temporary ones. What readers and writers on the way could only pass on as such an error is taken out.
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::Plan(PlanError::Spool(error)),
        }
    }
}
