-- Deletes of packages' objects that are still to be sent to the broker: the text of each message. A row goes when the broker has the message,
-- which may be sent twice.
CREATE TABLE pending_deletes (message TEXT PRIMARY KEY NOT NULL) STRICT;
