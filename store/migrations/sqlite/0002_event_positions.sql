-- Events in the order in which they were committed, per tenant and without a gap: what the event
-- stream of the API reads, and where a reader goes on. And what pruning asks.

ALTER TABLE organizations ADD COLUMN last_position BIGINT NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN position BIGINT NOT NULL DEFAULT 0;

-- Rows were only ever added, so their internal number is the order of their commits.
UPDATE events SET position = numbered.position FROM (
    SELECT id, ROW_NUMBER() OVER (PARTITION BY organization_id ORDER BY rowid) AS position FROM events
) AS numbered WHERE numbered.id = events.id;
UPDATE organizations SET last_position = COALESCE(
    (SELECT MAX(position) FROM events WHERE events.organization_id = organizations.organization_id), 0);

CREATE UNIQUE INDEX events_position ON events (organization_id, position);
-- Nothing asked for it; the order of commits takes its place.
DROP INDEX events_of_organization;

-- What is old enough to go. Without the index on its events, each event that goes would read every
-- delivery.
CREATE INDEX events_age ON events (happened_at);
CREATE INDEX deliveries_of_event ON deliveries (event_id);
CREATE INDEX deliveries_over ON deliveries (created_at) WHERE state IN ('delivered', 'failed');
CREATE INDEX jobs_over ON jobs (created_at) WHERE state IN ('done', 'failed', 'cancelled');
CREATE INDEX stream_history_age ON stream_history (at);
