//! Text without a font at hand: how wide it is, where its lines break, how numbers are written.

/// About how wide a line is in a sans-serif face of this size, in the same unit. The reader's face is not known, so
/// no font is read: this is Helvetica by classes of characters, a little on the wide side.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(advance).sum::<f64>() * size
}

fn advance(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | 'I' | '\'' | '|' | '.' | ',' | ':' | ';' | '!' => 0.29,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '/' | ' ' | '-' | '"' | '·' => 0.35,
        '⁰'..='⁾' | '¹' | '²' | '³' => 0.38,
        'c' | 'k' | 's' | 'v' | 'x' | 'y' | 'z' | 'J' => 0.52,
        'w' | '−' | '+' | '=' | '×' | '±' | '<' | '>' | '≤' | '≥' => 0.74,
        'm' | 'M' | 'W' | '@' | '%' | '—' | '…' | '‖' => 0.94,
        'G' | 'O' | 'Q' => 0.8,
        'A'..='Z' => 0.71,
        '\u{300}'..='\u{36f}' => 0.0,
        // Scripts that are written in squares.
        '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{ffdc}' | '\u{1f000}'.. => 1.05,
        _ => 0.58,
    }
}

/// The text in lines of at most `limit`, broken at spaces, and within words that are too long by themselves. No line
/// is empty, and an empty text has none.
pub(crate) fn wrap(text: &str, size: f64, limit: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut()
            && width(line, size) + width(" ", size) + width(word, size) <= limit
        {
            line.push(' ');
            line.push_str(word);
            continue;
        }
        lines.push(String::new());
        for character in word.chars() {
            let full = lines.last().is_some_and(|line| {
                width(line, size) + advance(character) * size > limit && !line.is_empty()
            });
            if full {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.push(character);
            }
        }
    }
    lines
}

/// The text, cut off with an ellipsis if it is wider than `limit`.
pub(crate) fn shorten(text: &str, size: f64, limit: f64) -> String {
    if width(text, size) <= limit {
        return text.to_owned();
    }
    let mut short = String::new();
    for character in text.chars() {
        if width(&short, size) + (advance(character) + advance('…')) * size > limit {
            break;
        }
        short.push(character);
    }
    short + "…"
}

/// A number for people, with about so many significant digits: `0.8333`, `−12.5`, `25,557,032`, `1.2×10⁻⁵`. `NaN` and `∞` are
/// words like any other here.
pub(crate) fn number(value: f64, significant: i32) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "NaN".into() } else { signed(value, "∞") };
    }
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return "0".into();
    }
    if !(1e-4..1e9).contains(&magnitude) {
        return scientific(value);
    }
    let digits = magnitude.log10().floor() as i32 + 1;
    let text = fixed(value, (significant - digits).max(0) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A number with this many decimals, a true minus, and commas between thousands from 10,000 on. Negative zero is zero.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && whole.len() > 4 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if zero { grouped + rest } else { signed(value, &(grouped + rest)) }
}

/// A power of ten, with as much in front of it as is needed: `10⁶`, `2.5×10⁻⁷`.
pub(crate) fn scientific(value: f64) -> String {
    // The library rounds the mantissa and moves the exponent with it, as in 9.999 → 1.00e1.
    let text = format!("{:.2e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    let power: String = exponent.chars().map(superscript).collect();
    signed(value, &if mantissa == "1" { format!("10{power}") } else { format!("{mantissa}×10{power}") })
}

fn superscript(digit: char) -> char {
    match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '0' | '4'..='9' => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
        other => other,
    }
}

fn signed(value: f64, text: &str) -> String {
    if value < 0.0 { format!("−{text}") } else { text.to_owned() }
}

/// A time for people: `42 s`, `12 min 5 s`, `2 h 12 min`. `None` if there is nothing to say.
pub(crate) fn duration(seconds: f64) -> Option<String> {
    if !(seconds.is_finite() && seconds > 0.0) {
        return None;
    }
    let whole = seconds.round() as u64;
    Some(match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_their_minus_is_one() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (5.0, "5"),
            (0.8333333, "0.8333"),
            (-12.5, "−12.5"),
            (1234.0, "1234"),
            (12345.6, "12,346"),
            (25_557_032.0, "25,557,032"),
            (1.2e-5, "1.2×10⁻⁵"),
            (-1e12, "−10¹²"),
            (9.9999e20, "10²¹"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "−∞"),
        ] {
            assert_eq!(number(value, 4), text);
        }
        assert_eq!(fixed(-0.001, 2), "0.00");
        assert_eq!(scientific(2.5e-7), "2.5×10⁻⁷");
    }

    #[test]
    fn no_line_is_wider_than_asked_for_unless_it_is_one_character() {
        let text = "accuracy after ten epochs, Donaudampfschifffahrtselektrizitätenhauptbetriebswerk";
        for limit in [1.0, 20.0, 55.0, 120.0, 1000.0] {
            let lines = wrap(text, 13.0, limit);
            assert!(
                lines.iter().all(|line| width(line, 13.0) <= limit || line.chars().count() == 1),
                "{lines:?}"
            );
            let joined = lines.concat().replace(' ', "");
            assert_eq!(joined, text.replace(' ', ""));
        }
        assert!(wrap(" \n ", 13.0, 100.0).is_empty());
    }

    #[test]
    fn what_is_cut_off_says_so() {
        assert_eq!(shorten("short", 13.0, 100.0), "short");
        let short = shorten("not so very short", 13.0, 60.0);
        assert!(short.ends_with('…') && width(&short, 13.0) <= 60.0, "{short}");
    }

    #[test]
    fn times_are_told_as_coarsely_as_they_are_long() {
        let tell = |seconds| duration(seconds).unwrap_or_default();
        assert_eq!(
            [0.0, 1.25, 42.4, 725.0, 7920.0, f64::NAN].map(tell),
            ["", "1.2 s", "42 s", "12 min 5 s", "2 h 12 min", ""]
        );
    }
}
