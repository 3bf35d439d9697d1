//! The values of attributes, in the forms that NCCL's reader and tables know.

use topology::machine::Processor;
use topology::set::CpuSet;

use super::refusal::NotEmitted;
use crate::element::{Element, MAX_VALUE_BYTES};
use crate::processor::written_family;

/// The most 32-bit words of an `affinity` that stays below NCCL's limit for a value.
pub(super) const MAX_AFFINITY_WORDS: usize = 28;

/// CPUs as NCCL reads them: hex words of 32 bits with the highest first, `ffffffff,00000000`.
///
/// None where the value would be too long for NCCL's reader.
pub(super) fn affinity(cpus: &CpuSet) -> Option<String> {
    let halves = cpus
        .words()
        .iter()
        .flat_map(|word| [word & 0xffff_ffff, word >> 32]);
    let mut words: Vec<_> = halves.collect();
    while words.last() == Some(&0) {
        words.pop();
    }
    (words.len() <= MAX_AFFINITY_WORDS).then(|| {
        let hex: Vec<_> = words
            .iter()
            .rev()
            .map(|word| format!("{word:08x}"))
            .collect();
        hex.join(",")
    })
}

/// The processor's attributes of a `<cpu>`: `arch`, `vendor`, `familyid`, `modelid`.
///
/// Only on x86 have the last three a value.  Elsewhere NCCL reads none of them, and they are empty so that
/// an NCCL built for x86 that is shown the file (a simulation) does not fill in its own processor's above
/// the rank's GPU alone, which would tear each `<cpu>` in two (`graph/xml.cc` `ncclTopoGetXmlFromCpu`).
pub(super) fn processor_attributes(
    processor: Option<&Processor>,
) -> Result<Vec<(&'static str, String)>, NotEmitted> {
    let missing = |missing| NotEmitted::ProcessorUnknown { missing };
    let processor = processor.ok_or(missing("arch"))?;
    let mut attributes = vec![("arch", processor.arch.clone())];
    match processor.arch.as_str() {
        "arm64" | "ppc64" => {
            for key in ["vendor", "familyid", "modelid"] {
                attributes.push((key, String::new()));
            }
        }
        "x86_64" => {
            let vendor = processor.vendor.clone().ok_or(missing("vendor"))?;
            let family = processor.family.ok_or(missing("family"))?;
            let model = processor.model.ok_or(missing("model"))?;
            attributes.push(("vendor", vendor));
            attributes.push(("familyid", written_family(family).to_string()));
            attributes.push(("modelid", model.to_string()));
        }
        _ => return Err(missing("arch")),
    }
    Ok(attributes)
}

/// Refuses values that NCCL's reader, or another of XML, would not read back as they are: NCCL's knows no entities.
pub(super) fn check_writable(system: &Element) -> Result<(), NotEmitted> {
    let mut refused = None;
    system.walk(&mut |element| {
        for (_, value) in &element.attributes {
            let plain = |byte: u8| matches!(byte, b' '..=b'~') && !b"\"&<".contains(&byte);
            if value.len() > MAX_VALUE_BYTES || !value.bytes().all(plain) {
                refused.get_or_insert_with(|| value.clone());
            }
        }
    });
    refused.map_or(Ok(()), |value| Err(NotEmitted::Unwritable { value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_xml_would_read_otherwise_is_refused() {
        let of = |vendor: &str| check_writable(&Element::new("cpu").with("vendor", vendor));
        assert!(of("GenuineIntel").is_ok() && of("  Shanghai  ").is_ok());
        for odd in ["&", "a<b", "\"", "\u{e9}"] {
            assert!(of(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn affinity_is_hex_words_of_32_bits_with_the_highest_first() {
        let mask = |list: &str| affinity(&list.parse().unwrap());
        assert_eq!(mask("32-63").as_deref(), Some("ffffffff,00000000"));
        assert_eq!(mask("0-11,24-35").as_deref(), Some("0000000f,ff000fff"));
        assert_eq!(mask("").as_deref(), Some(""));
        assert_eq!(mask("895").unwrap().len(), 28 * 9 - 1);
        assert_eq!(mask("896"), None);
    }
}
