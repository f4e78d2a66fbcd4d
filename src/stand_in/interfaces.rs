//! What the interfaces of CC-FS ask for and answer. The stand-in has a table of its own: it must not
//! agree with the gateway by using the gateway's.

use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::faults::Faults;
use super::fields::{Field, Refusal, check};
use super::play_token;
use super::presign::{Presigner, UrlStyle};
use super::requested::Wishes;
use super::response::{Answer, FILE};

/// One interface.
#[derive(Debug)]
pub(super) struct Interface {
    /// The tail of its path.
    pub(super) name: &'static str,
    pub(super) work: Work,
}

/// What an interface does.
#[derive(Debug)]
pub(super) enum Work {
    /// Sends a file; the first of these fields that is given names it.
    File(&'static [Field]),
    /// Starts something, answers its number.
    Job(&'static [Field]),
    /// Plays a file by a token; the only GET, and the only one that nobody signs.
    Play,
    /// The flat one: a recording's URLs.
    RecordingUrl,
    /// Answers a token.
    RequestPlay,
    /// Takes a file.
    Upload,
}

impl Interface {
    /// The interface of a path.
    pub(super) fn find(path: &str) -> Option<&'static Self> {
        let tail = path.strip_prefix("/CCFS/resource/ccfs/")?;
        TABLE.iter().find(|interface| interface.name == tail)
    }

    /// The only method it takes.
    pub(super) fn method(&self) -> Method {
        match self.work {
            Work::Play => Method::GET,
            _ => Method::POST,
        }
    }

    /// Does it want to see who asks?
    pub(super) fn is_signed(&self) -> bool {
        !matches!(self.work, Work::Play)
    }

    /// "Too many requests" of this interface.
    pub(super) fn flow_control(&self) -> &'static str {
        match self.work {
            Work::File(_) | Work::Play => "0300008",
            Work::Job(_) | Work::RecordingUrl | Work::RequestPlay | Work::Upload => "0300009",
        }
    }
}

/// What the interfaces need to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Desk<'a> {
    pub(super) presigner: &'a Presigner,
    pub(super) style: &'a UrlStyle,
    pub(super) faults: &'a Faults,
    pub(super) now: Timestamp,
}

impl Desk<'_> {
    /// The right answer to a request.
    pub(super) fn answer(&self, interface: &Interface, query: Option<&str>, body: &[u8]) -> Answer {
        let answer = match interface.work {
            Work::Play => return self.play(query.unwrap_or_default()),
            Work::RecordingUrl => object(body).and_then(|body| self.recording_url(&body)),
            Work::File(names) => message(body).and_then(|message| file(names, &message)),
            Work::Job(fields) => message(body).and_then(|message| {
                check(&message, fields)?;
                Ok(success(&json!({"responseId": "20260101000000001"})))
            }),
            Work::RequestPlay => message(body).and_then(|message| {
                let name = named(&[FILE_NAME], &message)?;
                Ok(success(
                    &json!({"token": play_token::token(name, self.now)}),
                ))
            }),
            Work::Upload => message(body).and_then(|message| {
                check(&message, &[Field::text("data", usize::MAX)])?;
                Ok(success(&json!({"fileName": "Y:/ivr/uploaded.wav"})))
            }),
        };
        answer.unwrap_or_else(|refusal| refused(&refusal))
    }

    fn recording_url(&self, body: &Map<String, Value>) -> Result<Answer, Refusal> {
        check(body, &RECORDING)?;
        version(body)?;
        let call_id = body.get("callId").and_then(Value::as_str);
        let call_id = call_id.unwrap_or_default();
        let wishes = Wishes::read(call_id);
        if let Some(code) = wishes.code {
            return Ok(code_answer(code));
        }
        if self.faults.is_unknown(call_id) {
            return Err(Refusal::new("0300012", "no data found"));
        }
        let (packing, count) = wishes
            .urls
            .unwrap_or((self.style.packing, self.style.count));
        let style = UrlStyle {
            form: wishes.form.unwrap_or(self.style.form),
            life: wishes.life.unwrap_or(self.style.life),
            packing,
            count,
        };
        let data = self.presigner.result_data(call_id, &style, self.now);
        Ok(Answer::json(
            &json!({"resultData": data, "resultCode": "0", "resultDesc": "success"}),
        ))
    }

    /// Failures of this interface are labelled as files, too.
    fn play(&self, query: &str) -> Answer {
        let values = || query.split('&').filter_map(|pair| pair.split_once('='));
        let value = |name| {
            values()
                .find(|(given, _)| *given == name)
                .map(|(_, value)| value)
        };
        if value("version") != Some("2.0") {
            let refusal = Refusal::new("0300006", "wrong version, the current one is 2.0");
            return as_file(refused(&refusal));
        }
        match play_token::file_name(value("st").unwrap_or_default(), self.now) {
            Some(name) => send(&name),
            None => as_file(refused(&Refusal::new(
                "010106",
                "token is empty or invalid",
            ))),
        }
    }
}

/// An answer that says only a code, with the meaning that the error code table gives it.
pub(super) fn code_answer(code: &str) -> Answer {
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
        _ => "as asked for",
    };
    Answer::failure(http::StatusCode::OK, code, text)
}

fn refused(refusal: &Refusal) -> Answer {
    Answer::failure(http::StatusCode::OK, refusal.code, &refusal.text)
}

fn as_file(answer: Answer) -> Answer {
    Answer {
        content_type: FILE,
        ..answer
    }
}

/// The enveloped interfaces still carry the older object beside the result.
fn success(data: &Value) -> Answer {
    Answer::json(&json!({
        "resultData": data,
        "resultCode": "0",
        "resultDesc": "success",
        "response": {"version": "2.0", "resultCode": "0", "resultMsg": "success"},
    }))
}

fn file(names: &[Field], message: &Map<String, Value>) -> Result<Answer, Refusal> {
    named(names, message).map(send)
}

/// The first of these fields that is given.
fn named<'a>(names: &[Field], message: &'a Map<String, Value>) -> Result<&'a str, Refusal> {
    let given = |field: &&Field| {
        message
            .get(field.name)
            .is_some_and(|value| !value.is_null())
    };
    let field = names.iter().find(given).or(names.first());
    let Some(field) = field else {
        return Err(Refusal::new("0300007", "no file named"));
    };
    check(message, &[*field])?;
    let name = message.get(field.name).and_then(Value::as_str);
    Ok(name.unwrap_or_default())
}

fn send(name: &str) -> Answer {
    let wishes = Wishes::read(name);
    match wishes.code {
        Some(code) => code_answer(code),
        None => Answer::file(wishes.size.unwrap_or(USUAL_SIZE)),
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    serde_json::from_slice(body)
        .map_err(|_| Refusal::new("0300007", "the request body is no JSON object"))
}

/// Opens the envelope `{"request":{"version":"2.0"},"msgBody":{…}}`.
fn message(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let mut body = object(body)?;
    let (request, message) = (body.remove("request"), body.remove("msgBody"));
    let (Some(Value::Object(request)), Some(Value::Object(message))) = (request, message) else {
        return Err(Refusal::new("0300007", "request or msgBody is missing"));
    };
    if !request.contains_key("version") {
        return Err(Refusal::new("0300001", "version is null"));
    }
    version(&request).map(|()| message)
}

fn version(object: &Map<String, Value>) -> Result<(), Refusal> {
    match object.get("version") {
        None => Ok(()),
        Some(version) if version == "2.0" => Ok(()),
        Some(_) => Err(Refusal::new(
            "0300006",
            "wrong version, the current one is 2.0",
        )),
    }
}

const FILE_NAME: Field = Field::text("fileName", 225);

const RECORDING: [Field; 3] = [
    Field::text("callId", 25),
    Field::time("beginTime"),
    Field::time("endTime"),
];

const USUAL_SIZE: u64 = 64 * 1024;

/// All interfaces below `/CCFS/resource/ccfs/`; lengths are those of the pages of the CC-FS
/// reference, 225 where a page gives none.
static TABLE: [Interface; 19] = {
    const fn row(name: &'static str, work: Work) -> Interface {
        Interface { name, work }
    }
    [
        row("getRecordFileUrlFromObs", Work::RecordingUrl),
        row(
            "queryBillData",
            Work::Job(&[
                Field::time("beginTime"),
                Field::time("endTime"),
                Field::text("dataType", 11),
                Field::text("callId", 25).optional(),
                Field::text("callBackURL", 2_048),
            ]),
        ),
        row(
            "downloadBillFile",
            Work::File(&[Field::text("billFileName", 49)]),
        ),
        row("downloadRecordFile", Work::File(&[FILE_NAME])),
        row(
            "downloadRecord",
            Work::File(&[FILE_NAME, Field::text("callId", 25)]),
        ),
        row(
            "queryAgentOprInfoData",
            Work::Job(&[
                Field::time("beginTime"),
                Field::time("endTime"),
                Field::text("callBackURL", 2_048),
            ]),
        ),
        row(
            "downloadAgentOprInfoFile",
            Work::File(&[Field::text("agentOprInfoFileName", 49)]),
        ),
        row("requestPlayVoice", Work::RequestPlay),
        row("playVoice", Work::Play),
        row(
            "downloadOiapRecord",
            Work::File(&[Field::text("fileName", 127)]),
        ),
        row("downloadIVRRecordFile", Work::File(&[FILE_NAME])),
        row("ivr/downloadFile", Work::File(&[FILE_NAME])),
        row("ivr/uploadFile", Work::Upload),
        row("ivr/getFileHash", Work::Job(&[FILE_NAME])),
        row("ivr/deleteFile", Work::Job(&[FILE_NAME])),
        row("downloadTransferFile", Work::File(&[FILE_NAME])),
        row("requestRecordAnalysis", Work::Job(&[])),
        row("queryRecordAnalysisStatus", Work::Job(&[])),
        row("downloadRecordAnalysisFile", Work::File(&[FILE_NAME])),
    ]
};

#[cfg(test)]
mod tests;
