//! The recording-URL request (`getRecordFileUrlFromObs`, page 4221 / 0813): one flat object.

use std::borrow::Cow;

use bytes::Bytes;

use super::super::json::{Canonicalize, Member, Object, ValueKind};
use super::super::times::{self, LocalTime, ParsedTime, WindowError};
use super::invalid::quoted_for_display;
use super::{
    Edit, InvalidRequest, Payload, SentTimes, Tenant, VERSION_MEMBER, Versionless, shortened,
    splice,
};

/// Rejects what CC-FS would reject, in the order of the validation table of the contract: each row is checked for
/// all members before the next row.
pub(super) fn normalize(raw: &Bytes, tenant: &Tenant) -> Result<Payload, InvalidRequest> {
    let object = Object::strict(raw, Canonicalize::All).map_err(InvalidRequest::body)?;
    normalize_object(raw, &object, tenant).map_err(|invalid| {
        let call_id = object
            .member(CALL_ID)
            .and_then(|member| object.text(&member));
        invalid.of_call(call_id.map(|text| shortened(&text).into()))
    })
}

fn normalize_object(
    raw: &Bytes,
    object: &Object<'_>,
    tenant: &Tenant,
) -> Result<Payload, InvalidRequest> {
    let fields = RequiredMembers::read(object, tenant)?;
    let version = Version::read(object, &fields, tenant)?;
    let window = Window::convert(&fields, version, tenant)?;
    window.check(&fields, tenant)?;

    let changes = Changes {
        begin: window.begin.converted().map(LocalTime::json_literal),
        end: window.end.converted().map(LocalTime::json_literal),
        add_version: version != Version::Given,
    };
    let edits = changes.edits(&fields, object);
    Ok(Payload {
        is_changed: !edits.is_empty(),
        outgoing: splice(raw, edits),
        cache_key: Some(changes.key(object)),
        call_id: Some(fields.call_id.into()),
        file_name: None,
        sent_times: SentTimes {
            begin: Some(window.begin.civil),
            end: Some(window.end.civil),
        },
    })
}

/// The three required members, each in a legal form.
struct RequiredMembers<'a> {
    call_id: Cow<'a, str>,
    begin: TimeMember<'a>,
    end: TimeMember<'a>,
}

struct TimeMember<'a> {
    member: Member,
    text: Cow<'a, str>,
    parsed: ParsedTime,
}

impl<'a> RequiredMembers<'a> {
    fn read(object: &Object<'a>, tenant: &Tenant) -> Result<Self, InvalidRequest> {
        let required = |name| {
            let member = object.member(name);
            member
                .filter(|member| member.kind != ValueKind::Null)
                .ok_or_else(|| InvalidRequest::null(name))
        };
        let members = [required(CALL_ID)?, required(BEGIN)?, required(END)?];
        let texts = members.each_ref().map(|member| object.text(member));
        for (name, text) in [CALL_ID, BEGIN, END].iter().zip(&texts) {
            if text.as_deref() == Some("") {
                return Err(InvalidRequest::empty(name));
            }
        }
        let [call_id, begin, end] = texts;
        if let Some(call_id) = &call_id
            && call_id.chars().nth(MAX_CALL_ID_CHARACTERS).is_some()
        {
            return Err(InvalidRequest::too_long(
                CALL_ID,
                MAX_CALL_ID_CHARACTERS,
                call_id,
            ));
        }
        let string = |name, member: &Member, text: Option<Cow<'a, str>>| {
            text.ok_or_else(|| InvalidRequest::format(name, "a string", object.raw(member)))
        };
        let [its_call_id, its_begin, its_end] = members;
        let call_id = string(CALL_ID, &its_call_id, call_id)?;
        let begin = string(BEGIN, &its_begin, begin)?;
        let begin = TimeMember::read(BEGIN, its_begin, begin, tenant)?;
        let end = string(END, &its_end, end)?;
        let end = TimeMember::read(END, its_end, end, tenant)?;
        Ok(Self {
            call_id,
            begin,
            end,
        })
    }
}

impl<'a> TimeMember<'a> {
    fn read(
        name: &str,
        member: Member,
        text: Cow<'a, str>,
        tenant: &Tenant,
    ) -> Result<Self, InvalidRequest> {
        let written = ParsedTime::parse(&text, &tenant.zone)
            .ok_or_else(|| InvalidRequest::format(name, TIME_FORMS, &text))?;
        Ok(Self {
            member,
            text,
            parsed: written,
        })
    }
}

/// What `version` says about the times without an offset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    /// "2.0": they are tenant-local.
    Given,
    /// Absent, and they are tenant-local, or there are none.
    AddedToLocal,
    /// Absent, and they are in UTC.
    AddedToUtc,
}

impl Version {
    fn read(
        object: &Object<'_>,
        fields: &RequiredMembers<'_>,
        tenant: &Tenant,
    ) -> Result<Self, InvalidRequest> {
        if let Some(member) = object.member(VERSION) {
            return match object.text(&member).as_deref() {
                Some("2.0") => Ok(Self::Given),
                Some(text) => Err(Self::wrong(text)),
                None => Err(Self::wrong(object.raw(&member))),
            };
        }
        let times = [fields.begin.parsed, fields.end.parsed];
        if let [ParsedTime::Instant(_), ParsedTime::Instant(_)] = times {
            return Ok(Self::AddedToLocal);
        }
        match tenant.versionless {
            Some(Versionless::Local) => Ok(Self::AddedToLocal),
            Some(Versionless::Utc) => Ok(Self::AddedToUtc),
            Some(Versionless::Reject) => Err(InvalidRequest::version(
                "version is missing: it is mandatory, and must be \"2.0\"".to_owned(),
            )),
            None if times::is_plus_eight(&tenant.zone, times) => Ok(Self::AddedToUtc),
            None => Err(InvalidRequest::version(
                "version is missing: it is mandatory outside GMT+8, and must be \"2.0\"".to_owned(),
            )),
        }
    }

    fn wrong(value: &str) -> InvalidRequest {
        let value = quoted_for_display(value);
        InvalidRequest::version(format!("version is not the string \"2.0\": {value}"))
    }
}

/// Both times as they are sent.
struct Window {
    begin: LocalTime,
    end: LocalTime,
}

impl Window {
    fn convert(
        fields: &RequiredMembers<'_>,
        version: Version,
        tenant: &Tenant,
    ) -> Result<Self, InvalidRequest> {
        let convert = |name, time: &TimeMember<'_>| match (time.parsed, version) {
            (ParsedTime::Instant(local), _) => Ok(local),
            (ParsedTime::Civil(civil), Version::Given | Version::AddedToLocal) => {
                Ok(LocalTime::as_written(civil))
            }
            (ParsedTime::Civil(civil), Version::AddedToUtc) => {
                LocalTime::from_utc(civil, &tenant.zone)
                    .ok_or_else(|| InvalidRequest::format(name, TIME_FORMS, &time.text))
            }
        };
        Ok(Self {
            begin: convert(BEGIN, &fields.begin)?,
            end: convert(END, &fields.end)?,
        })
    }

    fn check(&self, fields: &RequiredMembers<'_>, tenant: &Tenant) -> Result<(), InvalidRequest> {
        times::check_order(&self.begin, &self.end, &tenant.zone)
            .and_then(|()| times::check_span(&self.begin, &self.end, &tenant.zone))
            .map_err(|fault| self.invalid(fault, fields))
    }

    fn invalid(&self, fault: WindowError, fields: &RequiredMembers<'_>) -> InvalidRequest {
        let (begin, end) = (
            quoted_for_display(&fields.begin.text),
            quoted_for_display(&fields.end.text),
        );
        match fault {
            WindowError::Reversed => {
                InvalidRequest::order(format!("beginTime {begin} is later than endTime {end}"))
            }
            WindowError::ReversedByClockChange => InvalidRequest::order(format!(
                "beginTime {begin} would go out as {}, later than endTime {end} as {}: the clocks of \
                 the tenant's zone change in between, and an hour that they repeat in autumn has no \
                 order; begin before that hour or end after it",
                self.begin.json_literal(),
                self.end.json_literal(),
            )),
            WindowError::TooLong => InvalidRequest::span(format!(
                "endTime {end} is more than three days after beginTime {begin}"
            )),
        }
    }
}

/// The changes to the object: converted times as JSON strings, an added version.
struct Changes {
    begin: Option<String>,
    end: Option<String>,
    add_version: bool,
}

impl Changes {
    fn edits<'a>(&'a self, fields: &RequiredMembers<'_>, object: &Object<'_>) -> Vec<Edit<'a>> {
        let mut edits = Vec::new();
        if let Some(begin) = &self.begin {
            edits.push(Edit::replace(0, &fields.begin.member, begin));
        }
        if let Some(end) = &self.end {
            edits.push(Edit::replace(0, &fields.end.member, end));
        }
        if self.add_version {
            edits.push(Edit::append(0, object, VERSION_MEMBER));
        }
        edits
    }

    /// Returns the canonical outgoing object.
    fn key(&self, object: &Object<'_>) -> Bytes {
        let mut key = String::with_capacity(object.source().len() + VERSION_MEMBER.len());
        let mut member = |name: &str, value: &str| {
            key.push(if key.is_empty() { '{' } else { ',' });
            for part in ["\"", name, "\":", value] {
                key.push_str(part);
            }
        };
        let mut missing = self.add_version.then_some((VERSION, "\"2.0\""));
        for it in object.members() {
            let name = object.name(it);
            if let Some((version, value)) = missing.take_if(|(version, _)| *version < name) {
                member(version, value);
            }
            let changed = match name {
                BEGIN => self.begin.as_deref(),
                END => self.end.as_deref(),
                _ => None,
            };
            member(name, changed.unwrap_or_else(|| object.value(it)));
        }
        if let Some((version, value)) = missing {
            member(version, value);
        }
        key.push('}');
        key.into()
    }
}

const CALL_ID: &str = "callId";
const BEGIN: &str = "beginTime";
const END: &str = "endTime";
const VERSION: &str = "version";

/// Interface document, page 4221 / 0813.
const MAX_CALL_ID_CHARACTERS: usize = 25;

const TIME_FORMS: &str =
    "a time of the form yyyy-MM-dd HH:mm:ss, or RFC 3339 with offset, in the years 0001 to 9999";
