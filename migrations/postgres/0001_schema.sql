-- Instants are milliseconds since 1970-01-01T00:00:00Z, digests are 32 raw bytes.
-- Text that is sorted or looked up has the collation "C", so that its order is that of code points whatever the cluster's locale.

-- SQLite has hex(); with it here too, both databases take the same statements.
CREATE FUNCTION hex(bytes BYTEA) RETURNS TEXT
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT encode(bytes, 'hex') $$;

CREATE TABLE counters (
    name TEXT COLLATE "C" PRIMARY KEY,
    value BIGINT NOT NULL
);

-- The last document-version id given out.
INSERT INTO counters (name, value) VALUES ('document_version', 0);

CREATE TABLE api_keys (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    quota BIGINT,
    hash BYTEA NOT NULL UNIQUE,
    created BIGINT NOT NULL,
    revoked BIGINT
);

CREATE TABLE key_usage (
    api_key BIGINT NOT NULL REFERENCES api_keys (id),
    day BIGINT NOT NULL,
    documents BIGINT NOT NULL,
    PRIMARY KEY (api_key, day)
);

-- formats: JSON, the sums over the current documents, so that a collection is read as one row.
-- import, import_until: the import that holds the lease, and until when.
-- last_import: the import that was committed last.
CREATE TABLE collections (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug TEXT COLLATE "C" NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    license TEXT,
    corpus_version BIGINT NOT NULL DEFAULT 0,
    documents BIGINT NOT NULL DEFAULT 0,
    formats TEXT NOT NULL DEFAULT '[]',
    updated BIGINT NOT NULL,
    import TEXT,
    import_until BIGINT,
    last_import TEXT
);

-- A version is visible from corpus version `added` until before `superseded`. Rows whose `added` is above the collection's
-- corpus_version belong to the running import, or to one that died.
CREATE TABLE documents (
    id BIGINT PRIMARY KEY,
    collection BIGINT NOT NULL REFERENCES collections (id),
    ref TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    name TEXT NOT NULL,
    folded_name TEXT COLLATE "C" NOT NULL,
    content_hash BYTEA NOT NULL,
    replaces BIGINT,
    added BIGINT NOT NULL,
    superseded BIGINT,
    metadata TEXT NOT NULL
);

CREATE UNIQUE INDEX documents_by_ref ON documents (collection, ref, added);
CREATE UNIQUE INDEX documents_by_folded_name ON documents (collection, folded_name, added);
CREATE INDEX documents_by_added ON documents (collection, added);

-- Long texts that many files share are kept once.
CREATE TABLE media_types (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE
);

-- name: the pack's key in the object store. added: the corpus version whose import wrote it.
CREATE TABLE packs (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    collection BIGINT NOT NULL REFERENCES collections (id),
    added BIGINT NOT NULL
);

CREATE INDEX packs_by_added ON packs (collection, added);

-- pack and media_type are not foreign keys: checking them would cost an index on every file for the sake of rows that only
-- go together with their files.
CREATE TABLE files (
    document BIGINT NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    format TEXT COLLATE "C" NOT NULL,
    media_type BIGINT NOT NULL,
    size BIGINT NOT NULL,
    sha256 BYTEA NOT NULL,
    crc32 BIGINT NOT NULL,
    encoding TEXT NOT NULL,
    pack BIGINT NOT NULL,
    pack_offset BIGINT NOT NULL,
    stored BIGINT NOT NULL,
    PRIMARY KEY (document, format)
);

-- members: a Roaring bitmap in its portable serialization.
CREATE TABLE docsets (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner BIGINT NOT NULL REFERENCES api_keys (id),
    collection BIGINT NOT NULL REFERENCES collections (id),
    name TEXT,
    query TEXT,
    size BIGINT NOT NULL,
    formats TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    corpus_version BIGINT NOT NULL,
    created BIGINT NOT NULL,
    members BYTEA NOT NULL
);

CREATE INDEX docsets_by_owner ON docsets (owner, id);

-- docset is checked at the end of the transaction, so that a docset can be deleted first, which keeps new packages off, and its packages after it.
CREATE TABLE packages (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner BIGINT NOT NULL REFERENCES api_keys (id),
    docset BIGINT NOT NULL REFERENCES docsets (id) DEFERRABLE INITIALLY DEFERRED,
    formats TEXT NOT NULL,
    layout TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    status TEXT NOT NULL DEFAULT 'accepted',
    content TEXT NOT NULL DEFAULT 'none',
    sequence BIGINT NOT NULL DEFAULT -1,
    requested BIGINT NOT NULL,
    done BIGINT NOT NULL DEFAULT 0,
    included BIGINT,
    omitted BIGINT,
    bytes_done BIGINT NOT NULL DEFAULT 0,
    bytes_total BIGINT,
    percent BIGINT NOT NULL DEFAULT 0,
    estimate_seconds BIGINT,
    location TEXT,
    size BIGINT,
    sha256 BYTEA,
    problem TEXT,
    created BIGINT NOT NULL,
    started BIGINT,
    finished BIGINT,
    expires BIGINT,
    sent BIGINT,
    sends BIGINT NOT NULL DEFAULT 0,
    heard BIGINT
);

CREATE INDEX packages_by_docset ON packages (docset, id);
CREATE INDEX packages_by_fingerprint ON packages (owner, fingerprint, id);
CREATE INDEX packages_unfinished ON packages (id) WHERE status IN ('accepted', 'running');
CREATE INDEX packages_by_expiry ON packages (expires) WHERE content = 'available';
