//! PEM as Go reads it: a block that cannot be parsed does not hide the others.

use pem::Pem;
use rustls::pki_types::CertificateDer;

/// Returns the blocks of `text` that can be parsed.
pub(crate) fn blocks(text: &[u8]) -> Vec<Pem> {
    const BEGIN: &str = "-----BEGIN ";
    let text = String::from_utf8_lossy(text);
    let starts: Vec<usize> = text.match_indices(BEGIN).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .filter_map(|(start, end)| pem::parse(&text[*start..end]).ok())
        .collect()
}

/// Returns the certificates in `text`.
pub(crate) fn certificates(text: &[u8]) -> Vec<CertificateDer<'static>> {
    blocks(text)
        .into_iter()
        .filter(|block| block.tag() == "CERTIFICATE")
        .map(|block| CertificateDer::from(block.into_contents()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKEN: &str = "-----BEGIN CERTIFICATE-----\nrubbish!\n-----END CERTIFICATE-----\n";

    #[test]
    fn unreadable_block_does_not_hide_the_others() {
        let pair = rcgen::generate_simple_self_signed(["user".to_owned()]).unwrap();
        let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        for text in [
            certificate.clone(),
            format!("{BROKEN}{certificate}"),
            format!("{certificate}{BROKEN}"),
            format!("-----BEGIN CERTIFICATE-----\nAAAA\n{certificate}"),
            format!("Issuer: x\n{key}\n{certificate}end"),
            certificate.replace('\n', "\r\n"),
        ] {
            assert_eq!(certificates(text.as_bytes()), [pair.cert.der().clone()], "{text}");
        }
        for text in [
            "",
            BROKEN,
            "-----BEGIN ",
            "-----BEGIN CERTIFICATE-----",
            "rubbish",
        ] {
            assert!(certificates(text.as_bytes()).is_empty(), "{text}");
        }
    }
}
