"""What a fleet costs its store, and where the store ends: parameters, model, remedies."""
