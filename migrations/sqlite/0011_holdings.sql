-- Document versions that were charged to a key on a day (when it begins): what is read again on that day, by whatever process, is not charged
-- again. Rows of past days are removed.
CREATE TABLE charges (
    day INTEGER NOT NULL,
    api_key INTEGER NOT NULL REFERENCES api_keys (id),
    format TEXT NOT NULL,
    document INTEGER NOT NULL,
    PRIMARY KEY (day, api_key, format, document)
) STRICT, WITHOUT ROWID;

-- What a key may have at one time. NULL: unlimited.
CREATE TABLE role_holdings (
    role TEXT PRIMARY KEY,
    docsets INTEGER,
    packages INTEGER,
    unfinished INTEGER,
    stored_bytes INTEGER
) STRICT, WITHOUT ROWID;

INSERT INTO role_holdings (role, docsets, packages, unfinished, stored_bytes) VALUES
    ('miner', 10000, 1000, 20, 1099511627776), ('packager', NULL, NULL, NULL, NULL), ('operator', NULL, NULL, NULL, NULL);

-- A key's own limits go before those of its role. NULL: as its role; -1: unlimited.
CREATE TABLE key_holdings (
    api_key INTEGER PRIMARY KEY REFERENCES api_keys (id),
    docsets INTEGER,
    packages INTEGER,
    unfinished INTEGER,
    stored_bytes INTEGER
) STRICT;

CREATE INDEX packages_held ON packages (owner) WHERE status IN ('accepted', 'running') OR content = 'available';

-- pay_later: it was asked for by a GET, and is charged when it is fetched first. given_up: when its owner dismissed or deleted it.
ALTER TABLE packages ADD COLUMN pay_later INTEGER NOT NULL DEFAULT 0;
ALTER TABLE packages ADD COLUMN given_up INTEGER;

CREATE INDEX packages_pay_later ON packages (owner, created) WHERE pay_later = 1 AND paid = 0;

-- Docsets that their owners have deleted, and that stay for packages of other keys until these expire. Not a column of docsets: it would lie
-- behind the members.
CREATE TABLE deleted_docsets (
    docset INTEGER PRIMARY KEY REFERENCES docsets (id) ON DELETE CASCADE,
    deleted INTEGER NOT NULL
) STRICT;
