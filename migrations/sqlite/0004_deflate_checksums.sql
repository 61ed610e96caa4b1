-- CRC-32 of the deflate stream in a stored gzip member. NULL where nothing is deflated, and for files that were imported before this.
ALTER TABLE files ADD COLUMN deflate_crc32 INTEGER;
