//! Taking a dump of a Meilisearch into the cluster.
//!
//! A dump is kept on disk first (`upload`) and read through to its end (`survey`): what is wrong with it is found before
//! anything changes, and its entries come in any order while settings have to be set before documents are added. Then
//! a background job (`run`) takes it in through the write path, in batches (`feed`), and notes how far it has come
//! (`record`), so it goes on where it was when Miroir is started again.

mod feed;
mod reading;
mod record;
mod run;
mod survey;
mod upload;

pub(crate) use record::{Import, ImportStatus};
pub(crate) use survey::Survey;
