-- Saved queries: after an import, those of their hits that are new become a docset.
-- corpus_version: up to which one the watch has looked. webhook: who is told, by messages that `secret` signs.
-- gone: when the receiver said that it wants no more (410).
CREATE TABLE watches (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner BIGINT NOT NULL REFERENCES api_keys (id),
    collection BIGINT NOT NULL REFERENCES collections (id),
    name TEXT,
    query TEXT NOT NULL,
    webhook TEXT,
    secret BYTEA,
    corpus_version BIGINT NOT NULL,
    created BIGINT NOT NULL,
    gone BIGINT
);

CREATE INDEX watches_by_owner ON watches (owner, id);
CREATE INDEX watches_by_collection ON watches (collection, corpus_version);

-- What watches have found. message: its name towards the receiver, the same at each attempt. docset is no foreign key: its owner may delete it.
-- next_attempt: not before then; of pending ones only.
CREATE TABLE notices (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    watch BIGINT NOT NULL REFERENCES watches (id) ON DELETE CASCADE,
    message TEXT COLLATE "C" NOT NULL UNIQUE,
    corpus_version BIGINT NOT NULL,
    docset BIGINT NOT NULL,
    documents BIGINT NOT NULL,
    created BIGINT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    next_attempt BIGINT,
    delivered BIGINT,
    status BIGINT,
    problem TEXT,
    UNIQUE (watch, corpus_version)
);

CREATE INDEX notices_pending ON notices (next_attempt) WHERE state = 'pending';
