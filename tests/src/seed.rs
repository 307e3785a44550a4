//! The seed of a test that draws: printed with its failure, chosen by `TIDEMILL_SEED`.

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Random numbers of one test, all from one seed.
#[derive(Clone, Debug)]
pub struct Seeded {
    seed: u64,
    random: ChaCha8Rng,
}

impl Seeded {
    /// The seed of `TIDEMILL_SEED`, else `default`: the same draws in each run until somebody asks for others.
    ///
    /// # Errors
    /// When the variable holds no number.
    pub fn from_environment(default: u64) -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "a failed run is repeated by its seed")]
        let seed = match std::env::var("TIDEMILL_SEED") {
            Ok(text) => text.parse().with_context(|| format!("TIDEMILL_SEED is no number: {text}"))?,
            Err(_) => default,
        };
        Ok(Self::new(seed))
    }

    /// Draws of a given seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number of `[0, bound)`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias is below 2^-40 for the bounds of tests.
        self.random.next_u64() % bound.max(1)
    }

    /// An index of a collection of that length.
    ///
    /// # Panics
    /// Never: what is below a length fits it.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("less than a length")
    }

    /// One of several.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// Puts a list into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// Tells with an error how to have the same draws again.
    #[must_use]
    pub fn told(&self, error: anyhow::Error) -> anyhow::Error {
        error.context(format!("repeat it with TIDEMILL_SEED={}", self.seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same() {
        let draws = |seed| {
            let mut random = Seeded::new(seed);
            let mut order: Vec<u32> = (0..50).collect();
            random.shuffle(&mut order);
            (order, random.below(1_000_000))
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }
}
