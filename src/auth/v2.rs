//! The auth-v2 dialect: the Authorization value, key derivation, the signature.
