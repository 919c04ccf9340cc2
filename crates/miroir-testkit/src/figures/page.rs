//! The page a measurement is written to: what stands between two marked lines is replaced, the rest is kept.

use std::path::Path;

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Replaces what was measured before.
pub fn write(path: &Path, tables: &str) {
    let shown = path.display();
    let page = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {shown}: {error}"));
    let (before, rest) = page.split_once(BEGIN).unwrap_or_else(|| panic!("{shown} has no line {BEGIN}"));
    let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("{shown} has no line {END}"));
    std::fs::write(path, format!("{before}{BEGIN}\n{tables}{END}{after}"))
        .unwrap_or_else(|error| panic!("cannot write {shown}: {error}"));
}
