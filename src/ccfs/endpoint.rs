//! The table: every interface of CC-FS, one row each. A new interface is one new row.

use http::Method;

use BodyKind::{Envelope, Flat, Opaque};
use ResponseKind::{File, Json, SignedUrl};
use RetrySafety::{Idempotent, OnlyIfUnsent};

/// One interface of CC-FS.
#[derive(Debug)]
pub struct Endpoint {
    /// The tail of the path, also the name in logs and metrics.
    pub name: &'static str,
    /// The only method it takes; of no meaning in [`Lookup::Unlisted`].
    pub method: Method,
    /// False for `playVoice`, which carries no Authorization.
    pub authenticated: bool,
    /// The shape of its body, and so what normalization may change.
    pub body: BodyKind,
    /// Which limit holds for its body: uploads have their own.
    pub is_upload: bool,
    /// What comes back.
    pub response: ResponseKind,
    /// May a request be sent again when a node may already have acted on it?
    pub retry_safety: RetrySafety,
    /// The resultCode of "too many requests" on this interface: 0300008 downloads, 0300009 queries.
    pub flow_control_code: &'static str,
}

impl Endpoint {
    /// The row of paths that the table does not list?
    pub fn is_unlisted(&self) -> bool {
        std::ptr::eq(self, &raw const UNLISTED)
    }
}

/// The shape of a request body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyKind {
    /// `{"request":{"version":"2.0"},"msgBody":{…}}`: a missing version is added, RFC 3339 times in
    /// `msgBody.beginTime` and `msgBody.endTime` become tenant-local, the rest is CC-FS's to judge.
    Envelope,
    /// The recording-URL request: one flat object, checked whole.
    Flat,
    /// No body, or one that is none of our business.
    Opaque,
}

/// What comes back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseKind {
    /// Bytes of any size, streamed; failures are JSON all the same.
    File,
    /// One JSON object, read whole.
    Json,
    /// One JSON object with pre-signed URLs in it, which may be cached.
    SignedUrl,
}

/// May a request be repeated on another node?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetrySafety {
    /// It only reads.
    Idempotent,
    /// It starts a job, uploads or deletes: only when nothing was sent.
    OnlyIfUnsent,
}

/// What a path and method lead to.
#[derive(Clone, Copy, Debug)]
pub enum Lookup {
    /// A row of the table.
    Found(&'static Endpoint),
    /// The path is a row's, the method is not; the one allowed is inside.
    MethodMismatch(&'static Endpoint),
    /// Not in the table: [`Endpoint`] of unlisted paths (forwarded untouched, streamed, any method).
    Unlisted(&'static Endpoint),
}

/// Finds the row for a raw path: matched byte by byte, nothing is decoded.
pub fn find_endpoint(method: &Method, path: &str) -> Lookup {
    let row = path
        .strip_prefix(PREFIX)
        .and_then(|tail| ENDPOINTS.iter().find(|row| row.name == tail));
    match row {
        Some(row) if row.method == *method => Lookup::Found(row),
        Some(row) => Lookup::MethodMismatch(row),
        None => Lookup::Unlisted(&UNLISTED),
    }
}

/// Where all interfaces live.
const PREFIX: &str = "/CCFS/resource/ccfs/";

/// Flow control of downloads and of everything else (error code reference, page 4240 / 0835).
const DOWNLOADS: &str = "0300008";
const QUERIES: &str = "0300009";

/// All rows; the one that is asked most stands first.
pub static ENDPOINTS: &[Endpoint] = &[
    row("getRecordFileUrlFromObs", Flat, SignedUrl, Idempotent),
    row("queryBillData", Envelope, Json, OnlyIfUnsent),
    row("downloadBillFile", Envelope, File, Idempotent),
    row("downloadRecordFile", Envelope, File, Idempotent),
    row("downloadRecord", Envelope, File, Idempotent),
    row("queryAgentOprInfoData", Envelope, Json, OnlyIfUnsent),
    row("downloadAgentOprInfoFile", Envelope, File, Idempotent),
    // Hands out a token; asked again, it hands out another.
    row("requestPlayVoice", Envelope, Json, Idempotent),
    Endpoint {
        name: "playVoice",
        method: Method::GET,
        authenticated: false,
        body: Opaque,
        is_upload: false,
        response: File,
        retry_safety: Idempotent,
        flow_control_code: DOWNLOADS,
    },
    row("downloadOiapRecord", Envelope, File, Idempotent),
    row("downloadIVRRecordFile", Envelope, File, Idempotent),
    row("ivr/downloadFile", Envelope, File, Idempotent),
    row("ivr/uploadFile", Envelope, Json, OnlyIfUnsent).with_upload(),
    row("ivr/getFileHash", Envelope, Json, Idempotent),
    row("ivr/deleteFile", Envelope, Json, OnlyIfUnsent),
    // These four are not in the current documents; clients use them.
    row("downloadTransferFile", Envelope, File, Idempotent),
    row("requestRecordAnalysis", Envelope, Json, OnlyIfUnsent),
    row("queryRecordAnalysisStatus", Envelope, Json, Idempotent),
    row("downloadRecordAnalysisFile", Envelope, File, Idempotent),
];

/// What holds for paths that the table does not know: nothing is assumed.
static UNLISTED: Endpoint = Endpoint {
    name: "unlisted",
    method: Method::POST,
    authenticated: true,
    body: Opaque,
    is_upload: true,
    response: File,
    retry_safety: OnlyIfUnsent,
    flow_control_code: QUERIES,
};

/// An interface as nearly all are: a POST with Authorization.
const fn row(
    name: &'static str,
    body: BodyKind,
    answer: ResponseKind,
    repeat: RetrySafety,
) -> Endpoint {
    Endpoint {
        name,
        method: Method::POST,
        authenticated: true,
        body,
        is_upload: false,
        response: answer,
        retry_safety: repeat,
        flow_control_code: match answer {
            File => DOWNLOADS,
            Json | SignedUrl => QUERIES,
        },
    }
}

impl Endpoint {
    const fn with_upload(mut self) -> Self {
        self.is_upload = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> &'static Endpoint {
        ENDPOINTS.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn every_row_is_found_by_its_own_method_and_path_only() {
        for row in ENDPOINTS {
            let path = format!("/CCFS/resource/ccfs/{}", row.name);
            let Lookup::Found(found) = find_endpoint(&row.method, &path) else {
                panic!("{} not found", row.name);
            };
            assert_eq!(found.name, row.name);
            for method in [Method::HEAD, Method::OPTIONS, Method::PUT] {
                assert!(
                    matches!(find_endpoint(&method, &path), Lookup::MethodMismatch(r) if r.name == row.name)
                );
            }
        }
    }

    #[test]
    fn paths_match_whole_and_raw() {
        for path in [
            "/CCFS/resource/ccfs/",
            "/CCFS/resource/ccfs/getRecordFileUrlFromObs/",
            "/CCFS/resource/ccfs/getRecordFileUrlFromOb%73",
            "/CCFS/resource/ccfs/getrecordfileurlfromobs",
            "/CCFS/resource/ccfs//downloadRecord",
            "/ccfs/resource/ccfs/downloadRecord",
            "/CCFS/resource/ccfs/downloadFile",
            "/rest/cmsapp/v1/ping",
            "",
        ] {
            let Lookup::Unlisted(row) = find_endpoint(&Method::POST, path) else {
                panic!("{path} is in the table");
            };
            assert!(row.authenticated && row.is_upload);
            assert_eq!(row.body, Opaque);
            assert_eq!(row.response, File);
            assert_eq!(row.retry_safety, OnlyIfUnsent);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ENDPOINTS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), ENDPOINTS.len()), (19, 19));
    }

    #[test]
    fn what_starts_a_job_uploads_or_deletes_is_not_repeated() {
        let jobs: Vec<_> = ENDPOINTS
            .iter()
            .filter(|row| row.retry_safety == OnlyIfUnsent)
            .map(|row| row.name)
            .collect();
        let expected = [
            "queryBillData",
            "queryAgentOprInfoData",
            "ivr/uploadFile",
            "ivr/deleteFile",
            "requestRecordAnalysis",
        ];
        assert_eq!(jobs, expected);
    }

    #[test]
    fn files_are_the_downloads() {
        for row in ENDPOINTS {
            let file = row.name.contains("download") || row.name == "playVoice";
            assert_eq!(row.response == File, file, "{}", row.name);
            assert_eq!(row.flow_control_code == "0300008", file, "{}", row.name);
        }
    }

    #[test]
    fn the_odd_rows() {
        let url = row("getRecordFileUrlFromObs");
        assert_eq!((url.body, url.response), (Flat, SignedUrl));
        let play = row("playVoice");
        assert_eq!((&play.method, play.authenticated), (&Method::GET, false));
        assert_eq!(play.body, Opaque);
        let uploads: Vec<_> = ENDPOINTS
            .iter()
            .filter(|row| row.is_upload)
            .map(|row| row.name)
            .collect();
        assert_eq!(uploads, ["ivr/uploadFile"]);
        let flat = ENDPOINTS.iter().filter(|row| row.body == Flat).count();
        let envelopes = ENDPOINTS.iter().filter(|row| row.body == Envelope).count();
        assert_eq!((flat, envelopes), (1, 17));
    }
}
