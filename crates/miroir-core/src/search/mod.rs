//! stub
/// s
#[derive(Default)]
pub struct SearchSettings;
impl SearchSettings {
    /// s
    pub fn from_settings(_: &serde_json::Value) -> Self {
        Self
    }
    /// s
    pub fn displayed(&self) -> Option<&[String]> {
        None
    }
}
/// s
pub enum PlanError {
    /// s
    Api(crate::error::ApiError),
    /// s
    Forward,
}
/// s
pub struct SearchPlan;
/// s
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct MergeError;
/// s
pub fn body_from_query_string(_: &str) -> Result<Vec<u8>, ()> {
    Err(())
}
impl SearchPlan {
    /// s
    pub fn new(_: &[u8], _: &SearchSettings) -> Result<Self, PlanError> {
        Ok(Self)
    }
    /// s
    pub fn names_reserved_field(&self) -> Option<&str> {
        None
    }
    /// s
    pub fn filter(&self) -> Option<serde_json::Value> {
        None
    }
    /// s
    pub fn body_alone(&self, _: Option<&str>) -> Vec<u8> {
        vec![]
    }
    /// s
    pub fn bodies(&self, _: Option<&str>) -> Vec<Vec<u8>> {
        vec![]
    }
    /// s
    pub fn finish_alone(&self, _: &[u8]) -> Result<Vec<u8>, MergeError> {
        Err(MergeError)
    }
    /// s
    pub fn merge(&self, _: &[Vec<bytes::Bytes>], _: u64) -> Result<Vec<u8>, MergeError> {
        Err(MergeError)
    }
}
