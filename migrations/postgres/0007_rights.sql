-- Who may have the files of documents: 'restricted:<entitlement>' or 'metadata'; NULL is open. It belongs to the work: all versions of a ref have
-- that of the newest. In collections it is what holds for documents that name none, and tdm what is said of text and data mining (JSON).
ALTER TABLE documents ADD COLUMN access TEXT COLLATE "C";
CREATE INDEX documents_by_access ON documents (collection, access, id) WHERE access IS NOT NULL;
ALTER TABLE collections ADD COLUMN access TEXT COLLATE "C";
ALTER TABLE collections ADD COLUMN tdm TEXT;

CREATE TABLE entitlements (
    api_key BIGINT NOT NULL REFERENCES api_keys (id),
    name TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (api_key, name)
);

-- Works that were withdrawn. undone: 1 once that was taken back, until the work is in the index again and the row goes.
-- corpus_version: the version whose import carries this out in the index; NULL: none yet.
CREATE TABLE withdrawals (
    collection BIGINT NOT NULL REFERENCES collections (id),
    ref TEXT COLLATE "C" NOT NULL,
    withdrawn BIGINT NOT NULL,
    reason TEXT NOT NULL,
    undone BIGINT NOT NULL DEFAULT 0,
    corpus_version BIGINT,
    PRIMARY KEY (collection, ref)
);

-- Members that a package leaves out, counted by reason.
ALTER TABLE packages ADD COLUMN withheld_rights BIGINT NOT NULL DEFAULT 0;
ALTER TABLE packages ADD COLUMN withheld_withdrawn BIGINT NOT NULL DEFAULT 0;

-- What of its docset a package has and has not for reasons of rights (JSON); there is a row only where there is something to say. It is not in
-- packages because it may be long, and is wanted only when the package is built.
CREATE TABLE clearances (
    package BIGINT PRIMARY KEY REFERENCES packages (id) ON DELETE CASCADE,
    members TEXT NOT NULL
);
