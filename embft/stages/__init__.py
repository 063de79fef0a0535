"""One module per stage: inputs → result. Wiring only; the work is in the packages."""
