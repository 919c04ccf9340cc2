//! Which Meilisearch a node runs, and whether Miroir can work with it.
//!
//! An older one lacks requests that Miroir makes, and would answer some of them as if they had been others. So it is
//! not asked anything: a node that says that it is older stays out of service.

/// The oldest release that works: major and minor version.
pub(crate) const OLDEST: (u64, u64) = (1, 21);

/// Major and minor version of a release such as `1.21.0`.
pub(crate) fn release(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Why a node of this version cannot be used; `None` when it can. What is not understood is taken for newer.
pub(crate) fn refusal(version: &str) -> Option<String> {
    let (major, minor) = OLDEST;
    let is_old = release(version).is_some_and(|release| release < OLDEST);
    is_old.then(|| format!("it runs Meilisearch {version}; upgrade it to {major}.{minor} or newer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_older_releases_are_refused() {
        for good in ["1.21.0", "1.21.0-rc.1", "1.50.2", "2.0.0", "unknown", ""] {
            assert_eq!(refusal(good), None, "{good}");
        }
        for old in ["1.20.9", "1.3.0", "0.30.5"] {
            assert!(refusal(old).is_some_and(|why| why.contains(old) && why.contains("1.21")), "{old}");
        }
    }
}
