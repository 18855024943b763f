//! Client certificates with their keys.

use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use crate::net::pem;

/// Parses a client certificate and its key, both in PEM.
///
/// The certificate is not parsed, since rustls refuses X.509 version 1
/// (<https://github.com/rustls/rustls/issues/2364>), which `MicroK8s` creates.
pub(super) fn certified_key(certificate: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    let chain = pem::certificates(certificate);
    if chain.is_empty() {
        return Err("the client certificate holds no certificate".to_owned());
    }
    let key = pem::blocks(key)
        .into_iter()
        .find(|block| block.tag().ends_with("PRIVATE KEY"))
        .ok_or("the client key holds no private key")?;
    if key.tag().starts_with("ENCRYPTED") || key.headers().get("DEK-Info").is_some() {
        return Err("the client key is encrypted".to_owned());
    }
    let key = key.into_contents();
    // As in Go, the label of the block is ignored.
    let forms = [
        PrivateKeyDer::Pkcs8(key.clone().into()),
        PrivateKeyDer::Pkcs1(key.clone().into()),
        PrivateKeyDer::Sec1(key.clone().into()),
    ];
    let signer = forms.iter().find_map(|form| any_supported_type(form).ok());
    let signer = signer.ok_or_else(|| match curve(&key) {
        Some(name) => format!("the client key is on the curve {name}, which is not supported"),
        None => "the client key is not one of RSA, ECDSA or Ed25519".to_owned(),
    })?;
    let pair = CertifiedKey::new(chain, signer);
    match pair.keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("the client key does not match the client certificate".to_owned())
        }
        _ => Ok(Arc::new(pair)),
    }
}

/// Returns the name of the unsupported curve of a key.
fn curve(key: &[u8]) -> Option<&'static str> {
    const CURVES: [(&str, &[u8]); 2] = [
        ("P-521", &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23]),
        ("P-224", &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x21]),
    ];
    let has = |id: &[u8]| key.windows(id.len()).any(|window| window == id);
    CURVES.iter().find(|(_, id)| has(id)).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::pem::{Pem, encode};

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["user".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn invalid_pair_is_refused_with_reason() {
        let (certificate, key) = pair();
        let (other, _) = pair();
        let p521 = [0x30, 0x07, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
        let p521 = encode(&Pem::new("PRIVATE KEY", p521));
        let encrypted = encode(&Pem::new("ENCRYPTED PRIVATE KEY", [0]));
        let strange = encode(&Pem::new("PRIVATE KEY", [0]));
        for (certificate, key, reason) in [
            ("", &*key, "holds no certificate"),
            (&certificate, "", "holds no private key"),
            (&certificate, &certificate, "holds no private key"),
            (&other, &key, "does not match the client certificate"),
            (&certificate, &p521, "on the curve P-521"),
            (&certificate, &encrypted, "encrypted"),
            (&certificate, &strange, "not one of RSA, ECDSA or Ed25519"),
        ] {
            let error = certified_key(certificate.as_bytes(), key.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn key_is_parsed_whatever_its_label() {
        let (certificate, key) = pair();
        for label in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
            let key = key.replace("PRIVATE KEY", label);
            assert!(
                certified_key(certificate.as_bytes(), key.as_bytes()).is_ok(),
                "{label}"
            );
        }
    }

    #[test]
    fn certificate_is_accepted_without_parsing() {
        let (_, key) = pair();
        let strange = encode(&Pem::new("CERTIFICATE", [0x30, 0]));
        assert!(certified_key(strange.as_bytes(), key.as_bytes()).is_ok());
    }
}
