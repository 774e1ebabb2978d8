"""Session state in Redis, sealed, every write fenced by an epoch. The only room with redis."""
