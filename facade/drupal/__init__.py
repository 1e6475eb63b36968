"""The list and a Drupal site kept alike, over JSON:API."""
