//! Sets of CPUs and of NUMA nodes, written as the kernel writes them (`0-3,8`).

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::text::from_text;

/// The highest index that a set takes.
///
/// Linux allows at most 8,192 CPUs (`CONFIG_NR_CPUS`) and 1,024 NUMA nodes; the bound keeps a hostile
/// `0-4294967295` from costing memory.
pub const MAX_INDEX: u32 = 65_535;

/// Words that are in a set's value itself: those of 256 indexes.
const OWN_WORDS: usize = 4;

/// Marks a set of CPUs (hwloc's PU, Linux's logical CPU).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cpu {}

/// Marks a set of NUMA nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Node {}

/// A set of logical CPUs by OS index.
pub type CpuSet = IndexSet<Cpu>;

/// A set of NUMA nodes by OS index.
pub type NodeSet = IndexSet<Node>;

/// A set of OS indexes of one kind, at most [`MAX_INDEX`].
///
/// The words carry no trailing zeros, so equal sets are equal values.
pub struct IndexSet<K> {
    /// [`OWN_WORDS`] of them need no memory of their own.
    words: SmallVec<[u64; OWN_WORDS]>,
    kind: PhantomData<fn() -> K>,
}

/// Why a text is no set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSetError {
    /// An element is neither a number nor a range.
    #[error("\"{0}\" in a list; expected numbers and ranges such as 0-3,8")]
    Element(String),
    /// A range runs backwards.
    #[error("range \"{0}\" runs backwards; expected low-high")]
    Backwards(String),
    /// A number is beyond [`MAX_INDEX`].
    #[error("\"{0}\" in a list is too large; expected numbers from 0 to {MAX_INDEX}")]
    TooLarge(String),
}

impl<K> IndexSet<K> {
    /// The empty set.
    pub const fn new() -> Self {
        Self {
            words: SmallVec::new_const(),
            kind: PhantomData,
        }
    }

    /// The set whose bit `i % 64` of word `i / 64` says that `i` is in it.
    ///
    /// Bits beyond [`MAX_INDEX`] are dropped.
    pub fn from_words(words: &[u64]) -> Self {
        let keep = words.len().min(MAX_INDEX as usize / 64 + 1);
        let words = words.get(..keep).unwrap_or_default();
        let used = words.iter().rposition(|word| *word != 0);
        let words = words.get(..used.map_or(0, |last| last + 1));
        Self {
            words: SmallVec::from_slice(words.unwrap_or_default()),
            kind: PhantomData,
        }
    }

    /// The words of the set, lowest first, without trailing zeros.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// All of `low..=high`, cut at [`MAX_INDEX`].
    pub fn from_range(low: u32, high: u32) -> Self {
        let mut set = Self::new();
        set.insert_range(low, high.min(MAX_INDEX));
        set
    }

    /// Adds all of `low..=high`, which is at most [`MAX_INDEX`], word by word.
    fn insert_range(&mut self, low: u32, high: u32) {
        if low > high {
            return;
        }
        let (first, last) = (low as usize / 64, high as usize / 64);
        if last >= self.words.len() {
            self.words.resize(last + 1, 0);
        }
        let words = self.words.get_mut(first..=last).unwrap_or_default();
        for (word, bits) in (first..).zip(words) {
            let from = if word == first { low % 64 } else { 0 };
            let to = if word == last { high % 64 } else { 63 };
            *bits |= bits_between(from, to);
        }
    }

    /// The set that holds `index` alone.
    pub fn single(index: u32) -> Self {
        std::iter::once(index).collect()
    }

    /// Adds `index`; one beyond [`MAX_INDEX`] is ignored.
    pub fn insert(&mut self, index: u32) {
        if index > MAX_INDEX {
            return;
        }
        let word = index as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if let Some(bits) = self.words.get_mut(word) {
            *bits |= 1 << (index % 64);
        }
    }

    /// Takes `index` out.
    pub fn remove(&mut self, index: u32) {
        if let Some(bits) = self.words.get_mut(index as usize / 64) {
            *bits &= !(1 << (index % 64));
            self.trim();
        }
    }

    /// Whether `index` is in the set.
    pub fn contains(&self, index: u32) -> bool {
        self.words
            .get(index as usize / 64)
            .is_some_and(|bits| bits >> (index % 64) & 1 == 1)
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How many indexes are in the set.
    pub fn len(&self) -> usize {
        self.words
            .iter()
            .map(|bits| bits.count_ones() as usize)
            .sum()
    }

    /// The lowest index.
    pub fn first(&self) -> Option<u32> {
        self.iter().next()
    }

    /// The highest index.
    pub fn last(&self) -> Option<u32> {
        let word = self.words.len().checked_sub(1)?;
        let bits = self.words.get(word)?;
        u32::try_from(word)
            .ok()
            .map(|word| word * 64 + 63 - bits.leading_zeros())
    }

    /// The indexes in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.words).flat_map(|(word, bits)| {
            let mut rest = *bits;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    word * 64 + bit
                })
            })
        })
    }

    /// The first and the last index of each run of neighbours, ascending.
    fn runs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        // The lowest index from `from` on that is in the set, or is not.
        let next = move |from: u32, is_in: bool| {
            let mut word = from as usize / 64;
            let wanted = |bits: &u64| if is_in { *bits } else { !*bits };
            let mut bits = wanted(self.words.get(word)?) & (u64::MAX << (from % 64));
            while bits == 0 {
                word += 1;
                bits = wanted(self.words.get(word)?);
            }
            u32::try_from(word)
                .ok()
                .map(|word| word * 64 + bits.trailing_zeros())
        };
        let mut from = 0;
        std::iter::from_fn(move || {
            let low = next(from, true)?;
            let end = next(low, false);
            from = end.unwrap_or(MAX_INDEX + 1);
            Some((
                low,
                end.map_or_else(|| self.last().unwrap_or(low), |end| end - 1),
            ))
        })
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut set = Self {
            words: self
                .words
                .iter()
                .zip(&other.words)
                .map(|(a, b)| a & b)
                .collect(),
            kind: PhantomData,
        };
        set.trim();
        set
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut set = self.clone();
        set.extend_with(other);
        set
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut set = self.clone();
        for (a, b) in set.words.iter_mut().zip(&other.words) {
            *a &= !b;
        }
        set.trim();
        set
    }

    /// How many indexes are in both.
    pub fn common(&self, other: &Self) -> usize {
        let words = self.words.iter().zip(&other.words);
        words.map(|(a, b)| (a & b).count_ones() as usize).sum()
    }

    /// Adds all of `other`.
    pub fn extend_with(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a |= b;
        }
    }

    /// Whether the two share an index.
    pub fn intersects(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }

    /// Whether all of this set is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.words.len() <= other.words.len()
            && self
                .words
                .iter()
                .zip(&other.words)
                .all(|(a, b)| a & !b == 0)
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }
}

impl<K> Default for IndexSet<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Clone for IndexSet<K> {
    fn clone(&self) -> Self {
        Self {
            words: self.words.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> PartialEq for IndexSet<K> {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words
    }
}

impl<K> Eq for IndexSet<K> {}

impl<K> PartialOrd for IndexSet<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By lowest index first, then as the lists of indexes compare.
impl<K> Ord for IndexSet<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl<K> FromIterator<u32> for IndexSet<K> {
    fn from_iter<I: IntoIterator<Item = u32>>(indexes: I) -> Self {
        let mut set = Self::new();
        for index in indexes {
            set.insert(index);
        }
        set
    }
}

/// Text of a list that is not handed on yet: one call for all of it takes a tenth of the time that one for each number takes.
struct Text {
    bytes: [u8; 64],
    used: usize,
}

impl Text {
    /// What a range and its comma take at most.
    const RANGE: usize = ",65535-65535".len();

    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.used) {
            *place = byte;
            self.used += 1;
        }
    }

    /// An index, which is at most [`MAX_INDEX`].
    fn index(&mut self, index: u32) {
        let mut digits = [0; 5];
        let (mut rest, mut first) = (index, digits.len());
        while let Some(place) = first.checked_sub(1).and_then(|at| digits.get_mut(at)) {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            first -= 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        for digit in digits.get(first..).unwrap_or_default() {
            self.byte(*digit);
        }
    }

    fn hand_on(&mut self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.get(..self.used).unwrap_or_default();
        self.used = 0;
        f.write_str(std::str::from_utf8(bytes).unwrap_or_default())
    }
}

impl<K> fmt::Display for IndexSet<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text {
            bytes: [0; 64],
            used: 0,
        };
        for (number, (low, high)) in self.runs().enumerate() {
            if text.used + Text::RANGE > text.bytes.len() {
                text.hand_on(f)?;
            }
            if number > 0 {
                text.byte(b',');
            }
            text.index(low);
            if low != high {
                text.byte(b'-');
                text.index(high);
            }
        }
        text.hand_on(f)
    }
}

impl<K> fmt::Debug for IndexSet<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// Takes the kernel's list format; white space around the whole and an empty text are fine.
impl<K> FromStr for IndexSet<K> {
    type Err = ParseSetError;

    fn from_str(text: &str) -> Result<Self, ParseSetError> {
        // Most have no white space around them.
        if let Some(set) = parse_list(text.as_bytes()) {
            return Ok(set);
        }
        let text = text.trim();
        match parse_list(text.as_bytes()) {
            Some(set) => Ok(set),
            None => parse_elements(text),
        }
    }
}

/// A list in one pass; none where anything in it is odd.
///
/// A snapshot has hundreds of them, most of two numbers: those of a set that is in the value itself are marked there before
/// there is a set.
fn parse_list<K>(text: &[u8]) -> Option<IndexSet<K>> {
    if text.is_empty() {
        return Some(IndexSet::new());
    }
    let (set, used) = IndexSet::at_start(text)?;
    (used == text.len()).then_some(set)
}

impl<K> IndexSet<K> {
    /// The list that `text` begins with, up to what is no part of a list, and how many bytes it has; none where anything in
    /// it is odd, and where there is none.
    pub(crate) fn at_start(text: &[u8]) -> Option<(Self, usize)> {
        let mut own = [0u64; OWN_WORDS];
        let mut far = IndexSet::new();
        let mut rest = text;
        loop {
            let low = take_index(&mut rest)?;
            let high = match rest.split_first() {
                Some((b'-', more)) => {
                    rest = more;
                    take_index(&mut rest)?
                }
                Some(_) | None => low,
            };
            if low > high {
                return None;
            }
            let (first, last) = (low as usize / 64, high as usize / 64);
            match own.get_mut(first) {
                Some(word) if first == last => *word |= bits_between(low % 64, high % 64),
                Some(_) | None => far.insert_range(low, high),
            }
            match rest.split_first() {
                Some((b',', more)) => rest = more,
                Some(_) | None => break,
            }
        }
        let used = text.len() - rest.len();
        let last = own.iter().rposition(|word| *word != 0);
        let near = IndexSet {
            words: SmallVec::from_buf_and_len(own, last.map_or(0, |last| last + 1)),
            kind: PhantomData,
        };
        if far.is_empty() {
            return Some((near, used));
        }
        far.extend_with(&near);
        Some((far, used))
    }
}

/// The bits from `low` to `high`, both below 64.
fn bits_between(low: u32, high: u32) -> u64 {
    u64::MAX << low & u64::MAX >> (63 - high)
}

/// Takes a number off the front of a list.
fn take_index(rest: &mut &[u8]) -> Option<u32> {
    let mut value = None;
    while let Some((digit @ b'0'..=b'9', more)) = rest.split_first() {
        let next = value.unwrap_or(0) * 10 + u32::from(digit - b'0');
        value = (next <= MAX_INDEX).then_some(next);
        value?;
        *rest = more;
    }
    value
}

/// A list element by element, which says what is wrong with one.
fn parse_elements<K>(text: &str) -> Result<IndexSet<K>, ParseSetError> {
    let mut set = IndexSet::new();
    for element in text.split(',') {
        let (low, high) = element.split_once('-').unwrap_or((element, element));
        let low = parse_index(low, element)?;
        let high = parse_index(high, element)?;
        if low > high {
            return Err(ParseSetError::Backwards(element.to_owned()));
        }
        set.insert_range(low, high);
    }
    Ok(set)
}

fn parse_index(digits: &str, element: &str) -> Result<u32, ParseSetError> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseSetError::Element(element.to_owned()));
    }
    match digits.parse() {
        Ok(index) if index <= MAX_INDEX => Ok(index),
        Ok(_) | Err(_) => Err(ParseSetError::TooLarge(element.to_owned())),
    }
}

impl<K> Serialize for IndexSet<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "schema")]
impl<K> schemars::JsonSchema for IndexSet<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IndexSet".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$" })
    }
}

impl<'de, K> Deserialize<'de> for IndexSet<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cpus(list: &str) -> CpuSet {
        list.parse().unwrap()
    }

    #[test]
    fn writes_the_kernel_list_format() {
        assert_eq!(cpus("8,0-3").to_string(), "0-3,8");
        assert_eq!(cpus("0,1,2,64,65,200").to_string(), "0-2,64-65,200");
        assert_eq!(cpus("0-31 \n").to_string(), "0-31");
        assert_eq!(cpus("\n").to_string(), "");
        let far = "0,9-10,99-100,999-1000,9999-10000,20304,30000-40000,65529,65531,65533,65535";
        assert_eq!(cpus(far).to_string(), far);
    }

    #[test]
    fn refuses_what_is_no_list_and_names_it() {
        for (text, says) in [
            ("a", "\"a\" in a list"),
            ("1,,2", "\"\" in a list"),
            ("3-1", "\"3-1\" runs backwards"),
            ("-1", "\"-1\" in a list"),
            ("0-4294967295", "expected numbers from 0 to 65535"),
            ("99999999999999999999", "expected numbers from 0 to 65535"),
        ] {
            let error = text.parse::<CpuSet>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn knows_its_ends() {
        assert_eq!(
            (cpus("5-70").first(), cpus("5-70").last()),
            (Some(5), Some(70))
        );
        assert_eq!((CpuSet::new().first(), CpuSet::new().last()), (None, None));
    }

    proptest! {
        #[test]
        fn text_round_trips(indexes in prop::collection::btree_set(0u32..600, 0..60)) {
            let set: CpuSet = indexes.iter().copied().collect();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), indexes.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.len(), indexes.len());
            prop_assert_eq!(&cpus(&set.to_string()), &set);
        }

        #[test]
        fn any_text_gives_a_set_or_an_error(text in "[0-9,\\- a]{0,24}") {
            let parsed = text.parse::<CpuSet>();
            let by_elements = parse_elements(text.trim());
            prop_assert!(text.trim().is_empty() || parsed == by_elements);
        }

        #[test]
        fn algebra_holds(a in prop::collection::vec(0u32..200, 0..40), b in prop::collection::vec(0u32..200, 0..40)) {
            let (a, b): (CpuSet, CpuSet) = (a.into_iter().collect(), b.into_iter().collect());
            prop_assert!(a.intersection(&b).is_subset(&a));
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert_eq!(a.intersects(&b), !a.intersection(&b).is_empty());
            prop_assert_eq!(a.union(&b).len(), a.len() + b.difference(&a).len());
        }
    }
}
