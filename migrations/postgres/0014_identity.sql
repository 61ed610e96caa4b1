-- Tells this database from others: the object store says which one it belongs to. A copy, and so a restored backup, has the same value.
CREATE TABLE identity (
    value TEXT NOT NULL
);

INSERT INTO identity (value) VALUES (replace(CAST(gen_random_uuid() AS TEXT), '-', ''));

-- Document versions of a collection whose files were freed: a Roaring bitmap in its portable serialization. Their rows stay.
CREATE TABLE freed_versions (
    collection BIGINT PRIMARY KEY REFERENCES collections (id),
    members BYTEA NOT NULL
);

-- gone: 1 once nothing lies in the pack any more and its object was freed. The row stays, for who has read its number a moment before.
ALTER TABLE packs ADD COLUMN gone BIGINT NOT NULL DEFAULT 0;
