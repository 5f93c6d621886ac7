"""Programs with a mistake, and the sessions that find it."""
