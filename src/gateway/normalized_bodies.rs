//! Bodies that were normalized lately. A player asks for the same recording again and again, with the same
//! bytes, and what a body becomes depends on nothing but them, its interface, and how the tenant's times are
//! read. So the third request with a body finds it normalized. Verification, the cache and all limits come as
//! ever.

use std::hash::BuildHasher;

use bytes::Bytes;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::ccfs::{Endpoint, InvalidRequest, Payload, ResponseKind, Tenant};

/// The bodies that one worker remembers, at most [`SETS`] × [`WAYS`] of [`MAX_BODY`] bytes.
#[derive(Debug)]
pub(super) struct NormalizedBodies {
    sets: Mutex<Box<[Set]>>,
    hasher: RandomState,
}

/// The bodies whose hashes select the same set.
#[derive(Debug, Default)]
struct Set {
    /// The hash of the last body that was not remembered. One that comes again is, so that bodies that come once
    /// push out no other.
    seen: u64,
    /// In the order of their last use.
    bodies: [Option<NormalizedBody>; WAYS],
}

/// A body and what it became.
#[derive(Debug)]
struct NormalizedBody {
    hash: u64,
    content: Box<Content>,
}

#[derive(Debug)]
struct Content {
    endpoint: &'static Endpoint,
    tenant: Tenant,
    raw: Bytes,
    payload: Payload,
}

impl NormalizedBodies {
    /// Does what [`Endpoint::normalize`] does.
    ///
    /// # Errors
    /// What CC-FS itself would reject.
    pub(super) fn normalize(
        &self,
        endpoint: &'static Endpoint,
        raw: &Bytes,
        tenant: &Tenant,
    ) -> Result<Payload, InvalidRequest> {
        if endpoint.response != ResponseKind::SignedUrl || raw.len() > MAX_BODY {
            return endpoint.normalize(raw, tenant);
        }
        let hash = self.hasher.hash_one(&raw[..]);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of the hash select a set equally well"
        )]
        let index = hash as usize % SETS;
        let is_second = {
            let set = &mut self.sets.lock()[index];
            let is_it =
                |body: &NormalizedBody| body.hash == hash && body.is_of(endpoint, raw, tenant);
            let way = set
                .bodies
                .iter()
                .position(|body| body.as_ref().is_some_and(is_it));
            if let Some(way) = way {
                set.bodies[..=way].rotate_right(1);
                if let Some(body) = &set.bodies[0] {
                    return Ok(body.content.payload.clone());
                }
            }
            std::mem::replace(&mut set.seen, hash) == hash
        };
        let payload = endpoint.normalize(raw, tenant)?;
        if is_second {
            let body = Some(NormalizedBody::new(hash, endpoint, raw, tenant, &payload));
            let replaced = {
                let set = &mut self.sets.lock()[index];
                set.bodies.rotate_right(1);
                std::mem::replace(&mut set.bodies[0], body)
            };
            drop(replaced);
        }
        Ok(payload)
    }
}

impl Default for NormalizedBodies {
    fn default() -> Self {
        Self {
            sets: Mutex::new((0..SETS).map(|_| Set::default()).collect()),
            hasher: RandomState::default(),
        }
    }
}

impl NormalizedBody {
    fn new(
        hash: u64,
        endpoint: &'static Endpoint,
        raw: &Bytes,
        tenant: &Tenant,
        payload: &Payload,
    ) -> Self {
        // The received one is part of a larger buffer.
        let raw = Bytes::copy_from_slice(raw);
        let content = Content {
            endpoint,
            tenant: tenant.clone(),
            payload: payload.compacted(&raw),
            raw,
        };
        Self {
            hash,
            content: Box::new(content),
        }
    }

    fn is_of(&self, endpoint: &Endpoint, raw: &Bytes, tenant: &Tenant) -> bool {
        let content = &self.content;
        content.raw == *raw
            && std::ptr::eq(content.endpoint, endpoint)
            && content.tenant.reads_like(tenant)
    }
}

const SETS: usize = 1024;

const WAYS: usize = 4;

/// A request for a recording has about 350 bytes.
const MAX_BODY: usize = 1024;

#[cfg(test)]
mod tests;
