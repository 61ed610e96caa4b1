//! Why a package could not be built, and what becomes of its request then.

use adit_shared::objects::ObjectError;

use crate::api::ApiError;
use crate::manifest::ManifestError;
use crate::plan::PlanError;

/// What becomes of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Something is away that may come back: the same request is tried again, a bounded number of times.
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
            Self::Plan(PlanError::TooLarge(_) | PlanError::Incomplete { .. }) => Fate::Reject,
            Self::Api(error) => error.fate(),
            Self::GivenUp { .. } | Self::Store(ObjectError::UnsafeKey(_)) => Fate::Reject,
            Self::Manifest(ManifestError::Cut { .. })
            | Self::Plan(PlanError::Spool(_))
            | Self::Store(_)
            | Self::Task(_) => Fate::Retry,
        }
    }
}

impl From<std::io::Error> for BuildError {
    /// The plan's temporary file is the only one that a build touches by itself.
    fn from(error: std::io::Error) -> Self {
        Self::Plan(PlanError::Spool(error))
    }
}
