"""What the broker does for each API: one module an API, of the API's name, with a function ``handle``. See dispatch."""
