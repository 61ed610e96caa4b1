-- A random value (16 hexadecimal digits) that stands beside the id in the keys of objects, in messages and in links: a restored database gives
-- the ids of lost rows again. NULL: the row is older than this, and what belongs to it is named by its id alone.
ALTER TABLE packages ADD COLUMN salt TEXT;
ALTER TABLE shares ADD COLUMN salt TEXT;
