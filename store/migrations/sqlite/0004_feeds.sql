-- Feeds by other protocols than RTMP, chats that are followed, and feeds that are relayed: `chat` and `forward`
-- are JSON.
ALTER TABLE streams ADD COLUMN chat TEXT;
ALTER TABLE streams ADD COLUMN forward TEXT;
ALTER TABLE instances ADD COLUMN rtmps_url TEXT;
ALTER TABLE instances ADD COLUMN srt_url TEXT;
ALTER TABLE instances ADD COLUMN whip_url TEXT;

-- Publishers are looked up by the SHA-256 of their key, in hexadecimal. Rows from before get theirs when a key is
-- looked up for the first time: SQLite has no such function.
ALTER TABLE streams ADD COLUMN stream_key_sha256 TEXT;
CREATE UNIQUE INDEX streams_key ON streams (stream_key_sha256);
CREATE INDEX streams_key_missing ON streams (id) WHERE stream_key_sha256 IS NULL;
