-- The schema of crest on PostgreSQL. Rules: every table names its tenant, and what refers to something of a
-- tenant refers to it together with the tenant, so that nothing can belong to two; ids are TEXT, compared byte
-- by byte; wall-clock instants are milliseconds since the epoch, media times nanoseconds (`_ns`); structured
-- values are JSON text.
--
-- A later migration that changes rows begins with
--     SELECT set_config('crest.organization_id', '*', true);
-- for the policies below bind the tables' owner too.

CREATE TABLE organizations (
    organization_id TEXT COLLATE "C" PRIMARY KEY CHECK (organization_id NOT IN ('', '*')),
    name            TEXT NOT NULL,
    operator        BOOLEAN NOT NULL,
    created_at      BIGINT NOT NULL,
    last_position   BIGINT NOT NULL DEFAULT 0
);
-- There is one operator at most.
CREATE UNIQUE INDEX organizations_operator ON organizations (operator) WHERE operator;

CREATE TABLE api_keys (
    key_sha256      TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations,
    created_at      BIGINT NOT NULL
);
CREATE INDEX api_keys_organization ON api_keys (organization_id);

CREATE TABLE streams (
    id              TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations,
    name            TEXT NOT NULL,
    source          TEXT NOT NULL,
    source_url      TEXT,
    stream_key      TEXT COLLATE "C" NOT NULL UNIQUE,
    state           TEXT NOT NULL,
    state_reason    TEXT,
    session         BIGINT,
    instance        TEXT COLLATE "C",
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    UNIQUE (organization_id, id)
);
CREATE INDEX streams_page ON streams (organization_id, created_at, id);
CREATE INDEX streams_state ON streams (state);
CREATE INDEX streams_of_instance ON streams (instance) WHERE state NOT IN ('ended', 'failed');

CREATE TABLE stream_history (
    stream_id       TEXT COLLATE "C" NOT NULL,
    step            BIGINT NOT NULL,
    organization_id TEXT COLLATE "C" NOT NULL,
    from_state      TEXT NOT NULL,
    to_state        TEXT NOT NULL,
    reason          TEXT,
    at              BIGINT NOT NULL,
    PRIMARY KEY (stream_id, step),
    FOREIGN KEY (organization_id, stream_id) REFERENCES streams (organization_id, id)
);
CREATE INDEX stream_history_age ON stream_history (at);

CREATE TABLE sessions (
    stream_id       TEXT COLLATE "C" NOT NULL,
    session         BIGINT NOT NULL,
    organization_id TEXT COLLATE "C" NOT NULL,
    started_at      BIGINT NOT NULL,
    ended_at_ns     BIGINT,
    PRIMARY KEY (stream_id, session),
    UNIQUE (organization_id, stream_id, session),
    FOREIGN KEY (organization_id, stream_id) REFERENCES streams (organization_id, id)
);

-- A segment file: the sum of its fragments, kept with them so that retention reads no fragment.
CREATE TABLE segments (
    object          TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL,
    stream_id       TEXT COLLATE "C" NOT NULL,
    session         BIGINT NOT NULL,
    bytes           BIGINT NOT NULL,
    start_ns        BIGINT NOT NULL,
    end_ns          BIGINT NOT NULL,
    ended_at        BIGINT NOT NULL,
    UNIQUE (organization_id, object),
    FOREIGN KEY (organization_id, stream_id, session) REFERENCES sessions (organization_id, stream_id, session)
);
CREATE INDEX segments_age ON segments (ended_at, object);
CREATE INDEX segments_span ON segments (stream_id, session, end_ns);

CREATE TABLE fragments (
    object          TEXT COLLATE "C" NOT NULL,
    byte_offset     BIGINT NOT NULL,
    organization_id TEXT COLLATE "C" NOT NULL,
    stream_id       TEXT COLLATE "C" NOT NULL,
    session         BIGINT NOT NULL,
    header_bytes    BIGINT NOT NULL,
    bytes           BIGINT NOT NULL,
    start_ns        BIGINT NOT NULL,
    end_ns          BIGINT NOT NULL,
    keyframe        BOOLEAN NOT NULL,
    PRIMARY KEY (object, byte_offset),
    FOREIGN KEY (organization_id, object) REFERENCES segments (organization_id, object),
    FOREIGN KEY (organization_id, stream_id, session) REFERENCES sessions (organization_id, stream_id, session)
);
CREATE INDEX fragments_start ON fragments (stream_id, session, start_ns);
CREATE INDEX fragments_end ON fragments (stream_id, session, end_ns);

CREATE TABLE highlights (
    id                    TEXT COLLATE "C" PRIMARY KEY,
    organization_id       TEXT COLLATE "C" NOT NULL,
    stream_id             TEXT COLLATE "C" NOT NULL,
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
    FOREIGN KEY (organization_id, stream_id, session) REFERENCES sessions (organization_id, stream_id, session)
);
CREATE INDEX highlights_page ON highlights (organization_id, detected_at, id);
CREATE INDEX highlights_of_stream ON highlights (organization_id, stream_id, detected_at, id);
-- What retention asks: which moments still wait for their clip.
CREATE INDEX highlights_uncut ON highlights (stream_id, session) WHERE state IN ('provisional', 'final');

-- Who may commit what follows from a partition of the signals log, which all tenants share: tenant '*'.
-- `position` is the offset up to and with which it needs no reading again.
CREATE TABLE fusion_partitions (
    partition_number BIGINT PRIMARY KEY,
    organization_id  TEXT COLLATE "C" NOT NULL,
    epoch            BIGINT NOT NULL,
    instance         TEXT,
    claimed_at       BIGINT,
    position         BIGINT
);

CREATE TABLE fusion_snapshots (
    stream_id        TEXT COLLATE "C" PRIMARY KEY,
    organization_id  TEXT COLLATE "C" NOT NULL,
    partition_number BIGINT NOT NULL,
    position         BIGINT NOT NULL,
    version          BIGINT NOT NULL,
    state            BYTEA NOT NULL,
    FOREIGN KEY (organization_id, stream_id) REFERENCES streams (organization_id, id)
);
CREATE INDEX fusion_snapshots_of_partition ON fusion_snapshots (partition_number, stream_id);

CREATE TABLE jobs (
    id              TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations,
    kind            TEXT NOT NULL,
    subject         TEXT COLLATE "C" NOT NULL,
    state           TEXT NOT NULL,
    attempt         BIGINT NOT NULL,
    due_at          BIGINT NOT NULL,
    leased_until    BIGINT,
    reason          TEXT,
    trace           TEXT,
    created_at      BIGINT NOT NULL
);
CREATE INDEX jobs_due ON jobs (kind, due_at, id) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_over ON jobs (created_at) WHERE state IN ('done', 'failed', 'cancelled');

-- Events count from 1 per tenant in the order of their commits, without a gap.
CREATE TABLE events (
    id              TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations,
    event_type      TEXT NOT NULL,
    subject         TEXT COLLATE "C" NOT NULL,
    revision        BIGINT NOT NULL,
    happened_at     BIGINT NOT NULL,
    stream_id       TEXT COLLATE "C",
    session         BIGINT,
    score           DOUBLE PRECISION,
    data            TEXT NOT NULL,
    trace           TEXT,
    position        BIGINT NOT NULL,
    UNIQUE (organization_id, id)
);
CREATE UNIQUE INDEX events_position ON events (organization_id, position);
CREATE INDEX events_of_subject ON events (organization_id, subject);
CREATE INDEX events_age ON events (happened_at);

CREATE TABLE endpoints (
    id              TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations,
    url             TEXT NOT NULL,
    events          TEXT NOT NULL,
    min_score       DOUBLE PRECISION,
    secret          TEXT NOT NULL,
    last_sequence   BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    UNIQUE (organization_id, id)
);
CREATE INDEX endpoints_page ON endpoints (organization_id, created_at, id);

CREATE TABLE deliveries (
    id              TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL,
    event_id        TEXT COLLATE "C" NOT NULL,
    event_type      TEXT NOT NULL,
    endpoint_id     TEXT COLLATE "C" NOT NULL,
    sequence        BIGINT NOT NULL,
    body            TEXT NOT NULL,
    state           TEXT NOT NULL,
    attempts        BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    leased_until    BIGINT,
    last_outcome    TEXT,
    trace           TEXT,
    created_at      BIGINT NOT NULL,
    UNIQUE (endpoint_id, sequence),
    FOREIGN KEY (organization_id, event_id) REFERENCES events (organization_id, id),
    FOREIGN KEY (organization_id, endpoint_id) REFERENCES endpoints (organization_id, id)
);
-- The outbox proper: what is still to be sent, in each endpoint's order.
CREATE INDEX deliveries_pending ON deliveries (endpoint_id, sequence) WHERE state = 'pending';
-- What was refused, and what is under way: of each endpoint, and how many of a tenant.
CREATE INDEX deliveries_refused ON deliveries (endpoint_id, attempts) WHERE state = 'pending';
CREATE INDEX deliveries_busy ON deliveries (endpoint_id) WHERE state = 'pending' AND leased_until IS NOT NULL;
CREATE INDEX deliveries_leased ON deliveries (organization_id) WHERE state = 'pending' AND leased_until IS NOT NULL;
-- Without it each event that goes would read every delivery.
CREATE INDEX deliveries_of_event ON deliveries (event_id);
CREATE INDEX deliveries_over ON deliveries (created_at) WHERE state IN ('delivered', 'failed');

-- Processes that share the database, tenant '*'.
CREATE TABLE instances (
    id              TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL,
    roles           TEXT NOT NULL,
    rtmp_url        TEXT,
    seen_at         BIGINT NOT NULL
);

-- A transaction says on whose behalf it runs: a tenant's id, or '*' for all of them. It sees and makes
-- nothing else; one that says nothing sees nothing. FORCE: the role that crest connects as owns the tables.
-- CASE: the planner makes no guess about it, where it would take the tenants' rows in an OR for very few and
-- read all of a tenant's to show a page.
DO $$
DECLARE
    tenants TEXT;
BEGIN
    FOR tenants IN
        SELECT t.relname FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid
        WHERE t.relkind = 'r' AND t.relnamespace = current_schema()::regnamespace AND c.attname = 'organization_id'
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', tenants);
        EXECUTE format(
            'CREATE POLICY tenants ON %I USING (CASE (SELECT current_setting(''crest.organization_id'', true))
                WHEN ''*'' THEN TRUE WHEN organization_id THEN TRUE ELSE FALSE END)', tenants);
    END LOOP;
END $$;
