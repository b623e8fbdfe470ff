"""How well small-sample inference keeps its promises: a simulation study."""
