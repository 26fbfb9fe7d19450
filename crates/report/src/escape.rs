//! Text of the caller's made harmless, for each of the languages it is put in.

use std::fmt;

/// Text inside of XML or HTML, in elements and in quoted attributes. What XML has no place for, control characters and the
/// two last code points of a plane, becomes U+FFFD: an SVG with one of them would not open at all.
pub(crate) struct Xml<'a>(pub(crate) &'a str);

impl fmt::Display for Xml<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                '\t' | '\n' => out.write_str(character.encode_utf8(&mut [0; 4]))?,
                other if other.is_control() || u32::from(other) & 0xfffe == 0xfffe => {
                    out.write_str("\u{fffd}")?
                }
                other => out.write_str(other.encode_utf8(&mut [0; 4]))?,
            }
        }
        Ok(())
    }
}

/// Text inside of a paragraph or a cell of Markdown, on one line.
pub(crate) struct Markdown<'a>(pub(crate) &'a str);

impl fmt::Display for Markdown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.split_whitespace().enumerate() {
            if index > 0 {
                out.write_str(" ")?;
            }
            if is_link(word) {
                out.write_str(word)?;
                continue;
            }
            let rest = if index == 0 { after_marker(word, out)? } else { word };
            for character in rest.chars() {
                if matches!(character, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '&' | '~' | '$')
                {
                    out.write_str("\\")?;
                }
                out.write_str(character.encode_utf8(&mut [0; 4]))?;
            }
        }
        Ok(())
    }
}

/// Escapes a first word that would begin a list or a heading, or underline one; what is left of the word.
fn after_marker<'a>(word: &'a str, out: &mut fmt::Formatter<'_>) -> Result<&'a str, fmt::Error> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = word.split_at(digits);
    let marks = if digits > 0 {
        matches!(rest, "." | ")")
    } else {
        ['-', '+', '=', '#'].iter().any(|mark| !rest.is_empty() && rest.chars().all(|other| other == *mark))
    };
    if marks {
        write!(out, "{number}\\")?;
        out.write_str(&rest[..1])?;
        return Ok(&rest[1..]);
    }
    Ok(word)
}

/// A word that may stand as a link as it is: `https`, and nothing that any of the languages reads as markup.
pub(crate) fn is_link(word: &str) -> bool {
    word.strip_prefix("https://").is_some_and(|rest| {
        rest.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '/')
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-_?=#%+:".contains(&byte))
    })
}

/// Text as a block of code in Markdown.
pub(crate) fn markdown_block(text: &str) -> String {
    let fence = "`".repeat(longest_run(text).max(2) + 1);
    format!("{fence}sh\n{}\n{fence}\n", text.trim_end())
}

fn longest_run(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_has_no_markup_left_and_no_character_that_it_forbids() {
        let text = "a<b> & \"c\" 'd' \u{0}\u{8}\u{1b}\u{fffe}\u{1ffff}\u{85} ü 字 🗳";
        let escaped = Xml(text).to_string();
        let document = format!("<a b=\"{escaped}\">{escaped}</a>");
        let parsed = roxmltree::Document::parse(&document).unwrap();
        let read = parsed.root_element().text().unwrap();
        assert_eq!(read, "a<b> & \"c\" 'd' \u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd} ü 字 🗳");
        assert_eq!(parsed.root_element().attribute("b"), Some(read));
    }

    #[test]
    fn markdown_keeps_its_markup_to_itself() {
        for (text, escaped) in [
            ("a|b *c* _d_ <e>", "a\\|b \\*c\\* \\_d\\_ \\<e\\>"),
            ("# no heading\n- no list", "\\# no heading - no list"),
            ("1. no list, 2.5", "1\\. no list, 2.5"),
            ("0.5 to 1", "0.5 to 1"),
            ("-3", "-3"),
            ("---", "\\---"),
            ("10 workers, −3 - 4", "10 workers, −3 - 4"),
            ("[x](javascript:y)", "\\[x\\](javascript:y)"),
            ("see https://arxiv.org/abs/1810.05291 a_b", "see https://arxiv.org/abs/1810.05291 a\\_b"),
            ("https://x.org/<script>", "https://x.org/\\<script\\>"),
            ("", ""),
            ("é", "é"),
        ] {
            assert_eq!(Markdown(text).to_string(), escaped);
        }
    }

    #[test]
    fn code_is_fenced_by_more_than_it_has() {
        assert_eq!(markdown_block("a\n```\nb"), "````sh\na\n```\nb\n````\n");
    }
}
