//! Values that JSON documents have as text, and text of others that people are shown.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

/// Characters of others' text that are kept at most.
const LONGEST: usize = 256;
/// Sentences about one machine that are kept at most.
const MOST_SENTENCES: usize = 256;
/// The longest host name, in bytes (`HOST_NAME_MAX` is 64 on Linux; Slurm's `NodeName` may be a domain name).
const LONGEST_HOST: usize = 253;

/// Others' text (a product's name, a slot's) as part of a line: what is no printable character, line breaks and marks
/// that change the direction of writing among them, is U+FFFD, and what is beyond 256 characters is cut.
pub fn plain(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let cut: String = text.trim().chars().take(LONGEST).map(shown).collect();
    cut.trim_end().to_owned()
}

/// A line for a log, of any length: what is no printable character, line breaks among them, is U+FFFD.
pub fn whole_line(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// Whether a text is known to stay as it is: most are, and a launch reads one for each GPU and more.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = (bytes.first(), bytes.last());
    bytes.len() <= LONGEST
        && ends.0 != Some(&b' ')
        && ends.1 != Some(&b' ')
        && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

fn shown(c: char) -> char {
    if is_printable(c) {
        c
    } else {
        char::REPLACEMENT_CHARACTER
    }
}

/// Whether a character is seen as itself: `escape_debug` has the table of those that are not.
pub fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~') || c.escape_debug().len() == 1
}

/// The word that `typed` was meant for, if one is near: one slip in three letters is still that word.  Of words as near, one
/// that begins with what was typed, or the other way round.
pub fn nearest<'a>(typed: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = typed.chars().count();
    // Comparing grows with the square of the length, and nothing that is looked for is longer.
    if length > 40 {
        return None;
    }
    let begins_otherwise = |word: &str| !word.starts_with(typed) && !typed.starts_with(word);
    let near = words
        .map(|word| {
            let distance = strsim::osa_distance(typed, word);
            (distance, begins_otherwise(word), word)
        })
        .min()?;
    (near.0 * 3 <= length).then_some(near.2)
}

/// A host name as Slurm's files and ours can hold it: letters, digits, `.`, `-` and `_`; none for anything else.
pub fn host_name(text: &str) -> Option<String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let is_name = starts_well && text.len() <= LONGEST_HOST && text.bytes().all(is_part);
    is_name.then(|| text.to_owned())
}

/// [`plain`] text of a document.
pub(crate) fn read_plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| plain(&text))
}

/// [`plain`] text of a document that may lack it.
pub(crate) fn read_some_plain<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.map(|text| plain(&text)))
}

/// A list of [`plain`] texts.
pub(crate) fn read_plain_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    Ok(texts.iter().map(|text| plain(text)).collect())
}

/// A list of sentences, each of any length; the last of [`few`] says how many are left out.
pub(crate) fn read_sentences<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    struct Sentences;
    impl<'de> Visitor<'de> for Sentences {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of strings")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Self::Value, A::Error> {
            let mut error = None;
            let next = || {
                texts.next_element::<String>().unwrap_or_else(|found| {
                    error = Some(found);
                    None
                })
            };
            let sentences =
                few(std::iter::from_fn(next).map(|text| text.chars().map(shown).collect()));
            error.map_or(Ok(sentences), Err)
        }
    }
    deserializer.deserialize_seq(Sentences)
}

/// As many sentences as a person reads, and how many more there are: a file of a million faulty lines has a million.
pub fn few(sentences: impl Iterator<Item = String>) -> Vec<String> {
    let mut sentences = sentences.fuse();
    let mut kept: Vec<String> = sentences.by_ref().take(MOST_SENTENCES).collect();
    let left = sentences.count();
    if left > 0 {
        kept.truncate(MOST_SENTENCES - 1);
        kept.push(format!("{} more remarks are left out", left + 1));
    }
    kept
}

/// A [`host_name`] of a document that may lack it.
pub(crate) fn read_host_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let name = host_name(&text);
    let why = || {
        let text = crate::option::printable(&text);
        D::Error::custom(format_args!(
            "host name \"{text}\"; expected letters, digits, '.', '-' and '_'"
        ))
    };
    name.ok_or_else(why).map(Some)
}

/// Reads a value from its text, without a copy of that.
pub(crate) fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr,
    T::Err: Display,
    D: Deserializer<'de>,
{
    deserializer.deserialize_str(TextVisitor(PhantomData))
}

struct TextVisitor<T>(PhantomData<T>);

impl<T> Visitor<'_> for TextVisitor<T>
where
    T: FromStr,
    T::Err: Display,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_as_itself_is_replaced() {
        assert_eq!(
            plain(" NVIDIA \"H100\" 80 GB\u{e9} \n"),
            "NVIDIA \"H100\" 80 GB\u{e9}"
        );
        for odd in [
            "\u{1b}[2J",
            "a\nName=gpu",
            "\u{202e}x",
            "\u{200b}",
            "\u{9b}1m",
            "\u{e0041}",
        ] {
            assert!(plain(odd).chars().all(is_printable), "{odd:?}");
            assert!(plain(&format!("x{odd}x")).contains('\u{fffd}'), "{odd:?}");
        }
        assert_eq!(plain(&"x".repeat(300)).len(), LONGEST);
        for kept in ["", "A100-SXM4", "a b", &"x".repeat(LONGEST)] {
            assert_eq!(plain(kept), kept);
        }
        assert_eq!(plain(" a "), "a");
        assert_eq!(whole_line("a\u{1b}[31mb\nc "), "a\u{fffd}[31mb\u{fffd}c ");
    }

    #[test]
    fn a_million_sentences_are_few() {
        let many = |count: usize| few((0..count).map(|number| number.to_string()));
        assert_eq!(many(MOST_SENTENCES).len(), MOST_SENTENCES);
        let most = many(1_000_000);
        assert_eq!(most.len(), MOST_SENTENCES);
        assert_eq!(most[255], "999745 more remarks are left out");
        assert_eq!(few(most.clone().into_iter()), most);
        let json = serde_json::to_string(&vec!["a\u{1b}b"; 1000]).unwrap();
        let mut json = serde_json::Deserializer::from_str(&json);
        let read = read_sentences(&mut json).unwrap();
        assert_eq!(
            (read.len(), read[0].as_str()),
            (MOST_SENTENCES, "a\u{fffd}b")
        );
        for odd in ["[1]", "[\"a\"", "{}"] {
            assert!(read_sentences(&mut serde_json::Deserializer::from_str(odd)).is_err());
        }
    }

    #[test]
    fn host_names_are_what_slurms_files_take() {
        for name in ["gpu1", "gpu-1.cluster_a.example", "0"] {
            assert_eq!(host_name(name).as_deref(), Some(name));
        }
        for odd in [
            "",
            "-x",
            "a b",
            "a\nNodeName=b",
            "a=b",
            "a[1-2]",
            "\u{e9}",
            &"a".repeat(254),
        ] {
            assert_eq!(host_name(odd), None, "{odd:?}");
        }
    }
}
