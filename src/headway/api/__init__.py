"""The verbs as functions: typed parameters, frozen results, no printing. Importing them imports no torch."""
