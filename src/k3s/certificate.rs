//! Expiry of certificates. Nothing else is parsed, and no trust is based on it.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{Timestamp, civil::DateTime, tz::Offset};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Returns the expiry of the first certificate in a base64-encoded PEM file, as in kubeconfigs; `None` if it cannot be
/// parsed.
pub fn end(pem_in_base64: &str) -> Option<Timestamp> {
    end_in_pem(&BASE64_STANDARD.decode(pem_in_base64).ok()?)
}

/// Returns the expiry of the first certificate in a PEM file; `None` if it cannot be parsed.
pub fn end_in_pem(pem: &[u8]) -> Option<Timestamp> {
    let pem = std::str::from_utf8(pem).ok()?;
    let body = pem.split_once("-----BEGIN CERTIFICATE-----")?.1.split_once("-----END CERTIFICATE-----")?.0;
    let body: String = body.split_whitespace().collect();
    end_of(&BASE64_STANDARD.decode(body).ok()?)
}

/// Returns the expiry of a certificate in DER.
fn end_of(der: &[u8]) -> Option<Timestamp> {
    let certificate = part(der, Some(SEQUENCE))?.0;
    let mut rest = part(certificate, Some(SEQUENCE))?.0;
    if rest.first() == Some(&VERSION) {
        rest = part(rest, None)?.1;
    }
    // Serial number, signature, issuer.
    for _ in 0..3 {
        rest = part(rest, None)?.1;
    }
    let validity = part(rest, Some(SEQUENCE))?.0;
    let end = part(validity, None)?.1;
    let text = std::str::from_utf8(part(end, None)?.0).ok()?.strip_suffix('Z')?;
    // A two-digit year is between 1950 and 2049.
    let text = match *end.first()? {
        UTC_TIME if text >= "50" => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    Offset::UTC.to_timestamp(time).ok()
}

/// Returns the content of the first DER element, and the data that follows it.
fn part(der: &[u8], tag: Option<u8>) -> Option<(&[u8], &[u8])> {
    let (&is, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |length, b| length << 8 | usize::from(*b)), rest)
        }
        _ => return None,
    };
    (tag.is_none_or(|tag| tag == is)).then(|| rest.split_at_checked(length))?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THIS_CENTURY: &str = "-----BEGIN CERTIFICATE-----
MIIBbjCCAROgAwIBAgIUGfJXwNrFMu/2dfCd8IrnR8ZZg5YwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBYTAeFw0yNjExMjUxNDI1MDJaFw0yNzExMjUxNDI1MDJaMAwx
CjAIBgNVBAMMAWEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAT6X7fWSapqP0wW
gJkjndah9D75mxKXZhA+9jTGR3MbZ8DQkG8dTYX9ktXjtw/wVS5eotfTEZkm8j+5
/wj/87/so1MwUTAdBgNVHQ4EFgQUpDw0RLIH5vaHkw8b4R51Qad8h/cwHwYDVR0j
BBgwFoAUpDw0RLIH5vaHkw8b4R51Qad8h/cwDwYDVR0TAQH/BAUwAwEB/zAKBggq
hkjOPQQDAgNJADBGAiEAtqpcQzpu8j3QgIfg+VLr7mlRGgYi0332SD0mu6Jp1dgC
IQCnbA0fcJNKoRmQvErOJeJYBDuMRjP4a5EwvywhXALRJQ==
-----END CERTIFICATE-----";
    const AFTER_2049: &str = "-----BEGIN CERTIFICATE-----
MIIBcDCCARWgAwIBAgIUJiEqTZ8Xgd7m4P2oIm7J1B+QupAwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBYTAgFw0yNjExMjUxNDI1MDJaGA8yMDgxMDgyODE0MjUwMlow
DDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNNRJioqUn1/
NI2XL8OZjdCg5oOb9zL1AAWuOt5mewxT14lU2dZ392g5rPhpO9/sYHbTZrNunHki
aV3VqQrD51ujUzBRMB0GA1UdDgQWBBQPSKnkZIAn8pCK6310UGDgO8OXTzAfBgNV
HSMEGDAWgBQPSKnkZIAn8pCK6310UGDgO8OXTzAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0kAMEYCIQDfUiGB6vb5BiunnaHuWKDn1LwsxC2io7oHFSUWHLuL
5gIhAK9piDUBMg9J/+NxK8zJYBD3cLGUq/GxUJtucNcK04rD
-----END CERTIFICATE-----";

    #[test]
    fn both_forms_of_time_are_read() {
        for (pem, want) in [(THIS_CENTURY, "2027-11-25T14:25:02Z"), (AFTER_2049, "2081-08-28T14:25:02Z")] {
            let end = end(&BASE64_STANDARD.encode(pem)).unwrap();
            assert_eq!(end.to_string(), want);
        }
        // A two-digit year of the last century.
        let body: String = THIS_CENTURY.lines().filter(|l| !l.starts_with('-')).collect();
        let mut der = BASE64_STANDARD.decode(body).unwrap();
        let at = der.windows(13).position(|part| part == b"271125142502Z").unwrap();
        for (years, want) in [(b"50", "1950-11-25T14:25:02Z"), (b"49", "2049-11-25T14:25:02Z")] {
            der[at..at + 2].copy_from_slice(years);
            assert_eq!(end_of(&der).unwrap().to_string(), want);
        }
        for none in ["", "CERT", "Q0VSVA=="] {
            assert_eq!(end(none), None);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_too_strange_to_be_looked_at(mut der in prop::collection::vec(any::<u8>(), 0..64), cut in 0usize..400) {
            end_of(&der);
            let body: String = THIS_CENTURY.lines().filter(|l| !l.starts_with('-')).collect();
            let whole = BASE64_STANDARD.decode(body).unwrap();
            let begin = &whole[..cut.min(whole.len())];
            end_of(begin);
            der.splice(0..0, begin.iter().copied());
            end_of(&der);
        }
    }
}
