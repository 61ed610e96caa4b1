-- Which import made which corpus version, and when. The import names the version's index in the object store; it is NULL for a version
-- that was made before this table.
CREATE TABLE corpus_versions (
    collection INTEGER NOT NULL REFERENCES collections (id),
    version INTEGER NOT NULL,
    import TEXT UNIQUE,
    made INTEGER NOT NULL,
    PRIMARY KEY (collection, version)
) STRICT;

INSERT INTO corpus_versions (collection, version, made)
    SELECT id, corpus_version, updated FROM collections WHERE corpus_version > 0;
