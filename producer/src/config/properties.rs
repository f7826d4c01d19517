//! Java's properties files: how a text becomes pairs of keys and values.
//!
//! ```text
//! # a comment, as is a line that begins with !
//! bootstrap.servers = 10.0.0.1:9092,\
//!                     10.0.0.2:9092
//! client.id: caf\u00e9
//! ```
//!
//! *Invariants*
//! 1. A text gives the same pairs as Java's `Properties.load`, or an error with its line.
//!
//! *Source*: `java.util.Properties.load`: a logical line is joined from those that end with an odd
//! number of backslashes; its key ends at the first `=`, `:` or space that has none before it.
//!
//! *Not here*: what the pairs mean (`values.rs`).

use std::iter::Peekable;
use std::str::Chars;

/// Why a text is no properties file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The line, from 1, where the pair begins.
    pub(crate) line: usize,
    /// What is wrong with it.
    pub(crate) what: &'static str,
}

/// The pairs of a text, in its order; a key may stand twice.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, Malformed> {
    let mut pairs = Vec::new();
    let mut rest = text.chars().peekable();
    let mut line = 1;
    while rest.peek().is_some() {
        let begins_at = line;
        if let Some(logical) = logical_line(&mut rest, &mut line) {
            let told = |what| Malformed {
                line: begins_at,
                what,
            };
            pairs.push(pair(&logical).map_err(told)?);
        }
    }
    Ok(pairs)
}

/// What a file's bytes say, as Java reads them: ISO-8859-1, where each byte is a character.
pub(crate) fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// A value so written that it reads back, in a file too.
pub(crate) fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            ' ' if escaped.is_empty() => escaped.push_str("\\ "),
            ' '..='~' => escaped.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    escaped.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    escaped
}

/// Joins the next logical line, escapes and all; `None` for a comment or a blank one.
fn logical_line(rest: &mut Peekable<Chars<'_>>, line: &mut usize) -> Option<String> {
    skip_blanks(rest);
    let comment = matches!(rest.peek(), Some('#' | '!'));
    let mut joined = String::new();
    while let Some(next) = rest.next() {
        if is_line_end(next) {
            skip_line_feed(next, rest);
            *line += 1;
            break;
        }
        if comment {
            continue;
        }
        if next != '\\' {
            joined.push(next);
            continue;
        }
        // A backslash stays with what it escapes; one at the end of a line joins the next one.
        match rest.next() {
            None => return Some(joined),
            Some(end) if is_line_end(end) => {
                skip_line_feed(end, rest);
                *line += 1;
                skip_blanks(rest);
                // Nothing joined yet: what follows begins anew, and may turn out a comment.
                if joined.is_empty() {
                    return None;
                }
            }
            Some(escaped) => joined.extend([next, escaped]),
        }
    }
    (!joined.is_empty()).then_some(joined)
}

fn pair(logical: &str) -> Result<(String, String), &'static str> {
    let mut escaped = false;
    let key_ends = logical.find(|c: char| {
        let ends = !escaped && (is_separator(c) || is_blank(c));
        escaped = !escaped && c == '\\';
        ends
    });
    let (key, rest) = logical.split_at(key_ends.unwrap_or(logical.len()));
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(is_separator).unwrap_or(rest);
    Ok((
        unescaped(key)?,
        unescaped(value.trim_start_matches(is_blank))?,
    ))
}

fn unescaped(text: &str) -> Result<String, &'static str> {
    // Java's escapes are UTF-16 units: a character beyond 16 bits is written as two.
    let mut units = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        let meant = match next {
            '\\' => match chars.next() {
                Some('u') => {
                    units.push(unit(&mut chars)?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => continue,
            },
            plain => plain,
        };
        units.extend_from_slice(meant.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).map_err(|_| "half a character: \\u escapes that are no pair")
}

fn unit(chars: &mut Chars<'_>) -> Result<u16, &'static str> {
    const DIGITS: &str = "\\u must be followed by four hexadecimal digits";
    let mut unit = 0;
    for _ in 0..4 {
        let digit = chars.next().and_then(|c| c.to_digit(16)).ok_or(DIGITS)?;
        unit = (unit << 4) | u16::try_from(digit).map_err(|_| DIGITS)?;
    }
    Ok(unit)
}

fn skip_blanks(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|&c| is_blank(c)).is_some() {}
}

/// A carriage return and the line feed after it end one line together.
fn skip_line_feed(end: char, rest: &mut Peekable<Chars<'_>>) {
    if end == '\r' {
        rest.next_if_eq(&'\n');
    }
}

const fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

const fn is_separator(c: char) -> bool {
    matches!(c, '=' | ':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// What `java.util.Properties.load` (Java 17) made of each text.
    #[rstest]
    #[case("a=b", &[("a", "b")])]
    #[case("a = b ", &[("a", "b ")])]
    #[case("a:b", &[("a", "b")])]
    #[case("a b", &[("a", "b")])]
    #[case("a\tb", &[("a", "b")])]
    #[case("  a  =  b", &[("a", "b")])]
    #[case("a", &[("a", "")])]
    #[case("a=", &[("a", "")])]
    #[case("=b", &[("", "b")])]
    #[case("a==b", &[("a", "=b")])]
    #[case("a=:b", &[("a", ":b")])]
    #[case("a : = b", &[("a", "= b")])]
    #[case("# c\n!d\na=b", &[("a", "b")])]
    #[case("a=b\\\n   c", &[("a", "bc")])]
    #[case("a=b\\\\\nc=d", &[("a", "b\\"), ("c", "d")])]
    #[case("a=b\\\\\\\n c", &[("a", "b\\c")])]
    #[case("a=b\\\n#c", &[("a", "b#c")])]
    #[case("a=b\\\n\nc=d", &[("a", "b"), ("c", "d")])]
    #[case("\\\na=b", &[("a", "b")])]
    #[case("\\\n#c\na=b", &[("a", "b")])]
    #[case("a\\ b=c", &[("a b", "c")])]
    #[case("a\\=b=c", &[("a=b", "c")])]
    #[case("a\\:b\\=c:d", &[("a:b=c", "d")])]
    #[case("a=\\u00e9", &[("a", "\u{e9}")])]
    #[case("a=\\uD83D\\uDE00", &[("a", "\u{1f600}")])]
    #[case("a=\\t\\n\\r\\f\\q\\\"", &[("a", "\t\n\r\u{c}q\"")])]
    #[case("a=b\r\nc=d\re=f", &[("a", "b"), ("c", "d"), ("e", "f")])]
    #[case("a=b\\", &[("a", "b")])]
    #[case("a\\\n  b=c", &[("ab", "c")])]
    #[case("\u{c} a=b", &[("a", "b")])]
    #[case("a=b\\\r\n  c", &[("a", "bc")])]
    #[case("#a\\\nb=c", &[("b", "c")])]
    #[case("a=1\na=2", &[("a", "1"), ("a", "2")])]
    #[case("a=\\u00E9x", &[("a", "\u{e9}x")])]
    #[case(" \\\n \\\n a=b", &[("a", "b")])]
    #[case("a=\\ b", &[("a", " b")])]
    #[case("a=b\u{a0}", &[("a", "b\u{a0}")])]
    #[case("a=x#y", &[("a", "x#y")])]
    #[case("a=b \\\n  c", &[("a", "b c")])]
    #[case("\\ =b", &[(" ", "b")])]
    #[case("\\\\=b", &[("\\", "b")])]
    #[case("a\\", &[("a", "")])]
    #[case("a=\\\n", &[("a", "")])]
    #[case("\\", &[("", "")])]
    fn a_text_gives_the_pairs_that_java_reads(
        #[case] text: &str,
        #[case] expected: &[(&str, &str)],
    ) {
        let read = parse(text).expect("well formed");
        let read: Vec<_> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(read, expected);
    }

    #[rstest]
    #[case("a=b\n\nc=\\u12", 3)]
    #[case("a=\\\n  \\u00g0", 1)]
    #[case("a=\\uD83D", 1)]
    fn a_broken_escape_is_told_with_its_line(#[case] text: &str, #[case] line: usize) {
        let malformed = parse(text).expect_err("broken");
        assert_eq!(malformed.line, line);
        assert!(malformed.what.contains("\\u"), "{}", malformed.what);
    }

    #[test]
    fn a_files_bytes_are_read_as_javas() {
        assert_eq!(latin_1(b"a=caf\xe9"), "a=café");
    }

    proptest::proptest! {
        #[test]
        fn an_escaped_value_reads_back(value in "[ -~\\\\\\n\\té😀]{0,12}") {
            let text = format!("a={}", escaped(&value));
            proptest::prop_assert!(text.is_ascii());
            proptest::prop_assert_eq!(parse(&text), Ok(vec![("a".to_owned(), value)]));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[a\\\\=: #!\\n\\r\\tu0d8]{0,40}") {
            let _ = parse(&text);
        }
    }
}
