-- The signals log has partitions, and whoever decides what follows from one claims it: a later claim makes
-- an earlier one void. What was one log is partition 0. And who feeds a stream, which processes there are,
-- and what records follow from.

-- One row per partition, tenant '*', for all tenants share it. `position` is the offset up to and with
-- which it needs no reading again.
CREATE TABLE fusion_partitions (
    partition_number BIGINT PRIMARY KEY,
    organization_id  TEXT NOT NULL,
    epoch            BIGINT NOT NULL,
    instance         TEXT,
    claimed_at       BIGINT,
    position         BIGINT
);
INSERT INTO fusion_partitions (partition_number, organization_id, epoch, position)
    SELECT 0, organization_id, 0, position FROM fusion_position;
DROP TABLE fusion_position;

ALTER TABLE fusion_snapshots ADD COLUMN partition_number BIGINT NOT NULL DEFAULT 0;
CREATE INDEX fusion_snapshots_of_partition ON fusion_snapshots (partition_number, stream_id);

-- Processes that share the database, tenant '*'.
CREATE TABLE instances (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    roles           TEXT NOT NULL,
    rtmp_url        TEXT,
    seen_at         BIGINT NOT NULL
);
ALTER TABLE streams ADD COLUMN instance TEXT;
CREATE INDEX streams_of_instance ON streams (instance) WHERE state NOT IN ('ended', 'failed');

-- `traceparent` of W3C Trace Context.
ALTER TABLE events ADD COLUMN trace TEXT;
ALTER TABLE deliveries ADD COLUMN trace TEXT;
ALTER TABLE jobs ADD COLUMN trace TEXT;

-- What is next of each endpoint, however long its queue: what was refused, and what is under way.
CREATE INDEX deliveries_refused ON deliveries (endpoint_id, attempts) WHERE state = 'pending';
CREATE INDEX deliveries_busy ON deliveries (endpoint_id) WHERE state = 'pending' AND leased_until IS NOT NULL;
CREATE INDEX deliveries_leased ON deliveries (organization_id) WHERE state = 'pending' AND leased_until IS NOT NULL;
