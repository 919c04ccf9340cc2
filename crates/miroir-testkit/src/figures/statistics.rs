//! The few figures a list of measurements is reduced to.

/// The value that a share of the sorted measurements does not exceed (nearest rank).
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// The middle value.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let sorted = sorted(values);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
    }
}

/// The values in ascending order.
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The median, over rounds, of the quotient of two measurements of the same round: a machine that was slow for a
/// while was slow for both.
pub fn median_ratio(values: &[f64], reference: &[f64]) -> f64 {
    median(values.iter().zip(reference).map(|(value, reference)| value / reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measurements_that_were_made() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.50), 100.0);
        assert_eq!(percentile(&values, 0.95), 190.0);
        assert_eq!(percentile(&values, 0.99), 198.0);
        assert_eq!(percentile(&values[..1], 0.99), 1.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        assert_eq!(median([3.0, 1.0, 2.0, 10.0]), 2.5);
        // The third round was slow for both and changes nothing.
        assert_eq!(median_ratio(&[2.0, 2.2, 40.0], &[1.0, 1.0, 20.0]), 2.0);
    }
}
