"""HTTP as the whole facade speaks it: operations, parameters, bodies, errors, headers, metrics."""
