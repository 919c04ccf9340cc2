//! When a service was back to normal after something happened to it.

use miroir_testkit::figures::statistics::{percentile, sorted};

/// Answers are looked at in windows of so many seconds, by the moment they came: a window in which everybody waits
/// has none.
pub const WINDOW: f64 = 0.5;
/// It is back with the first of so many good windows in a row: one good window between bad ones is none.
const STEADY: usize = 4;

/// An answer: when it came, in seconds, and how long it took, in milliseconds.
pub type Answered = (f64, f64);

/// For each whole window from one moment to another, whether it has answers whose p99 is within the limit.
pub fn good_windows(answers: &[Answered], from: f64, to: f64, limit: f64) -> Vec<bool> {
    let count = ((to - from) / WINDOW).floor().max(0.0) as usize;
    let mut windows = vec![Vec::new(); count];
    for (came, took) in answers.iter().filter(|(came, _)| *came >= from) {
        let place = ((came - from) / WINDOW) as usize;
        if let Some(window) = windows.get_mut(place) {
            window.push(*took);
        }
    }
    // The percentile of nothing is not a number, which is not within any limit.
    windows.into_iter().map(|window| percentile(&sorted(window), 0.99) <= limit).collect()
}

/// Seconds until the windows are good and stay so; infinite when they never do.
pub fn back_after(windows: &[bool]) -> f64 {
    let first = windows.windows(STEADY).position(|some| some.iter().all(|good| *good));
    first.map_or(f64::INFINITY, |place| place as f64 * WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_without_answers_is_as_bad_as_one_with_late_ones() {
        let answers = [(10.1, 2.0), (10.7, 2.0), (10.8, 9.0), (11.6, 3.0), (12.9, 1.0)];
        // Nothing came in the third window; the last one is not over.
        assert_eq!(good_windows(&answers, 10.0, 12.2, 4.0), [true, false, false, true]);
    }

    #[test]
    fn one_good_window_between_bad_ones_is_not_back() {
        let windows = [false, true, false, true, true, true, true, false];
        assert_eq!(back_after(&windows), 3.0 * WINDOW);
        assert_eq!(back_after(&windows[..6]), f64::INFINITY);
        assert_eq!(back_after(&[true; 4]), 0.0);
    }
}
