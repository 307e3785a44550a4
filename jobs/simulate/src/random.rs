//! The one generator of randomness: ChaCha8, seeded by system and stream.

use rand_chacha_03::ChaCha8Rng;
use rand_chacha_03::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// A stream of random numbers that depends on nothing but its seed and its name.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// A stream by name: streams of other names or seeds have nothing in common.
    pub(crate) fn new(seed: u64, stream: &str, index: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(index.to_le_bytes());
        hash.update(stream.as_bytes());
        Self(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    /// A number of `[0, bound)`; 0 when the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The bias of the high half of a product is below 2^-40 for every bound used here.
        u64::try_from((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64)
            .expect("the product's high half is below the bound")
    }

    /// A number of `[from, to]`.
    pub(crate) fn between(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(to - from + 1).expect("ranges go upwards")))
            .expect("ranges are short")
    }

    /// True with a probability, to a millionth.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares are within [0, 1]")]
        let limit = (share.clamp(0.0, 1.0) * 1e6).round() as u64;
        self.below(1_000_000) < limit
    }

    /// A number of `[0, 1)`, a multiple of 2^-53.
    pub(crate) fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let bits = (self.0.next_u64() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let index = usize::try_from(self.below(of.len() as u64)).expect("an index fits");
        of[index]
    }

    /// A UUID's text.
    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.0.next_u64(), self.0.next_u64());
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            low >> 52,
            low & 0xffff_ffff_ffff
        )
    }
}
