//! Idempotency keys as contracts derive them, for models that show them.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The key of a canonical JSON array: the first 16 bytes of its SHA-256, in lower-case hexadecimal digits.
pub(crate) fn derived(canonical: &str) -> String {
    hex(&Sha256::digest(canonical.as_bytes())[..16])
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::derived;

    #[test]
    fn keys_are_those_of_the_golden_case_gx1() {
        assert_eq!(derived(r#"[123,"sleep",1741478400500000,null]"#), "30584ef560fbe32a840d728b09cee6f1");
        assert_eq!(derived(r#"["sleep_entry_created",9001,1745993523412000]"#), "c4fe8a1657b7ad83b92e594f11ea15a7");
    }
}
