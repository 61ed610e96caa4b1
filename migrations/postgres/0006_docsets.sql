-- What docsets are measured by, of many documents in one row: `count` documents with ids from `first` on, without a gap. The layout of data
-- is said in shared/src/store/summaries.rs. Documents that were imported before this have none.
CREATE TABLE summaries (
    first BIGINT PRIMARY KEY,
    count BIGINT NOT NULL,
    collection BIGINT NOT NULL REFERENCES collections (id),
    added BIGINT NOT NULL,
    data BYTEA NOT NULL
);

-- Digests do not shrink.
ALTER TABLE summaries ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE INDEX summaries_by_added ON summaries (collection, added);

-- SQLite's json_each(), as far as it is used of arrays of texts.
CREATE FUNCTION json_each(list TEXT) RETURNS TABLE (key BIGINT, value TEXT)
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT n - 1, v FROM json_array_elements_text(list::json) WITH ORDINALITY AS entries (v, n) $$;

-- origin: JSON, how the docset was made.
ALTER TABLE docsets RENAME COLUMN query TO origin;
UPDATE docsets SET origin =
    CASE WHEN origin IS NULL THEN json_build_object('refs', size) ELSE json_build_object('query', origin) END::text;

CREATE INDEX docsets_by_fingerprint ON docsets (owner, fingerprint);

-- A link that opens a docset to others until it expires; what is revoked is deleted.
CREATE TABLE shares (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    docset BIGINT NOT NULL REFERENCES docsets (id) ON DELETE CASCADE,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL
);

CREATE INDEX shares_by_docset ON shares (docset, id);

-- Keys that have followed a link.
CREATE TABLE share_guests (
    share BIGINT NOT NULL REFERENCES shares (id) ON DELETE CASCADE,
    api_key BIGINT NOT NULL REFERENCES api_keys (id),
    PRIMARY KEY (share, api_key)
);
