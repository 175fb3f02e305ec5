-- The schema of crest. Rules: every table names its tenant; ids are TEXT; wall-clock instants are
-- milliseconds since the epoch, media times nanoseconds (`_ns`); structured values are JSON text.

CREATE TABLE organizations (
    organization_id TEXT PRIMARY KEY,
    name            TEXT NOT NULL,
    operator        BOOLEAN NOT NULL,
    created_at      BIGINT NOT NULL
);
-- There is one operator at most.
CREATE UNIQUE INDEX organizations_operator ON organizations (operator) WHERE operator;

CREATE TABLE api_keys (
    key_sha256      TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations,
    created_at      BIGINT NOT NULL
);
CREATE INDEX api_keys_organization ON api_keys (organization_id);

CREATE TABLE streams (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations,
    name            TEXT NOT NULL,
    source          TEXT NOT NULL,
    source_url      TEXT,
    stream_key      TEXT NOT NULL UNIQUE,
    state           TEXT NOT NULL,
    state_reason    TEXT,
    session         BIGINT,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL
);
CREATE INDEX streams_page ON streams (organization_id, created_at, id);
CREATE INDEX streams_state ON streams (state);

CREATE TABLE stream_history (
    stream_id       TEXT NOT NULL REFERENCES streams,
    step            BIGINT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations,
    from_state      TEXT NOT NULL,
    to_state        TEXT NOT NULL,
    reason          TEXT,
    at              BIGINT NOT NULL,
    PRIMARY KEY (stream_id, step)
);

CREATE TABLE sessions (
    stream_id       TEXT NOT NULL REFERENCES streams,
    session         BIGINT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations,
    started_at      BIGINT NOT NULL,
    ended_at_ns     BIGINT,
    PRIMARY KEY (stream_id, session)
);

-- A segment file: the sum of its fragments, kept with them so that retention reads no fragment.
CREATE TABLE segments (
    object          TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations,
    stream_id       TEXT NOT NULL,
    session         BIGINT NOT NULL,
    bytes           BIGINT NOT NULL,
    start_ns        BIGINT NOT NULL,
    end_ns          BIGINT NOT NULL,
    ended_at        BIGINT NOT NULL,
    FOREIGN KEY (stream_id, session) REFERENCES sessions
);
CREATE INDEX segments_age ON segments (ended_at, object);
CREATE INDEX segments_span ON segments (stream_id, session, end_ns);

CREATE TABLE fragments (
    object          TEXT NOT NULL REFERENCES segments,
    byte_offset     BIGINT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations,
    stream_id       TEXT NOT NULL,
    session         BIGINT NOT NULL,
    header_bytes    BIGINT NOT NULL,
    bytes           BIGINT NOT NULL,
    start_ns        BIGINT NOT NULL,
    end_ns          BIGINT NOT NULL,
    keyframe        BOOLEAN NOT NULL,
    PRIMARY KEY (object, byte_offset),
    FOREIGN KEY (stream_id, session) REFERENCES sessions
);
CREATE INDEX fragments_start ON fragments (stream_id, session, start_ns);
CREATE INDEX fragments_end ON fragments (stream_id, session, end_ns);

CREATE TABLE highlights (
    id                    TEXT PRIMARY KEY,
    organization_id       TEXT NOT NULL REFERENCES organizations,
    stream_id             TEXT NOT NULL,
    session               BIGINT NOT NULL,
    state                 TEXT NOT NULL,
    revision              BIGINT NOT NULL,
    start_ns              BIGINT NOT NULL,
    end_ns                BIGINT NOT NULL,
    peak_ns               BIGINT NOT NULL,
    score                 DOUBLE PRECISION NOT NULL,
    kind                  TEXT NOT NULL,
    dimensions            TEXT NOT NULL,
    factors               TEXT NOT NULL,
    dimension_set_version BIGINT NOT NULL,
    reason                TEXT,
    clip                  TEXT,
    thumbnail             TEXT,
    clip_start_ns         BIGINT,
    clip_duration_ns      BIGINT,
    detected_at           BIGINT NOT NULL,
    FOREIGN KEY (stream_id, session) REFERENCES sessions
);
CREATE INDEX highlights_page ON highlights (organization_id, detected_at, id);
CREATE INDEX highlights_of_stream ON highlights (organization_id, stream_id, detected_at, id);
-- What retention asks: which moments still wait for their clip.
CREATE INDEX highlights_uncut ON highlights (stream_id, session) WHERE state IN ('provisional', 'final');

CREATE TABLE fusion_snapshots (
    stream_id       TEXT PRIMARY KEY REFERENCES streams,
    organization_id TEXT NOT NULL REFERENCES organizations,
    position        BIGINT NOT NULL,
    version         BIGINT NOT NULL,
    state           BLOB NOT NULL
);

-- How far the signals log, which all tenants share, needs no reading again: one row, tenant '*'.
CREATE TABLE fusion_position (
    organization_id TEXT PRIMARY KEY,
    position        BIGINT NOT NULL
);

CREATE TABLE jobs (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations,
    kind            TEXT NOT NULL,
    subject         TEXT NOT NULL,
    state           TEXT NOT NULL,
    attempt         BIGINT NOT NULL,
    due_at          BIGINT NOT NULL,
    leased_until    BIGINT,
    reason          TEXT,
    created_at      BIGINT NOT NULL
);
CREATE INDEX jobs_due ON jobs (kind, due_at, id) WHERE state IN ('queued', 'running');

CREATE TABLE events (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations,
    event_type      TEXT NOT NULL,
    subject         TEXT NOT NULL,
    revision        BIGINT NOT NULL,
    happened_at     BIGINT NOT NULL,
    stream_id       TEXT,
    session         BIGINT,
    score           DOUBLE PRECISION,
    data            TEXT NOT NULL
);
CREATE INDEX events_of_organization ON events (organization_id, happened_at, id);
CREATE INDEX events_of_subject ON events (organization_id, subject);

CREATE TABLE endpoints (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations,
    url             TEXT NOT NULL,
    events          TEXT NOT NULL,
    min_score       DOUBLE PRECISION,
    secret          TEXT NOT NULL,
    last_sequence   BIGINT NOT NULL,
    created_at      BIGINT NOT NULL
);
CREATE INDEX endpoints_page ON endpoints (organization_id, created_at, id);

CREATE TABLE deliveries (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations,
    event_id        TEXT NOT NULL REFERENCES events,
    event_type      TEXT NOT NULL,
    endpoint_id     TEXT NOT NULL REFERENCES endpoints,
    sequence        BIGINT NOT NULL,
    body            TEXT NOT NULL,
    state           TEXT NOT NULL,
    attempts        BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    leased_until    BIGINT,
    last_outcome    TEXT,
    created_at      BIGINT NOT NULL,
    UNIQUE (endpoint_id, sequence)
);
-- The outbox proper: what is still to be sent, in each endpoint's order.
CREATE INDEX deliveries_pending ON deliveries (endpoint_id, sequence) WHERE state = 'pending';
