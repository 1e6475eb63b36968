"""Named queries: kept in the store, answered over what their asker may see."""
