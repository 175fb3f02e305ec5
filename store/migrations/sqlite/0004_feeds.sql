-- Feeds by other protocols than RTMP, chats that are followed, and feeds that are relayed: `chat` and `forward`
-- are JSON.
ALTER TABLE streams ADD COLUMN chat TEXT;
ALTER TABLE streams ADD COLUMN forward TEXT;
ALTER TABLE instances ADD COLUMN srt_url TEXT;
ALTER TABLE instances ADD COLUMN whip_url TEXT;
