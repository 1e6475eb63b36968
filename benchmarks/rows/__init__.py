"""The rows of the table: every module in this folder is loaded and registers its own."""
