//! stub
use crate::cluster::Cluster;
use crate::read::ReadAnswer;
use bytes::Bytes;
use miroir_core::error::ApiError;
/// s
pub enum BrowseInput {
    /// s
    Body(Bytes),
    /// s
    Query(String),
}
impl Cluster {
    /// s
    pub async fn browse(&self, _: &str, _: BrowseInput) -> Result<ReadAnswer, ApiError> {
        Err(ApiError::internal("stub"))
    }
    /// s
    pub async fn document(&self, _: &str, _: &str, _: Option<&str>) -> Result<ReadAnswer, ApiError> {
        Err(ApiError::internal("stub"))
    }
}
