//! Plain text tables: a header, a column per field, as wide as needed.

/// Lays out `rows` under `header`, one line each, indented by two spaces.
pub fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}\n", padded.join("  ").trim_end())
    };
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    std::iter::once(line(&header)).chain(rows.iter().map(|row| line(row))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["meili-0".to_owned(), "1".to_owned()], vec!["é".to_owned(), "22".to_owned()]];
        assert_eq!(super::render(&["node", "n"], &rows), "  node     n\n  meili-0  1\n  é        22\n");
    }
}
