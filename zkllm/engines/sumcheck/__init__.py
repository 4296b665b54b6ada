"""A proof system of sumchecks, lookups and one Reed-Solomon commitment; see `docs/protocol.md`."""
