"""What the facade's bodies and answers look like, as pydantic models, one module for each topic."""
