//! The mistakes by name.

/// A mistake of a client that signs. The names are public.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Mistake {
    /// The client signed Host without the port that it sent.
    HostWithoutPort,
    /// The client signed Host with a port that it did not send.
    HostWithPort,
    /// The client signed the Host of a node.
    HostOfNode,
    /// The client signed the address of the listener as Host.
    HostOfListener,
    /// The client signed the path without its context root.
    PathWithoutRoot,
    /// The client signed the path with a context root that it did not send.
    PathWithRoot,
    /// The client signed the path of `downloadRecordFile`.
    PathOldName,
    /// The client did not sign the query.
    QueryLeftOut,
    /// The client signed an empty line where it has no query.
    QueryEmptyLine,
    /// The client signed path and query in one line.
    QueryInPath,
    /// The client signed the body without blanks.
    BodyCompact,
    /// The client signed the body with a blank behind colons and commas.
    BodySpaced,
    /// The client signed the body with line breaks and indentation.
    BodyPretty,
    /// The client signed the body with its members sorted.
    BodySorted,
    /// The client signed the body with `\/` for `/`, or the other way round.
    BodySlashEscaped,
    /// The client signed the body with or without a line end.
    BodyLineEnd,
    /// The client signed the body with or without a byte-order mark.
    BodyBom,
    /// The client signed the body in GBK.
    BodyGbk,
    /// The client signed the body in UTF-16.
    BodyUtf16,
    /// The client used the signed names in two orders.
    NamesUnsorted,
    /// The client signed other names than it says.
    NamesOther,
    /// The timestamp has milliseconds that are not in the key.
    TimestampMilliseconds,
    /// The timestamp is local time.
    TimestampLocal,
    /// The client's secret has a line end.
    SecretLineEnd,
    /// The client's secret has blanks around it.
    SecretBlanks,
    /// The client used the signing key as bytes, not as hex digits.
    RawKey,
    /// No single change makes the signature fit.
    NothingFitted,
}

impl Mistake {
    /// Returns the public name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HostWithoutPort => "host-without-port",
            Self::HostWithPort => "host-with-port",
            Self::HostOfNode => "host-of-node",
            Self::HostOfListener => "host-of-listener",
            Self::PathWithoutRoot => "path-without-root",
            Self::PathWithRoot => "path-with-root",
            Self::PathOldName => "path-old-name",
            Self::QueryLeftOut => "query-left-out",
            Self::QueryEmptyLine => "query-empty-line",
            Self::QueryInPath => "query-in-path",
            Self::BodyCompact => "body-compact",
            Self::BodySpaced => "body-spaced",
            Self::BodyPretty => "body-pretty",
            Self::BodySorted => "body-sorted",
            Self::BodySlashEscaped => "body-slash-escaped",
            Self::BodyLineEnd => "body-line-end",
            Self::BodyBom => "body-bom",
            Self::BodyGbk => "body-gbk",
            Self::BodyUtf16 => "body-utf16",
            Self::NamesUnsorted => "names-unsorted",
            Self::NamesOther => "names-other",
            Self::TimestampMilliseconds => "timestamp-milliseconds",
            Self::TimestampLocal => "timestamp-local",
            Self::SecretLineEnd => "secret-line-end",
            Self::SecretBlanks => "secret-blanks",
            Self::RawKey => "raw-key",
            Self::NothingFitted => "nothing-fitted",
        }
    }

    /// Returns the mistake in a sentence without its full stop.
    pub fn words(self) -> &'static str {
        match self {
            Self::HostWithoutPort => "the client signed Host without the port that it sent",
            Self::HostWithPort => {
                "the client signed Host with another port than it sent, or with one where it sent none"
            }
            Self::HostOfNode => {
                "the client signed the Host of a node, and sent that of the gateway"
            }
            Self::HostOfListener => {
                "the client signed the address on which the gateway listens as Host, and sent another"
            }
            Self::PathWithoutRoot => "the client signed the path without its context root",
            Self::PathWithRoot => {
                "the client signed the path with a context root that it did not send"
            }
            Self::PathOldName => "the client signed the path of downloadRecordFile",
            Self::QueryLeftOut => "the client left the query out of what it signed",
            Self::QueryEmptyLine => "the client signed an empty line where it has no query",
            Self::QueryInPath => "the client signed path and query in one line",
            Self::BodyCompact => {
                "the client signed the body without blanks, and sent it in another layout"
            }
            Self::BodySpaced => {
                "the client signed the body with blanks behind colons and commas, and sent it in another layout"
            }
            Self::BodyPretty => {
                "the client signed the body with line breaks and indentation, and sent it in another layout"
            }
            Self::BodySorted => {
                "the client signed the body with sorted members, and sent it in another order"
            }
            Self::BodySlashEscaped => {
                "the client escaped the slashes of the body either in what it signed or in what it sent"
            }
            Self::BodyLineEnd => "the line end of the body is either not signed or not sent",
            Self::BodyBom => "the byte-order mark of the body is either not signed or not sent",
            Self::BodyGbk => {
                "the client used GBK either for the body that it signed or for the one that it sent"
            }
            Self::BodyUtf16 => "the client signed the body in UTF-16",
            Self::NamesUnsorted => "the client used the signed names in two orders",
            Self::NamesOther => "the client signed other header fields than it names",
            Self::TimestampMilliseconds => {
                "the timestamp has milliseconds that the signing key is not derived from"
            }
            Self::TimestampLocal => "the timestamp is local time, and must be UTC",
            Self::SecretLineEnd => "the client reads its secret key with a line end",
            Self::SecretBlanks => "the client reads its secret key with blanks around it",
            Self::RawKey => {
                "the client signs with the bytes of the signing key, and must use its hex digits"
            }
            Self::NothingFitted => {
                "no single change makes the signature fit: another secret key, or more than one mistake"
            }
        }
    }
}
