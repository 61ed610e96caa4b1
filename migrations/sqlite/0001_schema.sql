-- Instants are milliseconds since 1970-01-01T00:00:00Z, digests are 32 raw bytes.
-- AUTOINCREMENT where an id is seen outside (URLs, queue names): without it SQLite gives the id of a deleted last row out again.

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The last document-version id given out.
INSERT INTO counters (name, value) VALUES ('document_version', 0);

CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    quota INTEGER,
    hash BLOB NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    revoked INTEGER
) STRICT;

CREATE TABLE key_usage (
    api_key INTEGER NOT NULL REFERENCES api_keys (id),
    day INTEGER NOT NULL,
    documents INTEGER NOT NULL,
    PRIMARY KEY (api_key, day)
) STRICT, WITHOUT ROWID;

-- formats: JSON, the sums over the current documents, so that a collection is read as one row.
-- import, import_until: the import that holds the lease, and until when.
-- last_import: the import that was committed last.
CREATE TABLE collections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    license TEXT,
    corpus_version INTEGER NOT NULL DEFAULT 0,
    documents INTEGER NOT NULL DEFAULT 0,
    formats TEXT NOT NULL DEFAULT '[]',
    updated INTEGER NOT NULL,
    import TEXT,
    import_until INTEGER,
    last_import TEXT
) STRICT;

-- A version is visible from corpus version `added` until before `superseded`. Rows whose `added` is above the collection's
-- corpus_version belong to the running import, or to one that died. As in PostgreSQL, no NUL is in a ref or name: to length()
-- the text would end there.
CREATE TABLE documents (
    id INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL REFERENCES collections (id),
    ref TEXT NOT NULL CHECK (instr(ref, char(0)) = 0),
    version INTEGER NOT NULL,
    name TEXT NOT NULL CHECK (instr(name, char(0)) = 0),
    folded_name TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    replaces INTEGER,
    added INTEGER NOT NULL,
    superseded INTEGER,
    metadata TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX documents_by_ref ON documents (collection, ref, added);
CREATE UNIQUE INDEX documents_by_folded_name ON documents (collection, folded_name, added);
CREATE INDEX documents_by_added ON documents (collection, added);

-- Long texts that many files share are kept once.
CREATE TABLE media_types (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- name: the pack's key in the object store. added: the corpus version whose import wrote it.
CREATE TABLE packs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    collection INTEGER NOT NULL REFERENCES collections (id),
    added INTEGER NOT NULL
) STRICT;

CREATE INDEX packs_by_added ON packs (collection, added);

-- pack and media_type are not foreign keys: checking them would cost an index on every file for the sake of rows that only
-- go together with their files.
CREATE TABLE files (
    document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    format TEXT NOT NULL,
    media_type INTEGER NOT NULL,
    size INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    crc32 INTEGER NOT NULL,
    encoding TEXT NOT NULL,
    pack INTEGER NOT NULL,
    pack_offset INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    PRIMARY KEY (document, format)
) STRICT, WITHOUT ROWID;

-- members: a Roaring bitmap in its portable serialization. It stands last, so that reading the rest of a row does not touch it.
CREATE TABLE docsets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL REFERENCES api_keys (id),
    collection INTEGER NOT NULL REFERENCES collections (id),
    name TEXT,
    query TEXT,
    size INTEGER NOT NULL,
    formats TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    corpus_version INTEGER NOT NULL,
    created INTEGER NOT NULL,
    members BLOB NOT NULL
) STRICT;

CREATE INDEX docsets_by_owner ON docsets (owner, id);

-- docset is checked at the end of the transaction, so that a docset can be deleted first, which keeps new packages off, and its packages after it.
CREATE TABLE packages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL REFERENCES api_keys (id),
    docset INTEGER NOT NULL REFERENCES docsets (id) DEFERRABLE INITIALLY DEFERRED,
    formats TEXT NOT NULL,
    layout TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    status TEXT NOT NULL DEFAULT 'accepted',
    content TEXT NOT NULL DEFAULT 'none',
    sequence INTEGER NOT NULL DEFAULT -1,
    requested INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    included INTEGER,
    omitted INTEGER,
    bytes_done INTEGER NOT NULL DEFAULT 0,
    bytes_total INTEGER,
    percent INTEGER NOT NULL DEFAULT 0,
    estimate_seconds INTEGER,
    location TEXT,
    size INTEGER,
    sha256 BLOB,
    problem TEXT,
    created INTEGER NOT NULL,
    started INTEGER,
    finished INTEGER,
    expires INTEGER,
    sent INTEGER,
    sends INTEGER NOT NULL DEFAULT 0,
    heard INTEGER
) STRICT;

CREATE INDEX packages_by_docset ON packages (docset, id);
CREATE INDEX packages_by_fingerprint ON packages (owner, fingerprint, id);
CREATE INDEX packages_unfinished ON packages (id) WHERE status IN ('accepted', 'running');
CREATE INDEX packages_by_expiry ON packages (expires) WHERE content = 'available';
