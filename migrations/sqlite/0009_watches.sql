-- Saved queries: after an import, those of their hits that are new become a docset.
-- corpus_version: up to which one the watch has looked. webhook: who is told, by messages that `secret` signs.
-- gone: when the receiver said that it wants no more (410).
CREATE TABLE watches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL REFERENCES api_keys (id),
    collection INTEGER NOT NULL REFERENCES collections (id),
    name TEXT,
    query TEXT NOT NULL,
    webhook TEXT,
    secret BLOB,
    corpus_version INTEGER NOT NULL,
    created INTEGER NOT NULL,
    gone INTEGER
) STRICT;

CREATE INDEX watches_by_owner ON watches (owner, id);
CREATE INDEX watches_by_collection ON watches (collection, corpus_version);

-- What watches have found. message: its name towards the receiver, the same at each attempt. docset is no foreign key: its owner may delete it.
-- next_attempt: not before then; of pending ones only.
CREATE TABLE notices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    watch INTEGER NOT NULL REFERENCES watches (id) ON DELETE CASCADE,
    message TEXT NOT NULL UNIQUE,
    corpus_version INTEGER NOT NULL,
    docset INTEGER NOT NULL,
    documents INTEGER NOT NULL,
    created INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt INTEGER,
    delivered INTEGER,
    status INTEGER,
    problem TEXT,
    UNIQUE (watch, corpus_version)
) STRICT;

CREATE INDEX notices_pending ON notices (next_attempt) WHERE state = 'pending';
