-- What docsets are measured by, of many documents in one row: `count` documents with ids from `first` on, without a gap. The layout of data
-- is said in shared/src/store/summaries.rs. Documents that were imported before this have none.
CREATE TABLE summaries (
    first INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    collection INTEGER NOT NULL REFERENCES collections (id),
    added INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;

CREATE INDEX summaries_by_added ON summaries (collection, added);
-- Which rows there are is read without their data.
CREATE INDEX summaries_spans ON summaries (first, count);

-- origin: JSON, how the docset was made.
ALTER TABLE docsets RENAME COLUMN query TO origin;
UPDATE docsets SET origin =
    CASE WHEN origin IS NULL THEN json_object('refs', size) ELSE json_object('query', origin) END;

CREATE INDEX docsets_by_fingerprint ON docsets (owner, fingerprint);

-- A link that opens a docset to others until it expires; what is revoked is deleted. AUTOINCREMENT: a link names its number, which must not come again.
CREATE TABLE shares (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    docset INTEGER NOT NULL REFERENCES docsets (id) ON DELETE CASCADE,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;

CREATE INDEX shares_by_docset ON shares (docset, id);

-- Keys that have followed a link.
CREATE TABLE share_guests (
    share INTEGER NOT NULL REFERENCES shares (id) ON DELETE CASCADE,
    api_key INTEGER NOT NULL REFERENCES api_keys (id),
    PRIMARY KEY (share, api_key)
) STRICT, WITHOUT ROWID;
