//! Sanitizes untrusted text for terminals and files.
//!
//! The API server, a credential plugin, a pod and even a kubeconfig can contain anything: sequences that move the
//! cursor of a terminal, marks that change the direction of writing, and secrets that were never meant to be shown.
//! Everything that is printed or written passes through here once, as a whole: first invisible characters are removed,
//! so that they cannot split a token, then every word with a secret is masked.
//!
//! Secrets are detected heuristically, erring on the safe side: JSON Web Tokens, long runs of base64 or hexadecimal
//! digits, user names and passwords in URLs, and labelled values, such as those after `Bearer` or `password=`. Useful
//! text is kept: names of objects (in lower case, in parts), UUIDs, image digests, paths, and the cause in
//! `invalid token: expired`.
//!
//! | function  | line breaks   | secrets     | for                                              |
//! |-----------|---------------|-------------|--------------------------------------------------|
//! | [`name`]  | become spaces | kept        | names from the user, as in a kubeconfig          |
//! | [`text`]  | kept          | kept        | texts of a record, which were already masked     |
//! | [`line`]  | become spaces | masked      | single-line text: evidence, events               |
//! | [`lines`] | kept          | masked      | messages of the API server or of a plugin        |
//!
//! The user's own text, such as the name of a file or a key in it, is kept complete: [`escaped`] escapes invisible
//! characters.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

const MASK: &str = "<redacted>";
/// Labels of secrets, at the end of a word: `client_secret`, `"apiKey"`.
const LABELS: [&str; 6] = ["token", "password", "passwd", "secret", "key", "authorization"];
/// Schemes that precede credentials in a header.
const SCHEMES: [&str; 2] = ["bearer", "basic"];
/// Words that begin the cause of an error after a colon: `failed to load client key: failed to read`.
const CAUSES: [&str; 26] = [
    "asn1",
    "cannot",
    "could",
    "crypto",
    "duplicate",
    "error",
    "expired",
    "failed",
    "forbidden",
    "illegal",
    "invalid",
    "malformed",
    "missing",
    "must",
    "no",
    "not",
    "open",
    "permission",
    "read",
    "required",
    "stat",
    "the",
    "unable",
    "unexpected",
    "unknown",
    "unsupported",
];
/// Minimum length of a run of letters and digits that counts as a secret.
const LONG: usize = 32;

/// Returns the visible part of `text` on one line. Masks nothing.
///
/// ```
/// # use defender_sim::untrusted::name;
/// assert_eq!(name("blue\n\u{1b}[2Jgreen"), "blue [2Jgreen");
/// ```
#[must_use]
pub fn name(text: &str) -> String {
    visible(text, ' ')
}

/// Returns the visible part of `text` with its line breaks. Masks nothing.
#[must_use]
pub fn text(text: &str) -> String {
    visible(text, '\n')
}

/// Returns the visible part of `text` on one line, without secrets.
///
/// ```
/// # use defender_sim::untrusted::line;
/// assert_eq!(line("a token:\n\"eyJhbGciOiJSUzI1NiJ9.e30.x\""), "a token: \"<redacted>\"");
/// ```
#[must_use]
pub fn line(text: &str) -> String {
    masked(&visible(text, ' '))
}

/// Returns the visible part of `text` with its line breaks, without secrets.
///
/// ```
/// # use defender_sim::untrusted::lines;
/// let message = "no such image:\r\nweb@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// assert_eq!(lines(message), message.replace('\r', ""));
/// ```
#[must_use]
pub fn lines(text: &str) -> String {
    masked(&visible(text, '\n'))
}

/// Returns `text` on one line, with invisible characters ([`is_unseen`], [`is_layout`]) as code points.
///
/// ```
/// # use defender_sim::untrusted::escaped;
/// assert_eq!(escaped("blue\u{1b}[2J.yaml"), "blue<U+001B>[2J.yaml");
/// ```
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    let is_hidden = |c| is_unseen(c) || is_layout(c);
    if !text.contains(is_hidden) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            let _ = write!(escaped, "<{}>", code_point(c));
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

/// Formats an invisible character as its code point: `U+001B`.
#[must_use]
pub fn code_point(c: char) -> String {
    format!("U+{:04X}", u32::from(c))
}

/// Returns whether a character only affects the layout of a multi-line text: a tab or a line feed.
#[must_use]
pub fn is_layout(c: char) -> bool {
    matches!(c, '\n' | '\t')
}

/// Returns whether a character changes a text invisibly.
///
/// These are control characters except tabs and line feeds, other line breaks, marks that change the direction of
/// writing, and the like.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    (c.is_control() && !is_layout(c)) || is_shapeless(c) || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Replaces each invisible character in `text` with the result of `form`.
///
/// ```
/// # use defender_sim::untrusted::escape;
/// assert_eq!(escape("a\u{1b}[2J", |c| c.escape_unicode().to_string()), "a\\u{1b}[2J");
/// ```
#[must_use]
pub fn escape(text: &str, form: impl Fn(char) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unseen(c) {
            out.push_str(&form(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Removes control characters and characters without a visible shape from `text`.
fn visible(text: &str, line_break: char) -> String {
    let text = text.replace("\r\n", "\n");
    let seen = text.chars().filter_map(|c| match c {
        '\n' | '\r' | '\u{2028}' | '\u{2029}' => Some(line_break),
        '\t' | '\u{b}' | '\u{c}' => Some(' '),
        c => (!is_unseen(c)).then_some(c),
    });
    seen.collect::<String>().trim().to_owned()
}

/// Returns whether a character has no visible shape, such as a joiner or a mark that changes the direction of writing.
///
/// These are the characters that Unicode calls default ignorable. Variation selectors are excluded: they follow the
/// character that they vary.
fn is_shapeless(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e00ff}'
    )
}

fn masked(text: &str) -> String {
    let text = without_named(text);
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(char::is_whitespace) {
        let piece = without_user_info(piece);
        let word = piece.trim_end();
        // Keeps the punctuation around a word, so that a sentence stays readable: `User "<redacted>" cannot`.
        let core = word.trim_matches(|c| "\"'`()[]{},;:!?\\".contains(c));
        if holds_secret(core) {
            out.push_str(&piece.replacen(core, MASK, 1));
        } else {
            out.push_str(&piece);
        }
    }
    out
}

/// Masks every labelled value, whatever its form.
fn without_named(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in text.char_indices() {
        if at >= done
            && let Some(value) = credentials(text, &lower, at).or_else(|| labelled(&lower, at))
        {
            out.push_str(&text[done..value.start]);
            out.push_str(MASK);
            done = value.end;
        }
    }
    out.push_str(&text[done..]);
    out
}

/// Returns the range of the credentials if the name of a scheme starts at `at`.
fn credentials(text: &str, lower: &str, at: usize) -> Option<Range<usize>> {
    if text[..at].ends_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let scheme = SCHEMES.iter().find(|scheme| lower[at..].starts_with(**scheme))?;
    let rest = &text[at + scheme.len()..];
    let value = rest.trim_start();
    if value.len() == rest.len() {
        return None;
    }
    let value = value.trim_start_matches(['"', '\'', '`', '\\']);
    let start = text.len() - value.len();
    let end = value.find(|c: char| c.is_whitespace() || "\"'`".contains(c));
    let value = &value[..end.unwrap_or(value.len())];
    let word = value.trim_matches(|c: char| c.is_ascii_punctuation());
    // `invalid bearer token` and `a basic check` are prose; base64 is rarely all lower case.
    let sentence = match *scheme {
        "basic" => word.chars().all(|c| c.is_ascii_lowercase()),
        _ => word.is_empty() || word == "token" || word == "tokens",
    };
    (!sentence).then_some(start..start + value.len())
}

/// Returns the range of the value if a label starts at `at`: `token=x`, `"token": "x"`, `token: x`.
fn labelled(lower: &str, at: usize) -> Option<Range<usize>> {
    let label = LABELS.iter().find(|label| lower[at..].starts_with(**label))?;
    let rest = lower[at + label.len()..].trim_start_matches(['"', '\'', '\\', ']', ' ']);
    let value = rest.trim_start_matches(['=', ':', '>']);
    let separator = &rest[..rest.len() - value.len()];
    if !separator.starts_with(['=', ':']) {
        return None;
    }
    let value = value.trim_start_matches(' ');
    let escaped = value.starts_with("\\\"");
    let quoted = value.trim_start_matches('\\');
    if let Some(quote) = quoted.chars().next().filter(|c| "\"'`".contains(*c)) {
        let inner = &quoted[1..];
        let start = lower.len() - inner.len();
        let end = end_of_quoted(inner, quote, escaped);
        return (end > 0).then_some(start..start + end);
    }
    let end = match *label {
        // The name of the scheme, followed by the credentials.
        "authorization" => value.find(['\n', '"', '\'', '`']),
        _ => value.find(char::is_whitespace),
    };
    let start = lower.len() - value.len();
    let value = &value[..end.unwrap_or(value.len())];
    let first = value.split(char::is_whitespace).next().unwrap_or_default();
    let word = first.trim_matches(|c: char| c.is_ascii_punctuation());
    let sentence = separator == ":" && CAUSES.contains(&word);
    (!word.is_empty() && !sentence && !SCHEMES.contains(&word)).then_some(start..start + value.len())
}

/// Returns the length of a quoted text after its opening quote.
///
/// The quotes of JSON within JSON are `escaped`; otherwise an escaped quote is part of the text. Without a closing
/// quote, the text ends at the end of the line.
fn end_of_quoted(text: &str, quote: char, escaped: bool) -> usize {
    let mut after_backslash = false;
    for (at, c) in text.char_indices() {
        match c {
            '\n' => return at,
            _ if c == quote && escaped && after_backslash => return at - 1,
            _ if c == quote && !after_backslash => return at,
            _ => after_backslash = c == '\\' && !after_backslash,
        }
    }
    text.len()
}

/// Removes user names and passwords from the URLs in a word. A user name alone is not a secret, a digest not a host.
fn without_user_info(word: &str) -> String {
    let mut parts = word.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let authority = part.split(['/', '?', '#']).next().unwrap_or_default();
        out.push_str("://");
        match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') && !host.starts_with("sha256:") => {
                out.push_str(MASK);
                out.push_str(&part[user.len()..]);
            }
            _ => out.push_str(part),
        }
    }
    out
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+_-=.".contains(c)
}

fn holds_secret(word: &str) -> bool {
    // Base64 of `{"`, the beginning of every JSON Web Token.
    let web_token = |(at, _)| word[at..].chars().take_while(|&c| is_token_char(c)).count() >= 8;
    word.match_indices("eyJ").any(web_token)
        || without_digests(word).split(|c| !is_token_char(c)).any(is_random)
}

/// Returns whether a run has letters and digits and is long enough to be a secret.
///
/// Base64 of that length is never all lower case. In lower case, hyphens and the like therefore separate words, and one
/// word must have the minimum length; this excludes names with hashes, UUIDs and versions.
fn is_random(run: &str) -> bool {
    let is_long = |part: &str| {
        part.len() >= LONG
            && part.contains(|c: char| c.is_ascii_digit())
            && part.contains(|c: char| c.is_ascii_alphabetic())
    };
    is_long(run)
        && (run.contains(|c: char| c.is_ascii_uppercase())
            || run.split(|c: char| !c.is_ascii_alphanumeric()).any(is_long))
}

/// Removes image digests from `word`: `sha256:` and exactly 64 digits, which identify the pulled image.
fn without_digests(word: &str) -> String {
    let mut parts = word.split("sha256:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c| matches!(c, '0'..='9' | 'a'..='f'));
        out.push(' ');
        out.push_str(if part.len() - rest.len() == 64 { rest } else { part });
    }
    out
}

#[cfg(test)]
mod tests;
