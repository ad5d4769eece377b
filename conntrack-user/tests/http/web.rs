//! TLS and passwords.
