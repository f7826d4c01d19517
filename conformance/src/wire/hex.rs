//! Bytes for people: offset, sixteen bytes, the same as text.

use std::fmt::Write as _;

/// A dump of at most `bytes_max` of `bytes`; says how many are not shown.
pub fn dump(bytes: &[u8], bytes_max: usize) -> String {
    let shown = &bytes[..bytes.len().min(bytes_max)];
    let mut text = String::new();
    for (index, row) in shown.chunks(16).enumerate() {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let ascii: String = row
            .iter()
            .map(|&byte| {
                if (0x20..0x7f).contains(&byte) {
                    char::from(byte)
                } else {
                    '.'
                }
            })
            .collect();
        let offset = index * 16;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{offset:06x}  {:<47}  {ascii}", hex.join(" "));
    }
    if shown.len() < bytes.len() {
        let _ = writeln!(text, "… {} bytes more", bytes.len() - shown.len());
    }
    text
}

/// All of `bytes` as digits.
pub fn digits(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dump_shows_offset_bytes_and_text() {
        let text = dump(b"\x00\x12ApiVersions \xff!", 64);
        let row = "000000  00 12 41 70 69 56 65 72 73 69 6f 6e 73 20 ff 21  ..ApiVersions .!\n";
        assert_eq!(text, row);
    }

    #[test]
    fn dump_is_bounded_and_says_so() {
        let text = dump(&[0; 40], 16);
        assert!(text.ends_with("… 24 bytes more\n"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }
}
