//! What criterion measured of the pure parts, as it left it in `target/criterion`.

use std::path::Path;

use serde_json::Value;

/// One benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct PureResult {
    /// Group and function.
    pub name: String,
    /// Median time of one iteration, in nanoseconds.
    pub nanoseconds: f64,
    /// Bytes handled by one iteration, when the benchmark says so.
    pub bytes: Option<u64>,
}

/// All results below a directory, by name.
pub fn read(directory: &Path) -> Vec<PureResult> {
    let mut results = Vec::new();
    collect(directory, &mut results);
    results.sort_by(|left, right| left.name.cmp(&right.name));
    results
}

fn collect(directory: &Path, results: &mut Vec<PureResult>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        if path.file_name().is_some_and(|name| name == "new") {
            results.extend(result(&path));
        } else {
            collect(&path, results);
        }
    }
}

fn result(directory: &Path) -> Option<PureResult> {
    let json = |file: &str| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(directory.join(file)).ok()?).ok()
    };
    let (benchmark, estimates) = (json("benchmark.json")?, json("estimates.json")?);
    Some(PureResult {
        name: benchmark["full_id"].as_str()?.to_owned(),
        nanoseconds: estimates["median"]["point_estimate"].as_f64()?,
        bytes: benchmark["throughput"]["Bytes"].as_u64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_found_at_any_depth() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("split/parse/new");
        std::fs::create_dir_all(&place).unwrap();
        std::fs::create_dir_all(directory.path().join("split/parse/base")).unwrap();
        std::fs::write(place.join("benchmark.json"), r#"{"full_id":"split/parse","throughput":{"Bytes":9}}"#)
            .unwrap();
        std::fs::write(place.join("estimates.json"), r#"{"median":{"point_estimate":12.5}}"#).unwrap();
        let expected = PureResult { name: "split/parse".to_owned(), nanoseconds: 12.5, bytes: Some(9) };
        assert_eq!(read(directory.path()), [expected]);
    }
}
