-- options: JSON, what was chosen beside formats and layout. about: JSON, what the package says about itself, frozen when it was asked for;
-- null for packages that were asked for before they described themselves.
ALTER TABLE packages ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
ALTER TABLE packages ADD COLUMN about TEXT NOT NULL DEFAULT 'null';

-- Random bytes that all processes of one installation share; whoever needs a secret first makes it.
CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
