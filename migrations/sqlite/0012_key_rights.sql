-- expires: the first instant at which the key is not valid any more; NULL: it does not expire. scopes: those that it was given, with spaces
-- between them; NULL: all of its role. last_used: the beginning of the clock hour in which it was last shown.
ALTER TABLE api_keys ADD COLUMN expires INTEGER;
ALTER TABLE api_keys ADD COLUMN scopes TEXT;
ALTER TABLE api_keys ADD COLUMN last_used INTEGER;

-- What is known of the time before: windows in which something was charged.
UPDATE api_keys SET last_used =
    (SELECT MAX(window_start) / 3600000 * 3600000 FROM allowances WHERE allowances.api_key = api_keys.id);
