-- Tells this database from others: the object store says which one it belongs to. A copy, and so a restored backup, has the same value.
CREATE TABLE identity (
    value TEXT NOT NULL
) STRICT;

INSERT INTO identity (value) VALUES (lower(hex(randomblob(16))));

-- Document versions of a collection whose files were freed: a Roaring bitmap in its portable serialization. Their rows stay.
CREATE TABLE freed_versions (
    collection INTEGER PRIMARY KEY REFERENCES collections (id),
    members BLOB NOT NULL
) STRICT;

-- gone: 1 once nothing lies in the pack any more and its object was freed. The row stays, for who has read its number a moment before.
ALTER TABLE packs ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;
