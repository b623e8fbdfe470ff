"""From the caller's data to arrays: formulas, checks, encoding of rows."""
