//! Rust sources without what the compiler does not run: comments, literals, and test modules.

/// `source` with the contents of comments, strings and characters turned into spaces. Lines and columns stay.
pub(crate) fn mask_text(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes[i..].starts_with(b"//") => find(bytes, i, b"\n").unwrap_or(bytes.len()),
            b'/' if bytes[i..].starts_with(b"/*") => block_comment_end(bytes, i),
            b'"' => string_end(bytes, i),
            b'r' | b'b' | b'c' if !is_word(bytes, i.wrapping_sub(1)) => raw_string_end(bytes, i).unwrap_or(i + 1),
            b'\'' => char_end(bytes, i).unwrap_or(i + 1),
            _ => i + 1,
        };
        if end > i + 1 {
            for byte in &mut out[i..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        i = end;
    }
    // Whole literals and comments were replaced, so no character was cut.
    String::from_utf8_lossy(&out).into_owned()
}

/// Masked text with the bodies of `#[cfg(test)] mod name { ... }` turned into spaces too.
pub(crate) fn mask_tests(masked: &str) -> String {
    let mut out = masked.to_owned();
    let mut from = 0;
    while let Some(start) = out[from..].find("#[cfg(test)]").map(|i| i + from) {
        from = start + 1;
        let rest = &out[start + "#[cfg(test)]".len()..];
        let head = rest.trim_start();
        if !head.starts_with("mod ") && !head.starts_with("pub(crate) mod ") {
            continue;
        }
        let (Some(open), semicolon) = (rest.find('{'), rest.find(';')) else { continue };
        if semicolon.is_some_and(|s| s < open) {
            continue;
        }
        let open = out.len() - rest.len() + open;
        let mut depth = 0;
        let close = out[open..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0
        });
        let end = close.map_or(out.len(), |(i, _)| open + i + 1);
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// Positions of `word` in `text` where it is not part of a longer word.
pub(crate) fn find_word<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    text.match_indices(word).map(|(i, _)| i).filter(move |&i| {
        let before = is_word(bytes, i.wrapping_sub(1));
        let after = word.ends_with(|c: char| c.is_alphanumeric()) && is_word(bytes, i + word.len());
        !before && !after
    })
}

fn is_word(bytes: &[u8], i: usize) -> bool {
    bytes.get(i).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

fn find(bytes: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    bytes[from..].windows(needle.len()).position(|w| w == needle).map(|i| i + from)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut i, mut depth) = (start + 2, 1);
    while depth > 0 && i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            (i, depth) = (i + 2, depth + 1);
        } else if bytes[i..].starts_with(b"*/") {
            (i, depth) = (i + 2, depth - 1);
        } else {
            i += 1;
        }
    }
    i
}

/// The end of the string that begins with the quote at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut i = start + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

/// The end of `r"..."`, `r#"..."#`, `br"..."`, `b"..."` and the like; `None` if it is none.
fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let prefix = bytes[start..].iter().take_while(|b| b"rbc".contains(b)).count();
    let raw = bytes[start..start + prefix].contains(&b'r');
    let mut i = start + prefix;
    let hashes = bytes[i..].iter().take_while(|b| **b == b'#').count();
    i += hashes;
    if bytes.get(i) != Some(&b'"') || (hashes > 0 && !raw) {
        return None;
    }
    if !raw {
        return Some(string_end(bytes, i));
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    Some(find(bytes, i + 1, &close).map_or(bytes.len(), |end| end + close.len()))
}

/// The end of the character literal at `start`; `None` for a lifetime.
fn char_end(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start + 1) == Some(&b'\\') {
        return find(bytes, start + 3, b"'").map(|i| i + 1);
    }
    let text = std::str::from_utf8(&bytes[start + 1..]).ok()?;
    let length = text.chars().next()?.len_utf8();
    (bytes.get(start + 1 + length) == Some(&b'\'')).then_some(start + 2 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_disappear() {
        let source = concat!(
            "let a = \"unsafe \\\" x\"; // unsafe\n",
            "let b = r#\"unsafe \" \"#; /* unsafe /* x */ unsafe */ let c = '\"'; let d = '\\'';\n",
            "fn f<'a>(x: &'a str) { unsafe {} } b\"unsafe\"",
        );
        let masked = mask_text(source);
        assert_eq!(masked.len(), source.len());
        assert_eq!(find_word(&masked, "unsafe").count(), 1, "{masked}");
        assert!(masked.contains("fn f<'a>(x: &'a str) { unsafe {} }"));
    }

    #[test]
    fn test_modules_disappear() {
        let masked =
            mask_tests("fn a() { env::var(1) }\n#[cfg(test)]\nmod tests { fn b() { env::var(2) } }\nfn c() {}");
        assert_eq!(find_word(&masked, "env::var").count(), 1);
        assert!(masked.ends_with("fn c() {}"));
        assert!(mask_tests("#[cfg(test)]\nmod t;\nfn a() { x }").contains("{ x }"));
    }

    #[test]
    fn words_are_whole() {
        let text = "unsafe_code unsafe my_unsafe println!(x) eprintln!(y)";
        assert_eq!(find_word(text, "unsafe").collect::<Vec<_>>(), [12]);
        assert_eq!(find_word(text, "println!").count(), 1);
    }
}
