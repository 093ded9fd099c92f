//! A histogram's buckets as numbers to reckon with, pure: sums, differences, and estimated quantiles.

/// How many observations were no larger than each limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durations {
    /// Upper limits in seconds, rising, without the infinite one.
    limits: Vec<f64>,
    /// For each limit, how many observations were no larger.
    counts: Vec<u64>,
    /// All observations.
    count: u64,
    /// Their sum, in seconds.
    sum: f64,
}

/// A quantile, as far as the buckets tell. Seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quantile {
    /// Between two limits, reckoned as Prometheus' `histogram_quantile` does.
    About(f64),
    /// More than the largest limit.
    Over(f64),
}

impl Durations {
    /// From a histogram: its limits with their cumulative counts, all observations and their sum.
    pub fn new(buckets: impl IntoIterator<Item = (f64, u64)>, count: u64, sum: f64) -> Self {
        let (limits, counts) = buckets.into_iter().filter(|(limit, _)| limit.is_finite()).unzip();
        Self { limits, counts, count, sum }
    }

    /// How many observations there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean in seconds; `None` where nothing was observed.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Adds the observations of a histogram with the same limits.
    pub fn add(&mut self, other: &Self) {
        if self.limits.is_empty() {
            *self = other.clone();
            return;
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.sum += other.sum;
    }

    /// What came since an earlier moment of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        Self {
            limits: self.limits.clone(),
            counts: self.counts.iter().zip(before).map(|(now, then)| now.saturating_sub(then)).collect(),
            count: self.count.saturating_sub(earlier.count),
            sum: (self.sum - earlier.sum).max(0.0),
        }
    }

    /// The time that the share `of` (0 to 1) of the observations did not exceed; `None` where nothing was observed.
    pub fn quantile(&self, of: f64) -> Option<Quantile> {
        if self.count == 0 {
            return None;
        }
        let rank = of.clamp(0.0, 1.0) * self.count as f64;
        let (mut below, mut under) = (0.0, 0);
        for (limit, count) in self.limits.iter().zip(&self.counts) {
            if *count as f64 >= rank && *count > 0 {
                let inside = (count - under.min(*count)) as f64;
                let share = if inside > 0.0 { ((rank - under as f64) / inside).clamp(0.0, 1.0) } else { 1.0 };
                return Some(Quantile::About(below + (limit - below) * share));
            }
            (below, under) = (*limit, *count);
        }
        Some(Quantile::Over(below))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(observations: &[f64]) -> Durations {
        let limits = [0.1, 0.5, 2.5];
        let under = |limit: f64| observations.iter().filter(|each| **each <= limit).count() as u64;
        let buckets = limits.map(|limit| (limit, under(limit)));
        Durations::new(buckets, observations.len() as u64, observations.iter().sum())
    }

    #[test]
    fn quantiles_lie_where_prometheus_puts_them() {
        let durations = seen(&[0.05, 0.05, 0.3, 0.3]);
        assert_eq!(durations.quantile(0.5), Some(Quantile::About(0.1)));
        assert_eq!(durations.quantile(0.75), Some(Quantile::About(0.1 + 0.4 * 0.5)));
        assert_eq!(durations.mean(), Some(0.175));
        assert_eq!(seen(&[9.0]).quantile(0.5), Some(Quantile::Over(2.5)));
        assert_eq!(seen(&[]).quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn a_quantile_lies_in_the_bucket_of_the_observation_it_stands_for(
            mut all in proptest::collection::vec(0.0_f64..5.0, 1..100), of in 0.01_f64..1.0,
        ) {
            all.sort_by(f64::total_cmp);
            let rank = (of * all.len() as f64).ceil() as usize;
            let exact = all[rank.clamp(1, all.len()) - 1];
            match seen(&all).quantile(of).unwrap() {
                Quantile::Over(limit) => prop_assert!(exact > limit),
                Quantile::About(about) => {
                    let limit = [0.1, 0.5, 2.5].into_iter().find(|limit| exact <= *limit).unwrap();
                    prop_assert!(about <= limit + 1e-9, "{exact} is under {limit}, {about} is not");
                    prop_assert!([0.0, 0.1, 0.5].into_iter().filter(|below| *below < exact).all(|below| about >= below));
                }
            }
        }

        #[test]
        fn what_came_since_is_what_was_added(
            first in proptest::collection::vec(0.0_f64..5.0, 0..50), more in proptest::collection::vec(0.0_f64..5.0, 0..50),
        ) {
            let mut all = seen(&first);
            all.add(&seen(&more));
            let since = all.since(&seen(&first));
            prop_assert_eq!(since.counts, seen(&more).counts);
            prop_assert_eq!(since.count, more.len() as u64);
        }
    }
}
