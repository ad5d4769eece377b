//! The HTTP server from its clients' side, on loopback.
#![cfg(test)]

mod attack;
mod limits;
mod requests;
mod support;
mod web;
