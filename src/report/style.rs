//! Styles, and escaping for terminals: untrusted text is shown, never interpreted.
//!
//! Trusted and untrusted text are in one string long before it is printed. To prevent untrusted text from imitating a
//! style, [`paint`] writes sealed sequences: `ESC [` is followed by a number that is random in each process and never
//! printed. [`printable`] converts these, and only these, to terminal sequences. Every other control character, and
//! every character that changes a text invisibly, is made visible, as in `\u{1b}`.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;

use anstyle::{AnsiColor, Style};

use crate::untrusted;

pub(super) const RED: Style = AnsiColor::Red.on_default().bold();
pub(super) const GREEN: Style = AnsiColor::Green.on_default();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Prefix of style sequences.
const BEGIN: &str = "\u{1b}[";

/// Prefix of sealed sequences. Functions that measure or wrap text take them for sequences without a width.
static SEAL: LazyLock<String> = LazyLock::new(|| format!("{BEGIN}{};", RandomState::new().hash_one(BEGIN)));

/// Formats a text in a style.
pub(super) fn paint(text: &str, style: Style) -> String {
    let (begin, end) = (sealed(&style.to_string()), sealed(&format!("{style:#}")));
    format!("{begin}{text}{end}")
}

/// Seals the styles of an entirely trusted text.
pub(super) fn sealed(text: &str) -> String {
    text.replace(BEGIN, &SEAL)
}

/// Escapes what a terminal would interpret, except sealed styles. For text that is measured or wrapped.
pub(super) fn visible(text: &str) -> String {
    joined(text, &SEAL)
}

/// Returns the text for a terminal, with its styles.
pub(super) fn printable(text: &str) -> String {
    joined(text, BEGIN)
}

fn joined(text: &str, begin: &str) -> String {
    let show = |part| untrusted::escape(part, |c| c.escape_unicode().to_string());
    text.split(SEAL.as_str())
        .map(show)
        .collect::<Vec<_>>()
        .join(begin)
}

#[cfg(test)]
mod tests {
    use super::super::Width;
    use super::super::table::table;
    use super::*;

    #[test]
    fn only_painted_text_has_a_style() {
        let forged = "\u{1b}[1m\u{1b}[31mforged\u{1b}[0m \u{1b}[1;31m \u{9b}31m";
        let text = printable(&format!("{} {}", paint("ours", RED), paint(forged, GREEN)));
        let shown = forged.replace('\u{1b}', "\\u{1b}").replace('\u{9b}', "\\u{9b}");
        assert_eq!(
            text,
            format!("\u{1b}[1m\u{1b}[31mours\u{1b}[0m \u{1b}[32m{shown}\u{1b}[0m")
        );
    }

    #[test]
    fn everything_unseen_becomes_visible_and_the_rest_stays() {
        for unseen in ('\0'..=char::MAX).filter(|&c| untrusted::is_unseen(c)) {
            let text = printable(&format!("a{unseen}b"));
            assert_eq!(text, format!("a\\u{{{:x}}}b", u32::from(unseen)));
        }
        for text in [
            "",
            "a\n\tb\n",
            "Zugriff für Jörg ✅ 权限不足",
            "\\u{1b}",
            "⚠\u{fe0f}",
        ] {
            assert_eq!(printable(text), text);
        }
    }

    #[test]
    fn visible_text_stays_the_same_when_it_is_printed() {
        let text = format!("{}\u{1b}[2J\u{202e}", paint("ours", RED));
        assert_eq!(visible(&visible(&text)), visible(&text));
        assert_eq!(printable(&visible(&text)), printable(&text));
    }

    #[test]
    fn painted_text_is_as_wide_as_its_text() {
        let rows = [["a", "b"], ["longer", "b"]].map(|row| row.map(str::to_owned).to_vec());
        let painted = rows
            .clone()
            .map(|row| row.iter().map(|cell| paint(cell, RED)).collect());
        let text = |rows: [Vec<String>; 2]| printable(&table(&["A", "B"], rows, Width::Screen));
        let plain = text(painted)
            .replace("\u{1b}[1m\u{1b}[31m", "")
            .replace("\u{1b}[0m", "");
        assert_eq!(plain, text(rows));
    }

    #[test]
    fn number_of_the_seal_is_not_printed() {
        let number = SEAL.trim_start_matches(BEGIN).trim_end_matches(';');
        assert!(!printable(&paint("ours", RED)).contains(number));
        assert!(number.len() > 8, "{number}");
    }
}
