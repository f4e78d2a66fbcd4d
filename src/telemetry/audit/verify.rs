//! Checks audit logs, line by line.

use std::io::BufRead;

use serde_json::Value;

use super::chain::{self, AuditKey, NO_PREVIOUS};

/// The first line that breaks a chain.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct BadLine {
    /// Its number in its file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// What was found in the lines so far.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verified {
    /// Lines that are part of a chain.
    pub lines: u64,
    /// Chains that begin.
    pub chains: u64,
    /// Requests and orders that the process reported as lost.
    pub lost: u64,
    /// Torn lines that the program ended.
    pub torn: u64,
    /// The number of the first line, if it is within a chain: what came before is in another file.
    pub continues_from: Option<u64>,
    /// Number and hash of the last line.
    pub head: Option<(u64, String)>,
}

/// Checks the chains of one or more files, in the order in which they were written.
#[derive(Debug)]
pub struct AuditVerifier {
    key: Option<AuditKey>,
    /// The line that must be in the log.
    expected_head: Option<(u64, String)>,
    has_head: bool,
    /// The line before was torn; the next must say so.
    is_torn: bool,
    verified: Verified,
}

impl AuditVerifier {
    /// Creates a verifier. With `expected_head`, the line of that number and hash must be found.
    pub fn new(key: Option<AuditKey>, expected_head: Option<(u64, String)>) -> Self {
        Self {
            key,
            expected_head,
            has_head: false,
            is_torn: false,
            verified: Verified::default(),
        }
    }

    /// Checks the lines of a file.
    ///
    /// # Errors
    /// The first line that is wrong; or the file cannot be read.
    pub fn check(&mut self, mut file: impl BufRead) -> std::io::Result<Result<(), BadLine>> {
        let mut number = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            if file.read_until(b'\n', &mut line)? == 0 {
                return Ok(Ok(()));
            }
            number += 1;
            let result = match line.strip_suffix(b"\n") {
                Some(line) => self.check_line(line, number == 1),
                // The end of the file: the next start of the program ends the line and says so.
                None => {
                    self.verified.torn += 1;
                    Ok(())
                }
            };
            if let Err(reason) = result {
                let reason = reason.to_owned();
                return Ok(Err(BadLine {
                    line: number,
                    reason,
                }));
            }
        }
    }

    /// Returns what was found.
    ///
    /// # Errors
    /// The expected head was not found, so that the log was cut.
    pub fn finish(self) -> Result<Verified, String> {
        if self.is_torn {
            return Err("the last line is no line of an audit log".to_owned());
        }
        match self.expected_head {
            Some((seq, hash)) if !self.has_head => Err(format!(
                "line {seq} with the hash {hash} is missing: the log was cut"
            )),
            _ => Ok(self.verified),
        }
    }

    fn check_line(&mut self, line: &[u8], is_first: bool) -> Result<(), &'static str> {
        let parsed = chain::split(line).and_then(|(hashed, hash)| {
            let members: Value = serde_json::from_slice(line).ok()?;
            members.is_object().then_some((hashed, hash, members))
        });
        let Some((hashed, hash, members)) = parsed else {
            if self.is_torn {
                return Err("no line of an audit log");
            }
            self.is_torn = true;
            return Ok(());
        };
        let kind = members["kind"].as_str().unwrap_or_default();
        let says_torn = members["torn"] == true;
        if std::mem::take(&mut self.is_torn) {
            if !says_torn {
                return Err("the line before is no line of an audit log");
            }
            self.verified.torn += 1;
        }
        if chain::hash(hashed, self.key.as_ref()) != hash {
            return Err(match self.key {
                Some(_) => "its hash is wrong: it was changed, or the key is another one",
                None => "its hash is wrong: it was changed, or the log has a key",
            });
        }
        let seq = members["seq"].as_u64().ok_or("it has no number")?;
        self.check_order(&members, kind, seq, is_first)?;
        if self
            .expected_head
            .as_ref()
            .is_some_and(|(expected, head)| *expected == seq && head == hash)
        {
            self.has_head = true;
        }
        self.verified.lines += 1;
        self.verified.head = Some((seq, hash.to_owned()));
        Ok(())
    }

    fn check_order(
        &mut self,
        members: &Value,
        kind: &str,
        seq: u64,
        is_first: bool,
    ) -> Result<(), &'static str> {
        let previous = members["previous"].as_str().unwrap_or_default();
        let lost = match kind {
            "lost" => members["count"]
                .as_u64()
                .ok_or("it does not say how many lines were lost")?,
            _ => 0,
        };
        self.verified.lost += lost;
        let Some((last_seq, last_hash)) = &self.verified.head else {
            if kind == "start" {
                self.verified.chains += 1;
                return (seq == 1)
                    .then_some(())
                    .ok_or("a chain begins with another number than 1");
            }
            self.verified.continues_from = Some(seq);
            return Ok(());
        };
        if kind == "start" {
            self.verified.chains += 1;
            if seq != 1 {
                return Err("a chain begins with another number than 1");
            }
            // A new file of a new process begins anew.
            if previous != last_hash && !(is_first && previous == NO_PREVIOUS) {
                return Err("it does not follow the line before: lines are missing");
            }
            return Ok(());
        }
        if previous != last_hash {
            return Err(
                "it does not follow the line before: lines are missing or in another order",
            );
        }
        if seq != last_seq + lost.max(1) {
            return Err("its number does not follow that of the line before");
        }
        Ok(())
    }
}
