//! Reading `miroir.yaml`: the file, then the environment over it, then every check that can be made before
//! anything is started.
//!
//! A mistake is refused with the place it was made and what to write instead. A cluster that starts with a
//! configuration half understood is worse than one that does not start.

mod check;
mod environment;
mod locate;
mod raw;

use std::path::Path;

use miroir_server::Config;

use crate::failure::Failure;
use raw::RawConfig;

/// Reads, overrides and checks the configuration.
pub fn read(path: &Path) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(format!(
            "cannot read the configuration {}: {error}; give its place with --config, or try `miroir dev`, \
             which needs none",
            path.display()
        ))
    })?;
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    parse(&path.display().to_string(), &text, variables)
}

/// [`read`], from given text and variables.
fn parse(
    file: &str,
    text: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Failure> {
    let mut raw = RawConfig::from_yaml(file, text)?;
    let overridden = environment::apply(&mut raw, variables)?;
    check::check(raw, &locate::Places::new(file, text, overridden))
}

#[cfg(test)]
mod tests;
