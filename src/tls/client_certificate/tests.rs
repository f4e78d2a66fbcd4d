use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};

use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer() -> Issuer {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "clients");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of 2030 with the common name `qa`.
fn client(issuer: &Issuer) -> ClientCertificate {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "qa");
    params.not_before = date_time_ymd(2030, 1, 1);
    params.not_after = date_time_ymd(2031, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    ClientCertificate::new(vec![certificate.der().clone()])
}

fn crl(issuer: &Issuer, next: i32) -> CertificateRevocationListDer<'static> {
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2029, 1, 1),
        next_update: date_time_ymd(next, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(issuer).unwrap().der().clone()
}

fn identities(
    issuer: &Issuer,
    crls: &[CertificateRevocationListDer<'static>],
) -> Arc<CertificateIdentities> {
    let authorities = Authorities::new(vec![issuer.der().clone()]).unwrap();
    Arc::new(CertificateIdentities::new(&authorities, crls, &HashSet::new()).unwrap())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_certificate_counts_between_its_dates_by_the_clock_of_each_request() {
    let issuer = issuer();
    let (certificate, identities) = (client(&issuer), identities(&issuer, &[]));
    for (time, is_valid) in [
        ("2029-12-31T23:59:59Z", false),
        ("2030-01-01T00:00:00Z", true),
        ("2030-06-01T00:00:00Z", true),
        ("2031-01-01T00:00:00Z", true),
        ("2031-01-01T00:00:01Z", false),
        // The clock was set back.
        ("2030-06-01T00:00:00Z", true),
        ("2029-06-01T00:00:00Z", false),
    ] {
        let names = certificate.names(&identities, at(time));
        assert_eq!(
            names.len(),
            if is_valid { 2 } else { 0 },
            "{time}: {names:?}"
        );
    }
}

#[test]
fn a_crl_that_is_due_ends_what_was_accepted() {
    let issuer = issuer();
    let certificate = client(&issuer);
    let (short, long) = (crl(&issuer, 2030), crl(&issuer, 2900));
    // Its end lies in the validity of the certificate.
    let soon = CertificateRevocationListParams {
        this_update: date_time_ymd(2029, 1, 1),
        next_update: date_time_ymd(2030, 7, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let soon = soon.signed_by(&issuer).unwrap().der().clone();
    let names = |list: &CertificateRevocationListDer<'static>, time: &str| {
        let identities = identities(&issuer, std::slice::from_ref(list));
        certificate.names(&identities, at(time)).len()
    };
    assert_eq!(names(&short, "2030-06-01T00:00:00Z"), 0);
    assert_eq!(names(&long, "2030-08-01T00:00:00Z"), 2);
    let identities = identities(&issuer, &[soon]);
    let names = |time| certificate.names(&identities, at(time)).len();
    assert_eq!(names("2030-06-30T23:59:59Z"), 2);
    assert_eq!(names("2030-07-01T00:00:00Z"), 0);
}

#[test]
fn another_authority_is_asked_anew() {
    let issuers = [issuer(), issuer()];
    let [issuer, other] = &issuers;
    let certificate = client(issuer);
    let now = at("2030-06-01T00:00:00Z");
    assert_eq!(certificate.names(&identities(issuer, &[]), now).len(), 2);
    assert_eq!(certificate.names(&identities(other, &[]), now).len(), 0);
}

#[test]
fn an_intermediate_whose_key_usage_denies_it_issues_no_names() {
    let authority = issuer();
    for (usage, count) in [
        (KeyUsagePurpose::KeyCertSign, 2),
        (KeyUsagePurpose::DigitalSignature, 1),
    ] {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "intermediate");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let intermediate = CertifiedIssuer::signed_by(params, key, &authority).unwrap();
        let leaf = client(&intermediate).chain.remove(0);
        let chain = vec![leaf, intermediate.der().clone()];
        let names = ClientCertificate::new(chain)
            .names(&identities(&authority, &[]), at("2030-06-01T00:00:00Z"));
        assert_eq!(names.len(), count);
    }
}
