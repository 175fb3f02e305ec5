-- How the servers are doing that a stream is relayed to, as whoever feeds it noted it last: JSON.
ALTER TABLE streams ADD COLUMN forwarded TEXT;
