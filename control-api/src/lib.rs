//! Tenants steer crest: the HTTP API.
