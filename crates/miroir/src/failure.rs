//! Why a command could not do its work.
//!
//! A command can only print its failure and end, so a failure is the sentence to print: what went wrong and,
//! where there is a remedy, what to do.

/// The sentence to print before a command ends unsuccessfully.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure explained by `sentence`.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}
