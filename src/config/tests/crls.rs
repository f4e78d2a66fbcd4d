//! Lists of revoked client certificates, good and bad.

use rcgen::{
    CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Returns the authority's CRL, valid until the end of a year.
fn crl(authority: &Authority, year: i32) -> String {
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(1990, 1, 1),
        next_update: date_time_ymd(year, 12, 31),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(authority).unwrap().pem().unwrap()
}

/// Returns the messages about these CRLs with these authorities, and how many CRLs were accepted.
fn check_crls(authorities: &[&Authority], lists: &[String]) -> (String, Option<usize>) {
    let dir = TestDir::new();
    let authorities: Vec<String> = authorities.iter().map(|one| one.pem()).collect();
    dir.write("clients.pem", &authorities.concat());
    dir.write("clients.crl", &lists.concat());
    let text = MINIMAL.replace(
        "{ certificate",
        "{ client_ca = \"clients.pem\", client_crl = \"clients.crl\", certificate",
    );
    let (problems, taken) = match dir.parse(&text) {
        Ok((config, warnings)) => {
            let taken = config.listeners["ccfs"].tls.client_crls.len();
            assert!(config.files.contains_key(&dir.path("clients.crl")));
            (warnings, Some(taken))
        }
        Err(diagnosis) => (diagnosis.problems().to_vec(), None),
    };
    let message: Vec<_> = problems.iter().map(Problem::message).collect();
    (message.join("\n"), taken)
}

#[test]
fn lists_of_the_authorities_are_taken() {
    let (one, two) = (authority("one"), authority("two"));
    assert_eq!(
        check_crls(&[&one, &two], &[crl(&two, 2900), crl(&one, 2900)]),
        (String::new(), Some(2))
    );
}

#[test]
fn a_list_of_no_known_authority_is_an_error_and_beside_others_a_warning() {
    let (one, two) = (authority("one"), authority("two"));
    let (said, taken) = check_crls(&[&one], &[crl(&two, 2900)]);
    assert!(said.contains("every CRL is of another authority"), "{said}");
    assert_eq!(taken, None);
    let (said, taken) = check_crls(&[&one], &[crl(&one, 2900), crl(&two, 2900)]);
    assert_eq!(said, "the CRL of CN=two is of no authority in client_ca");
    assert_eq!(taken, Some(2));
    let (said, taken) = check_crls(&[&one, &two], &[crl(&one, 2900)]);
    assert_eq!(said, "no CRL of CN=two, an authority in client_ca");
    assert_eq!(taken, Some(1));
}

#[test]
fn a_list_with_a_wrong_signature_is_an_error() {
    let (one, pretender) = (authority("one"), authority("one"));
    let (said, taken) = check_crls(&[&one], &[crl(&pretender, 2900)]);
    assert_eq!(said, "the signature of the CRL of CN=one is wrong");
    assert_eq!(taken, None);
    // During a change of its key, an authority has two certificates of one name.
    let both = check_crls(
        &[&one, &pretender],
        &[crl(&pretender, 2900), crl(&one, 2900)],
    );
    assert_eq!(both, (String::new(), Some(2)));
}

#[test]
fn an_expired_list_is_a_warning() {
    let one = authority("one");
    let (said, taken) = check_crls(&[&one], &[crl(&one, 1991)]);
    assert_eq!(said, "the CRL of CN=one expired at 1991-12-31T00:00:00Z");
    assert_eq!(taken, Some(1));
}

#[test]
fn an_invalid_list_is_an_error() {
    let one = authority("one");
    let block = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".to_owned();
    let (said, taken) = check_crls(&[&one], &[block]);
    assert_eq!(
        (said.as_str(), taken),
        ("not a certificate revocation list", None)
    );
}
