"""How the levels of a factor are related: pedigrees, neighbours, places."""
