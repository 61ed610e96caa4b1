-- 1: searches do not find closed texts of the collection at all for who may not read them; 0: by single whole words.
ALTER TABLE collections ADD COLUMN hide_closed_text INTEGER NOT NULL DEFAULT 0;

-- Document versions whose text was charged to a key on a day (which begins at `day`, in milliseconds since the epoch): what searches show of it
-- costs nothing more that day. Rows of past days go with the first charge of the next.
CREATE TABLE text_charges (
    api_key INTEGER NOT NULL REFERENCES api_keys (id),
    day INTEGER NOT NULL,
    document INTEGER NOT NULL,
    PRIMARY KEY (api_key, day, document)
) STRICT, WITHOUT ROWID;
