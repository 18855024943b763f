//! TLS failures, and the algorithms that rustls does not support.

use rustls::{AlertDescription, CertificateError};

use super::{HINT_ADDRESS, explained};
use crate::net::{Cause, Explanation};

const HINT_ALGORITHM: &str = "supported are RSA, Ed25519, and ECDSA on P-256 and P-384 with SHA-256 or SHA-384; \
                              reach the server by another address or authority, if it has one";

const HINT_ISSUER: &str = "name the authority's own certificate (a server's certificate does not do): \
                           --certificate-authority FILE";

pub(super) fn explain_tls(error: &rustls::Error) -> Explanation {
    let unreachable = |message: String, hint: &str| explained(Cause::Unreachable, message, Some(hint));
    match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                unreachable(
                    format!("the API server's certificate is for another name: {reason}"),
                    "name the one it is for: --tls-server-name NAME",
                )
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => unreachable(
                format!("the API server's certificate is out of date: {reason}"),
                "compare this machine's clock with the certificate's dates",
            ),
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id,
                ..
            } => unreachable(
                format!(
                    "the API server's certificate is signed with {}, which is not supported",
                    algorithm(signature_algorithm_id)
                ),
                HINT_ALGORITHM,
            ),
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id,
                public_key_algorithm_id,
            } => unreachable(
                format!(
                    "the API server's certificate is signed with {} by a key for {}, which is not supported",
                    algorithm(signature_algorithm_id),
                    algorithm(public_key_algorithm_id)
                ),
                HINT_ALGORITHM,
            ),
            CertificateError::UnknownIssuer => unreachable(
                "the API server's certificate is signed by an authority that is not trusted".to_owned(),
                HINT_ISSUER,
            ),
            _ => unreachable(
                format!("the API server's certificate is not accepted: {reason}"),
                HINT_ISSUER,
            ),
        },
        rustls::Error::InvalidMessage(_) => unreachable(
            "the server does not speak TLS: an HTTP answer came on an HTTPS connection".to_owned(),
            "is the address meant to start with http://, or the port another one? see: kubectl config view --minify",
        ),
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => explained(
            Cause::Auth,
            "the API server found no common TLS version, algorithm or certificate (HandshakeFailure); a server \
             certificate with a P-521 key, for instance, is not supported",
            Some("show the certificate of the server: openssl s_client -connect HOST:PORT"),
        ),
        rustls::Error::AlertReceived(alert) => explained(
            Cause::Auth,
            format!("the API server broke off the TLS handshake: {alert:?}"),
            Some("check the client certificate of: kubectl config view --minify"),
        ),
        other => unreachable(
            format!("no TLS connection to the API server: {other}"),
            HINT_ADDRESS,
        ),
    }
}

/// Returns the name of the algorithm with this DER identifier, or the identifier.
fn algorithm(id: &[u8]) -> String {
    const NAMES: [(&str, &[u8]); 13] = [
        ("ECDSA with SHA-1", &[42, 134, 72, 206, 61, 4, 1]),
        ("ECDSA with SHA-256", &[42, 134, 72, 206, 61, 4, 3, 2]),
        ("ECDSA with SHA-384", &[42, 134, 72, 206, 61, 4, 3, 3]),
        ("ECDSA with SHA-512", &[42, 134, 72, 206, 61, 4, 3, 4]),
        ("RSA with MD5", &[42, 134, 72, 134, 247, 13, 1, 1, 4]),
        ("RSA with SHA-1", &[42, 134, 72, 134, 247, 13, 1, 1, 5]),
        ("RSASSA-PSS", &[42, 134, 72, 134, 247, 13, 1, 1, 10]),
        ("RSA", &[42, 134, 72, 134, 247, 13, 1, 1, 1]),
        ("Ed448", &[43, 101, 113]),
        // Prefixed with the identifier of elliptic curves.
        (
            "the curve P-224",
            &[42, 134, 72, 206, 61, 2, 1, 6, 5, 43, 129, 4, 0, 33],
        ),
        (
            "the curve P-256",
            &[42, 134, 72, 206, 61, 2, 1, 6, 8, 42, 134, 72, 206, 61, 3, 1, 7],
        ),
        (
            "the curve P-384",
            &[42, 134, 72, 206, 61, 2, 1, 6, 5, 43, 129, 4, 0, 34],
        ),
        (
            "the curve P-521",
            &[42, 134, 72, 206, 61, 2, 1, 6, 5, 43, 129, 4, 0, 35],
        ),
    ];
    // The tag and the length of the first identifier.
    let content = id.get(2..).unwrap_or_default();
    let name = NAMES
        .iter()
        .filter(|(_, known)| content.starts_with(known))
        .max_by_key(|(_, known)| known.len());
    name.map_or_else(
        || format!("the algorithm {id:02x?}"),
        |(name, _)| (*name).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::connecting;
    use super::*;
    use rustls::InvalidMessage;
    use std::io;

    fn tls(error: rustls::Error) -> Explanation {
        connecting(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn tls_failures_have_a_hint() {
        for (error, cause, message, hint) in [
            (
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer),
                Cause::Unreachable,
                "not trusted",
                "--certificate-authority",
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::NotValidForName),
                Cause::Unreachable,
                "another name",
                "--tls-server-name",
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::Expired),
                Cause::Unreachable,
                "out of date",
                "clock",
            ),
            (
                rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType),
                Cause::Unreachable,
                "does not speak TLS",
                "http://",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateRequired),
                Cause::Auth,
                "CertificateRequired",
                "client certificate",
            ),
        ] {
            let explained = tls(error);
            assert_eq!(explained.cause, cause, "{explained:?}");
            assert!(explained.message.contains(message), "{explained:?}");
            assert!(explained.hint.as_ref().unwrap().contains(hint), "{explained:?}");
        }
    }

    #[test]
    fn unsupported_algorithm_is_named() {
        let p521 = vec![6, 7, 42, 134, 72, 206, 61, 2, 1, 6, 5, 43, 129, 4, 0, 35];
        let ecdsa = |hash| vec![6, 8, 42, 134, 72, 206, 61, 4, 3, hash];
        let by_key = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: ecdsa(2),
            public_key_algorithm_id: p521,
        };
        let by_hash = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: ecdsa(4),
            supported_algorithms: vec![],
        };
        for (reason, part) in [
            (
                by_key,
                "signed with ECDSA with SHA-256 by a key for the curve P-521, which",
            ),
            (by_hash, "signed with ECDSA with SHA-512, which is not supported"),
        ] {
            let explained = tls(rustls::Error::InvalidCertificate(reason));
            assert_eq!(explained.cause, Cause::Unreachable);
            assert!(explained.message.contains(part), "{explained:?}");
        }
        let alert = tls(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure));
        assert!(alert.message.contains("P-521"), "{alert:?}");
        for odd in [&[][..], &[6], &[6, 1, 1]] {
            assert!(algorithm(odd).starts_with("the algorithm ["));
        }
    }
}
