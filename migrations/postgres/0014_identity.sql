-- Tells this database from others: the object store says which one it belongs to. A copy, and so a restored backup, has the same value.
CREATE TABLE identity (
    value TEXT NOT NULL
);

INSERT INTO identity (value) VALUES (replace(CAST(gen_random_uuid() AS TEXT), '-', ''));
