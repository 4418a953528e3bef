"""A bookshop: an app with a database, an HTTP client, and jobs that use both."""
