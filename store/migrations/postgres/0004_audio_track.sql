-- Which audio track of a feed is analysed and clipped, counted from 0; NULL where none was chosen.
ALTER TABLE streams ADD COLUMN audio_track BIGINT;
