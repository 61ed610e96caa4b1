-- 1: searches do not find closed texts of the collection at all for who may not read them; 0: by single whole words.
ALTER TABLE collections ADD COLUMN hide_closed_text BIGINT NOT NULL DEFAULT 0;
