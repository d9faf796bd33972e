"""The Dash app, its REST API, the engine process behind it and the command line."""
