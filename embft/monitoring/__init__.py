"""The champion on fresh clicks, the rules that say when it has got worse, and what people are told."""
