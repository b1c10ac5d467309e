"""A page a person reads, made from the plain dict that `schema.json` describes."""
