-- What a key may use in one window: documents a day, requests a minute. NULL: unlimited.
CREATE TABLE role_limits (
    role TEXT PRIMARY KEY,
    documents INTEGER,
    requests INTEGER
) STRICT, WITHOUT ROWID;

INSERT INTO role_limits (role, documents, requests) VALUES
    ('miner', NULL, 6000), ('packager', NULL, NULL), ('operator', NULL, NULL);

-- A key's own limits go before those of its role: `quota` documents a day, `per_minute` requests. NULL: as its role; -1: unlimited.
ALTER TABLE api_keys ADD COLUMN per_minute INTEGER;

-- taken: how much of a window (it begins at window_start) is used or leased to processes; the rest is there for the taking. held: how much of
-- that lies in leases, and may come back until held_until. granted: what the last statement gave out.
CREATE TABLE allowances (
    api_key INTEGER NOT NULL REFERENCES api_keys (id),
    kind TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    taken INTEGER NOT NULL,
    held INTEGER NOT NULL DEFAULT 0,
    held_until INTEGER NOT NULL DEFAULT 0,
    granted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (api_key, kind, window_start)
) STRICT, WITHOUT ROWID;

INSERT INTO allowances (api_key, kind, window_start, taken)
    SELECT api_key, 'documents', day * 86400000, documents FROM key_usage;

DROP TABLE key_usage;

-- Whether the package's documents were charged to its owner. Until now all were that were not dismissed before they were sent.
ALTER TABLE packages ADD COLUMN paid INTEGER NOT NULL DEFAULT 0;

UPDATE packages SET paid = 1 WHERE sent IS NOT NULL OR status <> 'dismissed';

-- Use by month (as 2026-11), in the terms of COUNTER; api_key is 0 where no key was shown.
CREATE TABLE usage_counts (
    month TEXT NOT NULL,
    collection INTEGER NOT NULL REFERENCES collections (id),
    api_key INTEGER NOT NULL,
    metric TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (month, collection, api_key, metric)
) STRICT, WITHOUT ROWID;
