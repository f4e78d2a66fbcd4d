//! The table of CC-FS interfaces, one row each. A new interface is one new row.

use http::Method;

use BodyKind::{Envelope, Flat, Opaque};
use ResponseKind::{File, Json, SignedUrl};
use RetrySafety::{Idempotent, OnlyIfUnsent};

/// One interface of CC-FS.
#[derive(Debug)]
pub struct Endpoint {
    /// The path after `PREFIX`, also the name in logs and metrics.
    pub name: &'static str,
    /// The only method it accepts; meaningless in [`Lookup::Unlisted`].
    pub method: Method,
    /// Whether requests carry an Authorization; false only for `playVoice`.
    pub authenticated: bool,
    /// The shape of its request body, and so what normalization may change.
    pub body: BodyKind,
    /// Whether the limit of uploads applies to its request body.
    pub is_upload: bool,
    /// What it responds with.
    pub response: ResponseKind,
    /// Whether a request may be sent again after a node may have acted on it.
    pub retry_safety: RetrySafety,
    /// The resultCode of "too many requests" on this interface: 0300008 downloads, 0300009 queries.
    pub flow_control_code: &'static str,
}

impl Endpoint {
    /// Whether a successful answer is a recording, its URL or its token.
    pub fn gives_recording(&self) -> bool {
        RECORDINGS.contains(&self.name)
    }

    /// Whether it is the row of paths outside the table.
    pub fn is_unlisted(&self) -> bool {
        std::ptr::eq(self, &raw const UNLISTED)
    }
}

/// The shape of a request body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyKind {
    /// `{"request":{"version":"2.0"},"msgBody":{…}}`: a missing version is added, RFC 3339 times in
    /// `msgBody.beginTime` and `msgBody.endTime` become tenant-local. CC-FS validates the remainder.
    Envelope,
    /// The recording-URL request: one flat object, validated completely.
    Flat,
    /// No body, or one that the gateway does not parse.
    Opaque,
}

/// What an interface responds with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseKind {
    /// Bytes of any size, streamed; errors are JSON.
    File,
    /// One JSON object, buffered.
    Json,
    /// One JSON object with pre-signed URLs, which may be cached.
    SignedUrl,
}

/// Whether a request may be retried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetrySafety {
    /// It only reads, so it may always be retried.
    Idempotent,
    /// It starts a job, uploads or deletes: retried only if nothing was sent.
    OnlyIfUnsent,
}

/// The result of [`find_endpoint`].
#[derive(Clone, Copy, Debug)]
pub enum Lookup {
    /// A row of the table.
    Found(&'static Endpoint),
    /// A row has the path but another method.
    MethodMismatch(&'static Endpoint),
    /// Not in the table; the row of unlisted paths (forwarded byte-identical, streamed, any method).
    Unlisted(&'static Endpoint),
}

/// Finds the row of a raw path, which is compared byte by byte and never decoded.
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

/// The start of the path of every interface.
pub const PREFIX: &str = "/CCFS/resource/ccfs/";

/// The result codes of flow control (error code reference, page 4240 / 0835).
const DOWNLOADS: &str = "0300008";
const QUERIES: &str = "0300009";

/// All rows; the most requested one first.
pub static ENDPOINTS: &[Endpoint] = &[
    row("getRecordFileUrlFromObs", Flat, SignedUrl, Idempotent),
    row("queryBillData", Envelope, Json, OnlyIfUnsent),
    row("downloadBillFile", Envelope, File, Idempotent),
    row("downloadRecordFile", Envelope, File, Idempotent),
    row("downloadRecord", Envelope, File, Idempotent),
    row("queryAgentOprInfoData", Envelope, Json, OnlyIfUnsent),
    row("downloadAgentOprInfoFile", Envelope, File, Idempotent),
    // Issues a token; a retry issues another one, which is harmless.
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
    // Not in the current documents, but used by clients.
    row("downloadTransferFile", Envelope, File, Idempotent),
    row("requestRecordAnalysis", Envelope, Json, OnlyIfUnsent),
    row("queryRecordAnalysisStatus", Envelope, Json, Idempotent),
    row("downloadRecordAnalysisFile", Envelope, File, Idempotent),
];

/// The interfaces that give out what callers or agents said, or the means to get it.
static RECORDINGS: [&str; 8] = [
    "getRecordFileUrlFromObs",
    "downloadRecordFile",
    "downloadRecord",
    "requestPlayVoice",
    "downloadOiapRecord",
    "downloadIVRRecordFile",
    "ivr/downloadFile",
    "downloadTransferFile",
];

/// The row of paths outside the table: assumes nothing about them.
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

/// Creates the row of an ordinary interface: a POST with Authorization.
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
    fn recordings_are_interfaces() {
        let known = |name: &&str| ENDPOINTS.iter().any(|row| row.name == *name);
        assert!(RECORDINGS.iter().all(known));
        assert!(row("downloadRecord").gives_recording());
        assert!(!row("downloadBillFile").gives_recording());
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
