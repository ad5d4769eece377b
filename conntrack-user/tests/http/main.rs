//! The HTTP server from its clients' side, on loopback.

mod attack;
mod limits;
mod requests;
mod support;
mod web;
