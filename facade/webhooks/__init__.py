"""Webhooks: changes of the list and alarms, signed and sent to receivers by Standard Webhooks."""
