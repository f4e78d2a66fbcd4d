//! The interfaces of CC-FS: parameters and responses. The table is independent of the gateway's, so
//! that tests compare two implementations.

use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::faults::Faults;
use super::fields::{Parameter, ParameterError, validate};
use super::flow_limits::FlowClass;
use super::play_token;
use super::presign::{Presigner, UrlStyle};
use super::requested::RequestedBehavior;
use super::response::{FILE_CONTENT_TYPE, StandInResponse};

/// One interface.
#[derive(Debug)]
pub(super) struct Interface {
    /// The tail of its path, after `/CCFS/resource/ccfs/`.
    pub(super) name: &'static str,
    pub(super) kind: InterfaceKind,
}

/// What an interface does, with its parameters.
#[derive(Debug)]
pub(super) enum InterfaceKind {
    /// Sends a file, named by the first of these parameters that is given.
    File(&'static [Parameter]),
    /// Starts a job and returns its ID.
    Job(&'static [Parameter]),
    /// Sends the file of a play token; the only GET and the only unsigned interface.
    PlayVoice,
    /// Returns the URLs of a recording; the only flat body.
    RecordingUrl,
    /// Returns a play token.
    PlayToken,
    /// Receives a file.
    Upload,
}

impl Interface {
    /// Returns the interface of a path.
    pub(super) fn find(path: &str) -> Option<&'static Self> {
        let tail = path.strip_prefix("/CCFS/resource/ccfs/")?;
        TABLE.iter().find(|interface| interface.name == tail)
    }

    /// Returns the only method it accepts.
    pub(super) fn method(&self) -> Method {
        match self.kind {
            InterfaceKind::PlayVoice => Method::GET,
            _ => Method::POST,
        }
    }

    /// Whether it requires a signature.
    pub(super) fn is_signed(&self) -> bool {
        !matches!(self.kind, InterfaceKind::PlayVoice)
    }

    /// Returns the requests that share a flow limit with those of this interface.
    pub(super) fn flow_class(&self) -> FlowClass {
        match self.kind {
            InterfaceKind::File(_) | InterfaceKind::PlayVoice => FlowClass::Download,
            InterfaceKind::Job(_)
            | InterfaceKind::RecordingUrl
            | InterfaceKind::PlayToken
            | InterfaceKind::Upload => FlowClass::Query,
        }
    }

    /// Returns the flow-control result code of this interface.
    pub(super) fn flow_control_code(&self) -> &'static str {
        match self.flow_class() {
            FlowClass::Download => "0300008",
            FlowClass::Query => "0300009",
        }
    }
}

/// Builds the responses of the interfaces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Responder<'a> {
    pub(super) presigner: &'a Presigner,
    pub(super) style: &'a UrlStyle,
    pub(super) faults: &'a Faults,
    pub(super) now: Timestamp,
}

impl Responder<'_> {
    /// Returns the response to a valid or invalid request.
    pub(super) fn respond(
        &self,
        interface: &Interface,
        query: Option<&str>,
        body: &[u8],
    ) -> StandInResponse {
        let response = match interface.kind {
            InterfaceKind::PlayVoice => return self.play_voice(query.unwrap_or_default()),
            InterfaceKind::RecordingUrl => {
                parse_object(body).and_then(|body| self.recording_url(&body))
            }
            InterfaceKind::File(names) => {
                parse_envelope(body).and_then(|message| file_response(names, &message))
            }
            InterfaceKind::Job(fields) => parse_envelope(body).and_then(|message| {
                validate(&message, fields)?;
                Ok(success_response(
                    &json!({"responseId": "20260101000000001"}),
                ))
            }),
            InterfaceKind::PlayToken => parse_envelope(body).and_then(|message| {
                let name = requested_name(&[FILE_NAME], &message)?;
                Ok(success_response(
                    &json!({"token": play_token::issue(name, self.now)}),
                ))
            }),
            InterfaceKind::Upload => parse_envelope(body).and_then(|message| {
                validate(&message, &[Parameter::text("data", usize::MAX)])?;
                Ok(success_response(
                    &json!({"fileName": "Y:/ivr/uploaded.wav"}),
                ))
            }),
        };
        response.unwrap_or_else(|error| error_response(&error))
    }

    fn recording_url(&self, body: &Map<String, Value>) -> Result<StandInResponse, ParameterError> {
        validate(body, &RECORDING)?;
        check_version(body)?;
        let call_id = body.get("callId").and_then(Value::as_str);
        let call_id = call_id.unwrap_or_default();
        let requested = RequestedBehavior::parse(call_id);
        if let Some(code) = requested.result_code {
            return Ok(result_code_response(code));
        }
        if self.faults.is_unknown(call_id) {
            return Err(ParameterError::new("0300012", "no data found"));
        }
        let (packing, count) = requested
            .urls
            .unwrap_or((self.style.packing, self.style.count));
        let style = UrlStyle {
            form: requested.url_form.unwrap_or(self.style.form),
            lifetime: requested.url_lifetime.unwrap_or(self.style.lifetime),
            packing,
            count,
            opens: self.style.opens,
        };
        let data = self.presigner.result_data(call_id, &style, self.now);
        Ok(StandInResponse::json(
            &json!({"resultData": data, "resultCode": "0", "resultDesc": "success"}),
        ))
    }

    /// Sends the file of a play token. Error responses of this interface have the content type of a file.
    fn play_voice(&self, query: &str) -> StandInResponse {
        let values = || query.split('&').filter_map(|pair| pair.split_once('='));
        let value = |name| {
            values()
                .find(|(given, _)| *given == name)
                .map(|(_, value)| value)
        };
        if value("version") != Some("2.0") {
            let error = ParameterError::new("0300006", "wrong version, the current one is 2.0");
            return labelled_as_file(error_response(&error));
        }
        match play_token::verify(value("st").unwrap_or_default(), self.now) {
            Some(name) => named_file_response(&name),
            None => labelled_as_file(error_response(&ParameterError::new(
                "010106",
                "token is empty or invalid",
            ))),
        }
    }
}

/// Returns a response with a result code and its description from the error code table.
pub(super) fn result_code_response(code: &str) -> StandInResponse {
    let text = match code {
        "0" => "success",
        "0300001" => "a parameter is null",
        "0300002" => "a parameter is empty",
        "0300003" => "a parameter is too long",
        "0300004" => "the format of a parameter is incorrect",
        "0300005" => "a parameter is too short",
        "0300006" => "wrong version, the current one is 2.0",
        "0300007" => "request body parameters are missing",
        "0300008" => "the download flow control threshold is reached",
        "0300009" => "the query flow control threshold is reached",
        "0300010" => "the date in fileName is incorrect",
        "0300011" => "the file does not exist",
        "0300012" => "no data found",
        "0300013" => "beginTime is later than endTime",
        _ => "as requested",
    };
    StandInResponse::failure(http::StatusCode::OK, code, text)
}

fn error_response(error: &ParameterError) -> StandInResponse {
    StandInResponse::failure(http::StatusCode::OK, error.code, &error.text)
}

fn labelled_as_file(response: StandInResponse) -> StandInResponse {
    StandInResponse {
        content_type: FILE_CONTENT_TYPE,
        ..response
    }
}

/// Returns a success envelope, with the older `response` object beside the result.
fn success_response(data: &Value) -> StandInResponse {
    StandInResponse::json(&json!({
        "resultData": data,
        "resultCode": "0",
        "resultDesc": "success",
        "response": {"version": "2.0", "resultCode": "0", "resultMsg": "success"},
    }))
}

fn file_response(
    names: &[Parameter],
    message: &Map<String, Value>,
) -> Result<StandInResponse, ParameterError> {
    requested_name(names, message).map(named_file_response)
}

/// Returns the value of the first of these parameters that is given.
fn requested_name<'a>(
    names: &[Parameter],
    message: &'a Map<String, Value>,
) -> Result<&'a str, ParameterError> {
    let given = |field: &&Parameter| {
        message
            .get(field.name)
            .is_some_and(|value| !value.is_null())
    };
    let field = names.iter().find(given).or(names.first());
    let Some(field) = field else {
        return Err(ParameterError::new("0300007", "no file named"));
    };
    validate(message, &[*field])?;
    let name = message.get(field.name).and_then(Value::as_str);
    Ok(name.unwrap_or_default())
}

fn named_file_response(name: &str) -> StandInResponse {
    let requested = RequestedBehavior::parse(name);
    match requested.result_code {
        Some(code) => result_code_response(code),
        None => StandInResponse::file(requested.file_size.unwrap_or(DEFAULT_FILE_SIZE)),
    }
}

fn parse_object(body: &[u8]) -> Result<Map<String, Value>, ParameterError> {
    serde_json::from_slice(body)
        .map_err(|_| ParameterError::new("0300007", "the request body is no JSON object"))
}

/// Parses the envelope `{"request":{"version":"2.0"},"msgBody":{…}}` and returns `msgBody`.
fn parse_envelope(body: &[u8]) -> Result<Map<String, Value>, ParameterError> {
    let mut body = parse_object(body)?;
    let (request, message) = (body.remove("request"), body.remove("msgBody"));
    let (Some(Value::Object(request)), Some(Value::Object(message))) = (request, message) else {
        return Err(ParameterError::new(
            "0300007",
            "request or msgBody is missing",
        ));
    };
    if !request.contains_key("version") {
        return Err(ParameterError::new("0300001", "version is null"));
    }
    check_version(&request).map(|()| message)
}

fn check_version(object: &Map<String, Value>) -> Result<(), ParameterError> {
    match object.get("version") {
        None => Ok(()),
        Some(version) if version == "2.0" => Ok(()),
        Some(_) => Err(ParameterError::new(
            "0300006",
            "wrong version, the current one is 2.0",
        )),
    }
}

const FILE_NAME: Parameter = Parameter::text("fileName", 225);

const RECORDING: [Parameter; 3] = [
    Parameter::text("callId", 25),
    Parameter::time("beginTime"),
    Parameter::time("endTime"),
];

const DEFAULT_FILE_SIZE: u64 = 64 * 1024;

/// All interfaces below `/CCFS/resource/ccfs/`. Lengths are those of the CC-FS reference, 225 where it
/// gives none.
static TABLE: [Interface; 19] = {
    const fn row(name: &'static str, work: InterfaceKind) -> Interface {
        Interface { name, kind: work }
    }
    [
        row("getRecordFileUrlFromObs", InterfaceKind::RecordingUrl),
        row(
            "queryBillData",
            InterfaceKind::Job(&[
                Parameter::time("beginTime"),
                Parameter::time("endTime"),
                Parameter::text("dataType", 11),
                Parameter::text("callId", 25).optional(),
                Parameter::text("callBackURL", 2_048),
            ]),
        ),
        row(
            "downloadBillFile",
            InterfaceKind::File(&[Parameter::text("billFileName", 49)]),
        ),
        row("downloadRecordFile", InterfaceKind::File(&[FILE_NAME])),
        row(
            "downloadRecord",
            InterfaceKind::File(&[FILE_NAME, Parameter::text("callId", 25)]),
        ),
        row(
            "queryAgentOprInfoData",
            InterfaceKind::Job(&[
                Parameter::time("beginTime"),
                Parameter::time("endTime"),
                Parameter::text("callBackURL", 2_048),
            ]),
        ),
        row(
            "downloadAgentOprInfoFile",
            InterfaceKind::File(&[Parameter::text("agentOprInfoFileName", 49)]),
        ),
        row("requestPlayVoice", InterfaceKind::PlayToken),
        row("playVoice", InterfaceKind::PlayVoice),
        row(
            "downloadOiapRecord",
            InterfaceKind::File(&[Parameter::text("fileName", 127)]),
        ),
        row("downloadIVRRecordFile", InterfaceKind::File(&[FILE_NAME])),
        row("ivr/downloadFile", InterfaceKind::File(&[FILE_NAME])),
        row("ivr/uploadFile", InterfaceKind::Upload),
        row("ivr/getFileHash", InterfaceKind::Job(&[FILE_NAME])),
        row("ivr/deleteFile", InterfaceKind::Job(&[FILE_NAME])),
        row("downloadTransferFile", InterfaceKind::File(&[FILE_NAME])),
        row("requestRecordAnalysis", InterfaceKind::Job(&[])),
        row("queryRecordAnalysisStatus", InterfaceKind::Job(&[])),
        row(
            "downloadRecordAnalysisFile",
            InterfaceKind::File(&[FILE_NAME]),
        ),
    ]
};

#[cfg(test)]
mod tests;
